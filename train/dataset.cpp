#include "train/dataset.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "train/photo_list.hpp"
#include "train/scenes.hpp"
#include "train/tar.hpp"

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
    explicit TarSource(const std::string& path) : tar_(path) {}
    const TarReader& tar() const { return tar_; }
    std::string name(const Entry& entry) const override { return tar_.path() + ":" + entry.name; }
    Image read(const Entry& entry) const override {
        if (auto image = read_ppm(entry)) return std::move(*image);
        if (entry.bytes > DecodeLimits{}.max_bytes)
            throw InputError(name(entry) + ": larger than the limit of " +
                             std::to_string(DecodeLimits{}.max_bytes) + " bytes");
        std::vector<uint8_t> bytes(static_cast<size_t>(entry.bytes));
        tar_.read(entry.offset, bytes.data(), entry.bytes);
        return decode(bytes, name(entry));
    }

  private:
    // Straight to its place. nullopt: not a PPM, or one that the decoder has to judge.
    std::optional<Image> read_ppm(const Entry& entry) const {
        if (!entry.name.ends_with(".ppm")) return std::nullopt;
        uint8_t start[64];  // what `data pack` writes needs 20
        const int64_t count = std::min<int64_t>(sizeof start, entry.bytes);
        tar_.read(entry.offset, start, count);
        const auto header = pnm_header({start, static_cast<size_t>(count)}, name(entry));
        if (!header) return std::nullopt;
        const int64_t pixels = header->width * header->height * header->channels;
        if (pixels > entry.bytes - header->offset) return std::nullopt;
        Image image = Image::make(header->width, header->height, header->channels, 8);
        tar_.read(entry.offset + header->offset, image.bytes.data(), pixels);
        return image;
    }

    TarReader tar_;
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
        if (path.extension() == ".txt") return add_list(source);
        if (!has_photo_name(source))
            throw InputError(source + ": not a folder, .tar, .txt list or photo (" + kPhotoNames +
                             ")");
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
            // Beside others it is what training validates on.
            if (shards.size() > 1)
                std::erase_if(shards, [](const fs::path& p) { return p.filename() == "val.tar"; });
            std::sort(shards.begin(), shards.end());
            for (const fs::path& shard : shards) add_tar(shard);
            if (!shards.empty()) return;

            std::sort(children.begin(), children.end());
            for (const fs::path& child : children) {
                if (is_hidden(child)) continue;
                if (!fs::is_directory(child)) {
                    if (has_photo_name(child.string()))
                        entries_.push_back({files_, child.string()});
                    continue;
                }
                std::vector<std::string> photos;
                for (fs::recursive_directory_iterator file(child), end; file != end; ++file) {
                    const bool is_folder = file->is_directory();
                    if (is_folder && is_hidden(file->path())) file.disable_recursion_pending();
                    if (!is_folder && has_photo_name(file->path().string()))
                        photos.push_back(file->path().string());
                }
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

    static bool is_hidden(const fs::path& path) {
        const std::string name = path.filename().string();
        return name.starts_with('.') && name != ".";
    }

    void add_tar(const fs::path& path) {
        const auto source = std::make_shared<const TarSource>(path.string());
        for (TarMember& member : source->tar().members()) {
            std::string_view inside = member.name;
            if (inside.starts_with("./")) inside.remove_prefix(2);
            const fs::path parts(inside);
            if (!has_photo_name(member.name) || std::any_of(parts.begin(), parts.end(), is_hidden))
                continue;
            const std::string class_name(folder_class(inside));
            const int64_t label = class_of(class_name, path.string() + ":" + member.name);
            entries_.push_back(
                {source, std::move(member.name), member.offset, member.bytes, label});
        }
    }

    // The outermost folder, or more of the folders when the class list knows them as one class.
    std::string_view folder_class(std::string_view inside) const {
        const size_t first = inside.find('/');
        if (first == inside.npos) return "";
        for (size_t end = inside.rfind('/'); allowed_ && end > first && end != inside.npos;
             end = inside.rfind('/', end - 1))
            if (allowed_->count(inside.substr(0, end))) return inside.substr(0, end);
        return inside.substr(0, first);
    }

    void add_list(const std::string& path) {
        PhotoList list = read_photo_list(path);
        if (!list.class_list.empty()) fix_classes(list.classes, list.class_list);
        constexpr int64_t kNotMet = -2;
        std::vector<int64_t> labels(list.classes.size(), kNotMet);
        for (PhotoList::Photo& photo : list.photos) {
            int64_t label = -1;
            if (photo.class_index >= 0) {
                int64_t& known = labels[static_cast<size_t>(photo.class_index)];
                if (known == kNotMet)
                    known = class_of(list.classes[static_cast<size_t>(photo.class_index)], path);
                label = known;
            }
            entries_.push_back({files_, std::move(photo.path), 0, 0, label});
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
        if (fs::is_regular_file(path)) fix_classes(read_labels(path), path);
    }

    // The source in work has these classes and no others.
    void fix_classes(const std::vector<std::string>& names, const std::string& path) {
        allowed_.emplace(names.begin(), names.end());
        const std::set<std::string> known(classes_.begin(), classes_.end());
        for (const std::string& name : names)
            if (!known.count(name)) classes_.push_back(name);
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
        std::map<std::string_view, int64_t> place;
        for (size_t i = 0; i < classes_.size(); ++i)
            place.try_emplace(classes_[i], static_cast<int64_t>(i));
        std::vector<int64_t> final_label(found_.size());
        for (const auto& [name, provisional] : found_) {
            const auto at = place.find(name);
            if (at == place.end())
                throw InputError(provisional.second + ": class '" + name + "' is not one of the " +
                                 std::to_string(classes_.size()) + " known classes");
            final_label[static_cast<size_t>(provisional.first)] = at->second;
        }
        for (Entry& entry : entries_)
            if (entry.label >= 0) entry.label = final_label[static_cast<size_t>(entry.label)];
    }

    const std::shared_ptr<const Source> files_ = std::make_shared<const FileSource>();
    std::vector<Entry> entries_;
    // While opening: the source in work, its class list, and the classes met (sorted by name).
    std::string source_, list_path_;
    std::optional<std::set<std::string, std::less<>>> allowed_;
    std::map<std::string, std::pair<int64_t, std::string>> found_;
};

class Subset : public Dataset {
  public:
    Subset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices)
        : dataset_(std::move(dataset)), indices_(std::move(indices)) {
        for (const int64_t index : indices_)
            if (index < 0 || index >= dataset_->size())
                throw UsageError("subset: there is no photo " + std::to_string(index) +
                                 " in a dataset of " + std::to_string(dataset_->size()));
        classes_ = dataset_->classes();
    }
    int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
    Photo read(int64_t index) const override { return dataset_->read(at(index)); }
    std::string name(int64_t index) const override { return dataset_->name(at(index)); }
    int64_t label(int64_t index) const override { return dataset_->label(at(index)); }

  private:
    int64_t at(int64_t index) const { return indices_.at(static_cast<size_t>(index)); }
    std::shared_ptr<const Dataset> dataset_;
    std::vector<int64_t> indices_;
};

}  // namespace

std::shared_ptr<const Dataset> open_dataset(const std::vector<std::string>& sources, uint64_t seed,
                                            const std::vector<std::string>& classes) {
    return std::make_shared<const PhotoSet>(sources, seed, classes);
}

std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset,
                                      std::vector<int64_t> indices) {
    return std::make_shared<const Subset>(std::move(dataset), std::move(indices));
}

Split hold_out(std::shared_ptr<const Dataset> dataset, int64_t count) {
    const int64_t size = dataset->size();
    if (count < 1 || count >= size)
        throw UsageError("cannot hold out " + std::to_string(count) + " of " +
                         std::to_string(size) + " photos; at least one must be held out and one " +
                         "must be left to train on");
    std::vector<int64_t> training, validation;
    for (int64_t i = 0, index = 0; i < count; ++i) {
        // Multiples of the golden ratio, as a fraction of 2^32, fall evenly anywhere: taking the
        // same place of each stretch would meet one class only where the classes take turns.
        const int64_t begin = i * size / count, end = (i + 1) * size / count;
        const auto fraction = static_cast<uint32_t>(static_cast<uint64_t>(i + 1) * 0x9E3779B9u);
        const int64_t chosen =
            begin +
            static_cast<int64_t>((uint64_t{fraction} * static_cast<uint64_t>(end - begin)) >> 32);
        for (; index < end; ++index) (index == chosen ? validation : training).push_back(index);
    }
    return {subset(dataset, std::move(training)), subset(dataset, std::move(validation))};
}

}  // namespace lumachrome
