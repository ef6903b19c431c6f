// What the tests of the data walk share: photos made here, in a temp folder or in memory.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "image/codec.hpp"
#include "image/color.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/loader.hpp"
#include "train/scenes.hpp"

namespace lumachrome::fixtures {

namespace fs = std::filesystem;

using Bytes = std::vector<uint8_t>;

class Folder {
  public:
    Folder() {
        std::string pattern = (fs::temp_directory_path() / "lumachrome-data-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string operator/(const std::string& name) const { return (path_ / name).string(); }
    std::string path() const { return path_.string(); }
    void write(const std::string& name, const Bytes& bytes) const {
        fs::create_directories((path_ / name).parent_path());
        write_file_atomic(*this / name, bytes, true);
    }
    void write(const std::string& name, const std::string& text) const {
        write(name, Bytes(text.begin(), text.end()));
    }

  private:
    fs::path path_;
};

// Lossless, so that read photos can be compared.
inline Bytes png(const Image& image) {
    return encode(image, Format::png);
}
inline Bytes scene_png(uint32_t index) {
    return png(render_scene(index % 14, 32, 5, index));
}
inline Bytes gray_png() {
    Image image = Image::make(32, 32, 3, 8);
    std::fill(image.bytes.begin(), image.bytes.end(), uint8_t{90});
    return png(image);
}

inline constexpr size_t kBlock = 512;

inline void seal(uint8_t* header) {  // writes the checksum of a ustar header
    std::memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < kBlock; ++i) sum += header[i];
    std::snprintf(reinterpret_cast<char*>(header + 148), 8, "%06o", sum);
}

inline Bytes tar_member(const std::string& name, const Bytes& data, char type = '0') {
    Bytes member(kBlock + (data.size() + kBlock - 1) / kBlock * kBlock);
    std::memcpy(member.data(), name.data(), std::min<size_t>(name.size(), 100));
    std::snprintf(reinterpret_cast<char*>(member.data() + 124), 12, "%011zo", data.size());
    member[156] = static_cast<uint8_t>(type);
    std::memcpy(member.data() + 257,
                "ustar\0"
                "00",
                8);
    seal(member.data());
    std::copy(data.begin(), data.end(), member.begin() + kBlock);
    return member;
}

inline Bytes tar(const std::vector<Bytes>& members) {
    Bytes archive;
    for (const Bytes& member : members) archive.insert(archive.end(), member.begin(), member.end());
    archive.resize(archive.size() + 2 * kBlock);
    return archive;
}

template <class E>
std::string error_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const E& error) {
        return error.what();
    }
    return "";
}
inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

using Names = std::vector<std::string>;

inline Image flat(int64_t width, int64_t height, Rgb colour) {
    Image image = Image::make(width, height, 3, 8);
    for (int64_t i = 0; i < width * height; ++i) {
        image.bytes[static_cast<size_t>(3 * i)] = static_cast<uint8_t>(colour.r * 255);
        image.bytes[static_cast<size_t>(3 * i + 1)] = static_cast<uint8_t>(colour.g * 255);
        image.bytes[static_cast<size_t>(3 * i + 2)] = static_cast<uint8_t>(colour.b * 255);
    }
    return image;
}

inline bool same(const Batch& a, const Batch& b) {
    return bit_equal(a.luma, b.luma) && bit_equal(a.ab, b.ab) && a.labels == b.labels &&
           a.epoch == b.epoch && a.step == b.step;
}

// `count` photos in memory; the label is the index, `broken` ones are corrupt, `gray` ones gray.
class FakeSet : public Dataset {
  public:
    explicit FakeSet(int64_t count, std::set<int64_t> broken = {}, std::set<int64_t> gray = {})
        : count_(count), broken_(std::move(broken)), gray_(std::move(gray)) {}
    int64_t size() const override { return count_; }
    Photo read(int64_t index) const override {
        ++reads;
        std::this_thread::sleep_for(delay);
        if (index == fatal) throw std::runtime_error("the disk is on fire");
        if (broken_.count(index)) throw InputError(name(index) + ": damaged");
        if (gray_.count(index)) return {flat(32, 32, {.5, .5, .5}), index, name(index)};
        return {render_scene(index % 14, 32, 1, static_cast<uint32_t>(index)), index, name(index)};
    }
    std::string name(int64_t index) const override { return "photo " + std::to_string(index); }
    int64_t label(int64_t index) const override { return index; }

    int64_t fatal = -1;
    std::chrono::milliseconds delay{0};
    mutable std::atomic<int64_t> reads = 0;

  private:
    int64_t count_;
    std::set<int64_t> broken_, gray_;
};

inline constexpr AugmentSpec kSmall{.size = 16};

}  // namespace lumachrome::fixtures
