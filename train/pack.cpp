#include "train/pack.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/augment.hpp"
#include "train/tar.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kJudgedSize = 64;   // near-gray is judged on the middle square shrunk to this
constexpr int64_t kBlockPhotos = 64;  // read at a time, whatever the number of threads

// What one thread finds out about one photo.
struct Judged {
    std::string corrupt;  // the reason; empty: it could be read
    size_t hash = 0;      // of the decoded pixels: the same photo saved under two names
    bool near_gray = false;
    std::vector<uint8_t> packed;  // PPM, when it is wanted
};

Judged judge(const Dataset& dataset, int64_t index, int64_t pack_size) {
    Judged result;
    try {
        Photo photo = dataset.read(index);
        const std::vector<uint8_t>& bytes = photo.image.bytes;
        result.hash = std::hash<std::string_view>{}(
            {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        if (pack_size > 0) result.packed = encode(shrink(photo.image, pack_size), Format::ppm);
        photo = working_copy(std::move(photo), {.size = kJudgedSize});
        result.near_gray = centre_crop(photo, kJudgedSize).near_gray;
    } catch (const InputError& error) {
        result.corrupt = error.what();
    }
    return result;
}

using Usable = std::function<void(int64_t index, std::vector<uint8_t> packed)>;

ScanCounts scan(const Dataset& dataset, const Exec& exec, const ScanListener& listener,
                int64_t pack_size, const Usable& usable) {
    ScanCounts counts;
    std::unordered_map<size_t, int64_t> seen;
    std::vector<Judged> block;
    const int64_t size = dataset.size();
    for (int64_t begin = 0; begin < size; begin += kBlockPhotos) {
        if (listener.progress) listener.progress(begin);
        const int64_t count = std::min(kBlockPhotos, size - begin);
        block.assign(static_cast<size_t>(count), {});
        parallel_for(exec, count, [&](int64_t i) {
            block[static_cast<size_t>(i)] = judge(dataset, begin + i, pack_size);
        });
        for (int64_t index = begin; Judged & photo : block) {
            const auto reject = [&](int64_t& counter, const std::string& reason) {
                ++counter;
                if (listener.rejected) listener.rejected(dataset.name(index), reason);
            };
            ++counts.images;
            if (!photo.corrupt.empty()) {
                reject(counts.corrupt, "corrupt: " + photo.corrupt);
            } else if (const auto [first, fresh] = seen.try_emplace(photo.hash, index); !fresh) {
                reject(counts.duplicate, "duplicate of " + dataset.name(first->second));
            } else if (photo.near_gray) {
                reject(counts.near_gray, "near gray");
            } else if (usable) {
                usable(index, std::move(photo.packed));
            }
            ++index;
        }
    }
    return counts;
}

// Throws InputError for a class that tar, or a shell after it, would not keep in its place.
void check_folder_name(const std::string& name) {
    constexpr size_t kMaxBytes = 150;
    bool right = name.size() <= kMaxBytes;
    for (const char c : name) right = right && static_cast<unsigned char>(c) >= ' ' && c != 127;
    for (size_t begin = 0; right && begin <= name.size();) {
        const size_t end = std::min(name.find('/', begin), name.size());
        const std::string_view part = std::string_view(name).substr(begin, end - begin);
        right = !part.empty() && part != "." && part != "..";
        begin = end + 1;
    }
    if (!right)
        throw InputError("class '" + name.substr(0, kMaxBytes) +
                         "' cannot be a folder of an archive; rename it");
}

// From "a/b.tar:sea/my photo.jpg" to "my_photo".
std::string stem_of(const std::string& name) {
    constexpr size_t kMaxBytes = 80;
    std::string stem = name.substr(name.rfind('/') + 1);
    if (const size_t dot = stem.rfind('.'); dot != stem.npos) stem.resize(dot);
    for (char& c : stem)
        if (static_cast<unsigned char>(c) <= ' ' || c == 127 || c == ':' || c == '\\') c = '_';
    if (stem.size() > kMaxBytes) {
        stem.resize(kMaxBytes);
        while (!stem.empty() && (stem.back() & 0xc0) == 0x80) stem.pop_back();  // UTF-8 cut apart
        if (!stem.empty() && (stem.back() & 0x80) != 0) stem.pop_back();
    }
    if (stem.empty() || stem[0] == '.') stem = "photo" + stem;  // not hidden
    return stem;
}

class ShardWriter {
  public:
    ShardWriter(const Dataset& dataset, const PackOptions& options, PackReport& report)
        : dataset_(dataset), options_(options), report_(report) {}

    void add(int64_t index, const std::vector<uint8_t>& bytes) {
        const int64_t size = TarWriter::member_bytes(static_cast<int64_t>(bytes.size()));
        if (shard_ && shard_->bytes() + size + kEndBytes > options_.shard_bytes) finish();
        if (!shard_) {
            const std::string number = std::to_string(report_.shards);
            const std::string name = "train-" + std::string(number.size() < 2, '0') + number;
            shard_ =
                std::make_unique<TarWriter>((fs::path(options_.out) / (name + ".tar")).string());
        }
        shard_->add(name(index), bytes);
        ++report_.packed;
    }
    void finish() {
        if (!shard_) return;
        shard_->finish();
        report_.bytes += shard_->bytes();
        ++report_.shards;
        shard_.reset();
    }

  private:
    static constexpr int64_t kEndBytes = 1024;  // the end-of-archive blocks

    std::string name(int64_t index) {
        const int64_t label = dataset_.label(index);
        const std::string start =
            (label < 0 ? "unlabeled" : dataset_.classes()[static_cast<size_t>(label)]) + "/" +
            stem_of(dataset_.name(index));
        std::string name = start;
        while (!used_.try_emplace(name, 1).second)
            name = start + "-" + std::to_string(++used_[start]);
        return name + ".ppm";
    }

    const Dataset& dataset_;
    const PackOptions& options_;
    PackReport& report_;
    std::unique_ptr<TarWriter> shard_;
    std::unordered_map<std::string, int64_t> used_;  // names, and the last number behind each
};

void prepare_folder(const std::string& out) {
    std::error_code error;
    fs::create_directories(out, error);
    if (error || !fs::is_directory(out, error))
        throw ResourceError(out + ": cannot create the folder: " + error.message());
    for (fs::directory_iterator it(out, error), end; !error && it != end; it.increment(error)) {
        const fs::path& path = it->path();
        if (path.extension() == ".tar" || path.filename() == "labels.txt")
            throw UsageError(path.string() + ": exists already; pack into another folder");
    }
    if (error) throw ResourceError(out + ": cannot list: " + error.message());
}

}  // namespace

ScanCounts scan(const Dataset& dataset, const Exec& exec, const ScanListener& listener) {
    return scan(dataset, exec, listener, 0, {});
}

PackReport pack(const Dataset& dataset, const PackOptions& options, const Exec& exec,
                const ScanListener& listener) {
    if (options.size < 1 || options.shard_bytes < 1)
        throw UsageError("pack: a size of " + std::to_string(options.size) + " and shards of " +
                         std::to_string(options.shard_bytes) + " bytes must be at least 1");
    std::string labels;
    for (const std::string& name : dataset.classes()) {
        check_folder_name(name);
        labels += name + "\n";
    }
    prepare_folder(options.out);
    PackReport report;
    ShardWriter shards(dataset, options, report);
    report.scan =
        scan(dataset, exec, listener, options.size,
             [&](int64_t index, const std::vector<uint8_t>& bytes) { shards.add(index, bytes); });
    shards.finish();
    if (report.packed == 0)
        throw InputError(options.out + ": none of the " + std::to_string(dataset.size()) +
                         " photos is usable");
    // Last: a folder without it was not finished.
    write_file_atomic((fs::path(options.out) / "labels.txt").string(),
                      {reinterpret_cast<const uint8_t*>(labels.data()), labels.size()}, false);
    return report;
}

}  // namespace lumachrome
