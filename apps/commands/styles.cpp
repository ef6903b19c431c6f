#include "apps/commands/styles.hpp"

#include <charconv>
#include <filesystem>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/sha256.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {
namespace {

constexpr size_t kHashDigits = 16;  // enough to tell files apart, and short in a message

// Of a photo, or of a file of the command `style`: told by its content.
Tensor style_in(const std::string& path, Colorizer& colorizer, int64_t max_pixels) {
    std::vector<uint8_t> bytes = read_file(path);
    if (is_tensor_file(bytes))
        return parse_style(std::move(bytes), path, colorizer.spec(), colorizer.weights_sha256());
    return colorizer.global_view(decode(bytes, path, {.max_pixels = max_pixels}, colorizer.exec()))
        .style;
}

// The file may change under its name. What can be read only once is left alone.
std::string with_content(const std::string& word) {
    const std::string file = parse_weighted(word).name;
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) return word;
    return word + " (sha256 " + sha256(read_file(file)).substr(0, kHashDigits) + ")";
}

}  // namespace

Weighted parse_weighted(const std::string& word) {
    const size_t colon = word.rfind(':');
    std::error_code ignored;
    if (colon == word.npos || std::filesystem::exists(word, ignored)) return {word};
    Weighted result{word.substr(0, colon)};
    const char *begin = word.data() + colon + 1, *end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(begin, end, result.weight);
    if (begin == end || stop != end || error != std::errc{}) return {word};
    if (!(result.weight >= 0 && result.weight <= 1)) throw UsageError(word + ": a weight is 0..1");
    return result;
}

void add_style_options(OptionTable& table, StyleOptions& options) {
    table
        .add("--style", options.styles,
             "Colours in the mood of another photo (repeatable), or of a file made by `style`; "
             "with a weight 0..1 it is mixed with the photo's own")
        .shown_as("PHOTO[:WEIGHT]")
        .keeps(with_content);
    table.add("--class", options.scene_class, "Colours as of this scene, one that `classify` names")
        .shown_as("NAME[:WEIGHT]");
}

void set_styles(ColorizeSettings& settings, const StyleOptions& options, Colorizer& colorizer,
                int64_t max_pixels) {
    for (const std::string& word : options.styles) {
        const Weighted style = parse_weighted(word);
        settings.styles.push_back({style_in(style.name, colorizer, max_pixels), style.weight});
    }
    if (options.scene_class.empty()) return;
    const Weighted scene = parse_weighted(options.scene_class);
    colorizer.class_index(scene.name);  // before the first of many photos
    settings.scene_class = scene.name;
    settings.scene_class_weight = scene.weight;
}

}  // namespace lumachrome
