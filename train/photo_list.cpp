#include "train/photo_list.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxIndex = 100'000;  // far above any set of scenes: a typo, not a class

// A text file and its lines without their ends, empty ones left out.
class Lines {
  public:
    struct Line {
        std::string_view text;
        int64_t number;  // from 1, as editors count
    };

    explicit Lines(const std::string& path) : path_(path), bytes_(read_file(path)) {
        std::string_view rest(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
        for (int64_t number = 1; !rest.empty(); ++number) {
            const size_t end = std::min(rest.find('\n'), rest.size());
            std::string_view text = rest.substr(0, end);
            rest.remove_prefix(std::min(end + 1, rest.size()));
            if (text.ends_with('\r')) text.remove_suffix(1);
            if (!text.empty()) lines_.push_back({text, number});
        }
    }
    auto begin() const { return lines_.begin(); }
    auto end() const { return lines_.end(); }
    size_t size() const { return lines_.size(); }
    InputError error(const Line& line, const std::string& rule) const {
        return InputError(path_ + ": line " + std::to_string(line.number) + ": " + rule);
    }

  private:
    std::string path_;
    std::vector<uint8_t> bytes_;
    std::vector<Line> lines_;
};

// "name 12" taken apart at its last blank.
struct Indexed {
    std::string_view name, index;
};

// nullopt: the line does not end in a blank and an integer.
std::optional<Indexed> split_index(std::string_view text) {
    while (text.ends_with(' ')) text.remove_suffix(1);
    const size_t blank = text.rfind(' ');
    if (blank == text.npos || blank == 0) return std::nullopt;
    const std::string_view index = text.substr(blank + 1);
    const std::string_view digits = index.substr(index.starts_with('-') ? 1 : 0);
    const bool integer = !digits.empty() && digits.find_first_not_of("0123456789") == digits.npos;
    std::string_view name = text.substr(0, blank);
    while (name.ends_with(' ')) name.remove_suffix(1);
    return integer && !name.empty() ? std::optional(Indexed{name, index}) : std::nullopt;
}

int64_t parse_index(const Lines& lines, const Lines::Line& line, std::string_view index) {
    int64_t value = 0;
    const auto parsed = std::from_chars(index.data(), index.data() + index.size(), value);
    if (parsed.ec != std::errc() || value < 0 || value > kMaxIndex)
        throw lines.error(line, "the class index " + std::string(index.substr(0, 24)) +
                                    " is not in 0.." + std::to_string(kMaxIndex));
    return value;
}

// Class index -> name.
std::map<int64_t, std::string> read_categories(const std::string& path) {
    const Lines lines(path);
    std::map<int64_t, std::string> names;
    std::set<std::string> seen;
    for (const Lines::Line& line : lines) {
        const auto split = split_index(line.text);
        if (!split) throw lines.error(line, "must be a name, a blank and a class index");
        std::string_view name = split->name;
        if (name.size() > 3 && name[0] == '/' && name[2] == '/')
            name.remove_prefix(3);
        else if (name.starts_with('/'))
            name.remove_prefix(1);
        const int64_t index = parse_index(lines, line, split->index);
        if (name.empty()) throw lines.error(line, "the class has no name");
        if (!seen.insert(std::string(name)).second)
            throw lines.error(line, "lists '" + std::string(name) + "' twice");
        if (!names.emplace(index, name).second)
            throw lines.error(line, "lists index " + std::to_string(index) + " twice");
    }
    return names;
}

// The class list beside a list of photos; empty: there is none.
std::string find_categories(const fs::path& list) {
    const fs::path folder = list.parent_path().empty() ? "." : list.parent_path();
    std::vector<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (name == "categories_places365.txt") return (list.parent_path() / name).string();
        if (name.starts_with("categories") && name.ends_with(".txt") &&
            name != list.filename().string())
            found.push_back(list.parent_path() / name);
    }
    if (found.size() > 1)
        throw InputError(list.string() + ": beside it lie several lists of classes, " +
                         std::min(found[0], found[1]).filename().string() + " and " +
                         std::max(found[0], found[1]).filename().string() + "; keep one");
    if (found.size() == 1) return found[0].string();
    const fs::path labels = list.parent_path() / "labels.txt";
    return fs::is_regular_file(labels, error) && labels != list ? labels.string() : "";
}

// What a line of a Places list calls `path`.
std::string resolve(const fs::path& list, std::string_view path) {
    if (!path.starts_with('/')) return (list.parent_path() / path).string();
    std::error_code error;
    if (fs::exists(fs::path(path), error)) return std::string(path);
    return (list.parent_path() / path.substr(std::min(path.find_first_not_of('/'), path.size())))
        .string();
}

PhotoList read_places_list(const fs::path& path, const Lines& lines) {
    PhotoList list;
    list.class_list = find_categories(path);
    std::map<int64_t, std::string> names;
    if (list.class_list.ends_with("labels.txt"))
        for (std::string& name : read_labels(list.class_list))
            names.emplace(static_cast<int64_t>(names.size()), std::move(name));
    else if (!list.class_list.empty())
        names = read_categories(list.class_list);

    std::map<int64_t, int64_t> place;  // of a class index in list.classes
    for (auto& [index, name] : names) {
        place.emplace(index, static_cast<int64_t>(list.classes.size()));
        list.classes.push_back(name);
    }
    for (const Lines::Line& line : lines) {
        const Indexed split = *split_index(line.text);
        const int64_t index = parse_index(lines, line, split.index);
        auto known = place.find(index);
        if (known == place.end()) {
            if (!list.class_list.empty())
                throw lines.error(line, "the class index " + std::to_string(index) + " is not in " +
                                            list.class_list);
            const std::string digits = std::to_string(index);
            known = place.emplace(index, static_cast<int64_t>(list.classes.size())).first;
            list.classes.push_back(std::string(6 - digits.size(), '0') + digits);
        }
        list.photos.push_back({resolve(path, split.name), known->second});
    }
    return list;
}

PhotoList read_plain_list(const fs::path& path, const Lines& lines) {
    PhotoList list;
    std::map<std::string_view, int64_t> place;
    for (const Lines::Line& line : lines) {
        const size_t tab = std::min(line.text.find('\t'), line.text.size());
        const std::string_view name = line.text.substr(std::min(tab + 1, line.text.size()));
        int64_t index = -1;
        if (!name.empty()) {
            const auto [known, fresh] =
                place.try_emplace(name, static_cast<int64_t>(list.classes.size()));
            if (fresh) list.classes.emplace_back(name);
            index = known->second;
        }
        list.photos.push_back({(path.parent_path() / line.text.substr(0, tab)).string(), index});
    }
    return list;
}

}  // namespace

PhotoList read_photo_list(const std::string& path) {
    const Lines lines(path);
    // Judged by all lines; one cut short, as an interrupted copy leaves it, must not turn the
    // others into names of files.
    size_t indexed = 0;
    bool sure = false, tabs = false;
    const Lines::Line* other = nullptr;
    for (const Lines::Line& line : lines) {
        const auto split = split_index(line.text);
        tabs = tabs || line.text.find('\t') != line.text.npos;
        if (split)
            ++indexed, sure = sure || has_photo_name(std::string(split->name));
        else if (!other)
            other = &line;
    }
    if (tabs) return read_plain_list(path, lines);
    if (indexed > 0 && indexed == lines.size()) return read_places_list(path, lines);
    if (sure) throw lines.error(*other, "must end in a blank and a class index, as others do");
    return read_plain_list(path, lines);
}

std::vector<std::string> read_labels(const std::string& path) {
    const Lines lines(path);
    std::vector<std::string> names;
    std::set<std::string_view> seen;
    for (const Lines::Line& line : lines) {
        if (!seen.insert(line.text).second)
            throw lines.error(line, "lists '" + std::string(line.text) + "' twice");
        names.emplace_back(line.text);
    }
    return names;
}

}  // namespace lumachrome
