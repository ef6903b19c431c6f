#include "train/dataset.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/scenes.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnlabeled = "unlabeled";

class Source;

// Where one photo lies: `name` within its source, and the bytes there when it is an archive.
struct Entry {
    std::shared_ptr<const Source> source;
    std::string name;
    int64_t offset = 0, bytes = 0;
    int64_t label = -1;
};

class Source {
  public:
    virtual ~Source() = default;
    virtual std::string name(const Entry& entry) const = 0;
    virtual Image read(const Entry& entry) const = 0;
};

class FileSource : public Source {
  public:
    std::string name(const Entry& entry) const override { return entry.name; }
    Image read(const Entry& entry) const override { return read_image(entry.name); }
};

class TarSource : public Source {
  public:
    explicit TarSource(std::string path) : path_(std::move(path)) {
        fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd_ < 0) throw InputError(path_ + ": cannot open: " + std::strerror(errno));
        struct stat info {};
        if (::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode)) {
            size_ = info.st_size;
            return;
        }
        ::close(fd_);
        throw InputError(path_ + ": an archive must be a regular file");
    }
    ~TarSource() override { ::close(fd_); }
    TarSource(const TarSource&) = delete;
    TarSource& operator=(const TarSource&) = delete;

    const std::string& path() const { return path_; }
    int64_t size() const { return size_; }
    std::string name(const Entry& entry) const override { return path_ + ":" + entry.name; }
    Image read(const Entry& entry) const override {
        std::vector<uint8_t> bytes(static_cast<size_t>(entry.bytes));
        read_at(entry.offset, bytes.data(), entry.bytes);
        return decode(bytes, name(entry));
    }

    // pread has no shared position, so threads need no lock.
    void read_at(int64_t offset, uint8_t* out, int64_t count) const {
        while (count > 0) {
            const ssize_t got = ::pread(fd_, out, static_cast<size_t>(count), offset);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) throw damaged(offset, std::string("cannot read: ") + std::strerror(errno));
            if (got == 0) throw damaged(offset, "the file has become shorter");
            out += got, offset += got, count -= got;
        }
    }
    InputError damaged(int64_t offset, const std::string& rule) const {
        return InputError(path_ + ": at byte " + std::to_string(offset) + ": " + rule);
    }

  private:
    std::string path_;
    int fd_ = -1;
    int64_t size_ = 0;
};

class SceneSource : public Source {
  public:
    SceneSource(uint64_t seed, int64_t side) : seed_(seed), side_(side) {}
    std::string name(const Entry& entry) const override {
        return "scene " + std::to_string(entry.offset);
    }
    Image read(const Entry& entry) const override {
        return render_scene(entry.offset % scene_count(), side_, seed_,
                            static_cast<uint32_t>(entry.offset));
    }
    static int64_t scene_count() { return static_cast<int64_t>(scene_names().size()); }

  private:
    uint64_t seed_;
    int64_t side_;
};

bool is_photo(const fs::path& path) {
    std::string extension = path.extension().string();
    for (char& c : extension)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return !path.filename().string().starts_with('.') &&
           (extension == ".jpg" || extension == ".jpeg" || extension == ".png");
}

// Lines without their ends, empty ones left out.
std::vector<std::string> read_lines(const std::string& path) {
    const std::vector<uint8_t> bytes = read_file(path);
    std::vector<std::string> lines(1);
    for (const uint8_t byte : bytes)
        if (byte == '\n')
            lines.emplace_back();
        else if (byte != '\r')
            lines.back().push_back(static_cast<char>(byte));
    std::erase(lines, std::string());
    return lines;
}

// --- ustar -------------------------------------------------------------------------------------
// Header fields by byte offset (IEEE 1003.1, pax "ustar Interchange Format"): name 0..99, size
// 124..135, checksum 148..155, type 156, magic 257..262, prefix 345..499; numbers are octal digits.

constexpr int64_t kTarBlock = 512;
using TarHeader = std::array<uint8_t, kTarBlock>;

// nullopt: not an octal number (a sign, base-256, nothing at all).
std::optional<int64_t> octal(std::span<const uint8_t> field) {
    size_t i = 0;
    while (i < field.size() && field[i] == ' ') ++i;
    const size_t first = i;
    int64_t value = 0;  // at most 12 digits: 36 bits
    for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i)
        value = value * 8 + (field[i] - '0');
    const bool ended = i == field.size() || field[i] == 0 || field[i] == ' ';
    return i > first && ended ? std::optional(value) : std::nullopt;
}

// Ends at a NUL, or with the field (ustar). Control characters become '?': names end up in one-line
// messages.
std::string text(std::span<const uint8_t> field) {
    std::string result(field.begin(), std::find(field.begin(), field.end(), 0));
    for (char& c : result)
        if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
    return result;
}

struct TarMember {
    std::string name;
    int64_t offset, bytes;
};

// The photos of an archive. Extended headers (pax, GNU) are passed over: the plain header's name
// and size count.
std::vector<TarMember> index_tar(const TarSource& tar) {
    std::vector<TarMember> members;
    for (int64_t offset = 0;;) {
        if (tar.size() - offset < kTarBlock)
            throw tar.damaged(offset, "the archive ends without an end-of-archive block");
        TarHeader header;
        tar.read_at(offset, header.data(), kTarBlock);
        const std::span<const uint8_t> all(header);
        if (std::all_of(all.begin(), all.end(), [](uint8_t byte) { return byte == 0; }))
            return members;

        if (!std::equal(all.begin() + 257, all.begin() + 262, "ustar"))
            throw tar.damaged(offset, "not a ustar header");
        int64_t sum = 8 * ' ';  // the checksum counts its own field as blanks
        for (size_t i = 0; i < all.size(); ++i) sum += i < 148 || i >= 156 ? all[i] : 0;
        if (octal(all.subspan(148, 8)) != sum)
            throw tar.damaged(offset, "the header's checksum is not " + std::to_string(sum));
        const auto size = octal(all.subspan(124, 12));
        if (!size) throw tar.damaged(offset, "the size is not an octal number");
        const uint8_t type = header[156];
        const bool has_data = type < '1' || type > '6';  // links, devices, folders have none
        const int64_t data = offset + kTarBlock, room = tar.size() - data;
        if (has_data && *size > room)
            throw tar.damaged(offset, "a member of " + std::to_string(*size) + " bytes, but only " +
                                          std::to_string(room) + " follow");
        std::string name = text(all.subspan(0, 100));
        if (header[262] == 0) {  // old GNU archives have blanks here and other uses for the prefix
            const std::string prefix = text(all.subspan(345, 155));
            if (!prefix.empty()) name = prefix + "/" + name;
        }
        if ((type == '0' || type == 0) && is_photo(name))
            members.push_back({std::move(name), data, *size});
        offset = data + (has_data ? (*size + kTarBlock - 1) / kTarBlock * kTarBlock : 0);
    }
}

// --- the set -----------------------------------------------------------------------------------

class PhotoSet : public Dataset {
  public:
    PhotoSet(const std::vector<std::string>& sources, uint64_t seed,
             const std::vector<std::string>& classes) {
        for (const std::string& source : sources) {
            const size_t before = entries_.size();
            allowed_.reset();
            source_ = source;
            add(source, seed);
            if (entries_.size() == before) throw InputError(source + ": holds no photo");
        }
        if (entries_.empty()) throw UsageError("no source of photos is named");
        settle_classes(classes);
    }

    int64_t size() const override { return static_cast<int64_t>(entries_.size()); }
    Photo read(int64_t index) const override {
        const Entry& entry = at(index);
        return {entry.source->read(entry), entry.label, entry.source->name(entry)};
    }
    std::string name(int64_t index) const override { return at(index).source->name(at(index)); }
    int64_t label(int64_t index) const override { return at(index).label; }

  private:
    const Entry& at(int64_t index) const { return entries_.at(static_cast<size_t>(index)); }

    void add(const std::string& source, uint64_t seed) {
        if (source.starts_with("scenes:")) return add_scenes(source, seed);
        const fs::path path(source);
        std::error_code error;
        const fs::file_status status = fs::status(path, error);
        if (!fs::exists(status)) throw InputError(source + ": no such file or folder");
        if (fs::is_directory(status)) return add_folder(path);
        if (path.extension() == ".tar") {
            read_class_list(path.parent_path());
            return add_tar(path);
        }
        if (path.extension() == ".txt") return add_list(path);
        if (!is_photo(path))
            throw InputError(source +
                             ": not a folder, .tar, .txt list or photo (.jpg, .jpeg, .png)");
        entries_.push_back({files_, source});
    }

    void add_folder(const fs::path& folder) {
        std::vector<fs::path> children, shards, train_shards;
        try {
            for (const auto& child : fs::directory_iterator(folder)) {
                const std::string name = child.path().filename().string();
                if (name.starts_with('.')) continue;
                children.push_back(child.path());
                if (child.path().extension() != ".tar") continue;
                shards.push_back(child.path());
                if (name.starts_with("train-")) train_shards.push_back(child.path());
            }
            read_class_list(folder);
            if (!train_shards.empty()) shards = train_shards;
            std::sort(shards.begin(), shards.end());
            for (const fs::path& shard : shards) add_tar(shard);
            if (!shards.empty()) return;

            std::sort(children.begin(), children.end());
            for (const fs::path& child : children) {
                if (!fs::is_directory(child)) {
                    if (is_photo(child)) entries_.push_back({files_, child.string()});
                    continue;
                }
                std::vector<std::string> photos;
                for (const auto& file : fs::recursive_directory_iterator(child))
                    if (is_photo(file.path()) && !file.is_directory())
                        photos.push_back(file.path().string());
                std::sort(photos.begin(), photos.end());
                for (std::string& photo : photos) {
                    const int64_t label = class_of(child.filename().string(), photo);
                    entries_.push_back({files_, std::move(photo), 0, 0, label});
                }
            }
        } catch (const fs::filesystem_error& error) {
            throw InputError(folder.string() + ": cannot list: " + error.code().message());
        }
    }

    void add_tar(const fs::path& path) {
        const auto tar = std::make_shared<const TarSource>(path.string());
        for (TarMember& member : index_tar(*tar)) {
            std::string_view inside = member.name;
            if (inside.starts_with("./")) inside.remove_prefix(2);
            const size_t slash = inside.find('/');
            const std::string class_name(slash == inside.npos ? "" : inside.substr(0, slash));
            const int64_t label = class_of(class_name, path.string() + ":" + member.name);
            entries_.push_back({tar, std::move(member.name), member.offset, member.bytes, label});
        }
    }

    void add_list(const fs::path& path) {
        for (const std::string& line : read_lines(path.string())) {
            const size_t tab = line.find('\t');
            const std::string class_name = tab == line.npos ? "" : line.substr(tab + 1);
            const fs::path photo = path.parent_path() / line.substr(0, tab);
            entries_.push_back({files_, photo.string(), 0, 0, class_of(class_name, path.string())});
        }
    }

    void add_scenes(const std::string& source, uint64_t seed) {
        int64_t count = 0, side = 128;
        const char *at = source.data() + std::strlen("scenes:"),
                   *end = source.data() + source.size();
        auto parsed = std::from_chars(at, end, count);
        bool right = parsed.ec == std::errc();
        if (right && parsed.ptr != end && *parsed.ptr == ':') {
            parsed = std::from_chars(parsed.ptr + 1, end, side);
            right = parsed.ec == std::errc();
        }
        if (!right || parsed.ptr != end || count < 1 || count > 100'000'000 || side < 16 ||
            side > 4096)
            throw UsageError(source +
                             ": must be scenes:N or scenes:N:SIZE, N 1..100000000, SIZE "
                             "16..4096");
        const auto scenes = std::make_shared<const SceneSource>(seed, side);
        for (int64_t i = 0; i < count; ++i) {
            const auto& name = scene_names()[static_cast<size_t>(i % SceneSource::scene_count())];
            entries_.push_back({scenes, "", i, 0, class_of(name, source)});
        }
    }

    void read_class_list(const fs::path& folder) {
        const std::string path = (folder / "labels.txt").string();
        if (!fs::is_regular_file(path)) return;
        allowed_.emplace();
        for (const std::string& name : read_lines(path)) {
            if (!allowed_->insert(name).second)
                throw InputError(path + ": lists '" + name + "' twice");
            if (std::find(classes_.begin(), classes_.end(), name) == classes_.end())
                classes_.push_back(name);
        }
        list_path_ = path;
    }

    // A provisional label, in order of appearance.
    int64_t class_of(const std::string& name, const std::string& where) {
        if (name.empty() || name == kUnlabeled) return -1;
        if (allowed_ && !allowed_->count(name))
            throw InputError(where + ": class '" + name + "' is not in " + list_path_);
        const auto [found, fresh] =
            found_.try_emplace(name, static_cast<int64_t>(found_.size()), source_);
        return found->second.first;
    }

    void settle_classes(const std::vector<std::string>& wanted) {
        if (!wanted.empty()) {
            classes_ = wanted;
        } else {
            const std::set<std::string> listed(classes_.begin(), classes_.end());
            for (const auto& [name, provisional] : found_)
                if (!listed.count(name)) classes_.push_back(name);
        }
        std::vector<int64_t> final_label(found_.size());
        for (const auto& [name, provisional] : found_) {
            const auto at = std::find(classes_.begin(), classes_.end(), name);
            if (at == classes_.end())
                throw InputError(provisional.second + ": class '" + name + "' is not one of the " +
                                 std::to_string(classes_.size()) + " known classes");
            final_label[static_cast<size_t>(provisional.first)] = at - classes_.begin();
        }
        for (Entry& entry : entries_)
            if (entry.label >= 0) entry.label = final_label[static_cast<size_t>(entry.label)];
    }

    const std::shared_ptr<const Source> files_ = std::make_shared<const FileSource>();
    std::vector<Entry> entries_;
    // While opening: the source in work, its class list, and the classes met (sorted by name).
    std::string source_, list_path_;
    std::optional<std::set<std::string>> allowed_;
    std::map<std::string, std::pair<int64_t, std::string>> found_;
};

}  // namespace

std::shared_ptr<const Dataset> open_dataset(const std::vector<std::string>& sources, uint64_t seed,
                                            const std::vector<std::string>& classes) {
    return std::make_shared<const PhotoSet>(sources, seed, classes);
}

}  // namespace lumachrome
