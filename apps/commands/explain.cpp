#include <algorithm>
#include <filesystem>
#include <numeric>

#include "apps/commands/commands.hpp"
#include "apps/commands/explain_pictures.hpp"
#include "apps/commands/targets.hpp"
#include "image/codec.hpp"
#include "image/tone.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/augment.hpp"
#include "train/report/html.hpp"
#include "train/report/style.hpp"

namespace lumachrome {
namespace {

struct ExplainOptions : RunOptions {
    std::string photo, output, weights;
    int64_t max_pixels = 256'000'000;
    ColorizeSettings settings;
    bool overwrite = false;
};

constexpr int64_t kShownSide = 360;  // shorter side of the pictures
constexpr int64_t kChannels = 16, kChannelColumns = 8, kChannelSide = 128;
constexpr int64_t kAttention = 3;
constexpr size_t kScenes = 5;

constexpr const char* kExplainStyle = R"css(
.row{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:16px;margin-top:14px}
figure{margin:0}
.row img,.stage img{display:block;width:100%;height:auto;border-radius:4px}
.row figcaption{padding:6px 2px 0}
.stage{padding:12px;margin-top:12px}
.stage h3 small{font-weight:400;color:var(--soft)}
.stage img{margin-top:8px}
)css";

std::string figure(const Image& picture, const std::string& caption) {
    return "<figure><img alt=\"" + escape_html(caption) + "\" src=\"data:image/jpeg;base64," +
           base64(encode(picture, Format::jpeg, 88)) + "\"><figcaption>" + escape_html(caption) +
           "</figcaption></figure>\n";
}

std::string section(const std::string& title, const std::string& text, const std::string& body) {
    return "<h2>" + title + "</h2>\n<p class=note>" + text + "</p>\n" + body;
}

// The page's pictures show the photo at this size; the network sees it as colorize would.
Image shown(const Image& photo, const ColorizeSettings& settings) {
    const NetworkSize size = network_size(photo.height, photo.width, settings);
    return shrink(photo, std::max(kShownSide, std::min(size.height, size.width)));
}

std::string scene_table(const std::vector<SceneScore>& scene) {
    std::string rows;
    for (size_t i = 0; i < std::min(scene.size(), kScenes); ++i)
        rows += "<tr><th>" + escape_html(scene[i].label) + "</th><td>" +
                format_percent(scene[i].probability) + "</td></tr>\n";
    return "<div class=card><table>" + rows + "</table></div>\n";
}

std::string scene_section(const Image& photo, const std::vector<SceneScore>& scene,
                          const Explanation& explanation) {
    std::string pictures;
    for (size_t i = 0; i < explanation.attention.size(); ++i)
        pictures += figure(heat_picture(photo, explanation.attention[i].map),
                           "where it sees: " + scene[i].label);
    return section(
        "What scene it sees",
        "The class head reads the global features of a square copy of the photo. The pictures show "
        "which places speak for a scene (Grad-CAM of the last map of the global branch, red: "
        "most).",
        scene_table(scene) + "<div class=row>" + pictures + "</div>\n");
}

std::string fusion_section(Colorizer& colorizer, const Image& photo, const Explanation& explanation,
                           const ColorizeSettings& settings) {
    ColorizeSettings without = settings;
    PhotoFeatures features = colorizer.features(photo, settings);
    without.styles = {{Tensor::zeros(features.global.style.shape()), 1}};
    std::string pictures = figure(colorizer.colorize(photo, features, without).image,
                                  "colours of the local features alone");
    features.middle = Tensor::zeros(features.middle.shape());
    pictures += figure(colorizer.colorize(photo, features, settings).image,
                       "colours of the global features alone");
    const Tensor& share = explanation.global_share;
    const float* const values = share.data<float>();
    const double mean =
        std::accumulate(values, values + share.numel(), 0.0) / double(share.numel());
    pictures +=
        figure(heat_picture(photo, share), "share of the global features: red all, blue none");
    return section("Global against local",
                   "The fusion adds what each place looks like (local) and what the whole photo is "
                   "(global). On average the global features make up " +
                       format_percent(mean) + " of the sum here.",
                   "<div class=row>" + pictures + "</div>\n");
}

std::string other_scenes_section(Colorizer& colorizer, const Image& photo,
                                 const std::vector<SceneScore>& scene,
                                 const ColorizeSettings& settings) {
    const PhotoFeatures features = colorizer.features(photo, settings);
    std::string pictures;
    for (size_t i = 0; i < std::min(scene.size(), kScenes); ++i) {
        ColorizeSettings other = settings;
        other.scene_class = scene[i].label;
        pictures += figure(colorizer.colorize(photo, features, other).image,
                           "coloured as: " + scene[i].label);
    }
    return section("If it were another scene",
                   "The same photo with global features moved until the class head is sure of the "
                   "scene (colorize --class NAME).",
                   "<div class=row>" + pictures + "</div>\n");
}

std::string stage_section(const Explanation& explanation) {
    std::string stages;
    for (const Explanation::Stage& stage : explanation.stages) {
        std::vector<Image> maps;
        for (const Tensor& map : stage.strongest) maps.push_back(map_picture(map, kChannelSide));
        const Shape& s = stage.shape;
        stages +=
            "<div class=\"card stage\"><h3>" + escape_html(stage.name) + " <small>" +
            std::to_string(s[1]) + " x " + std::to_string(s[2]) + ", " + std::to_string(s[3]) +
            " channels, " + format_percent(stage.zero_share) + " zeros</small></h3>" +
            figure(grid_picture(maps, kChannelColumns), "the channels that vary most") + "</div>\n";
    }
    return section("Stage by stage",
                   "Each stage sees a larger part of the photo at a lower resolution: first edges "
                   "and tones, then textures, then things; the colour stages go the way back.",
                   stages);
}

std::string page(Colorizer& colorizer, const std::string& name, const Image& original,
                 const ColorizeSettings& settings) {
    const Image photo = shown(original, settings);
    const Colorized colored = colorizer.colorize(photo, settings);
    const Explanation explanation = colorizer.explain(photo, settings, kChannels, kAttention);
    std::string html = "<div class=row>" + figure(gray_picture(photo), "what the network gets") +
                       figure(colored.image, "its colours") +
                       figure(chroma_picture(colored.image), "its colours alone");
    if (tone_of(photo) == Tone::color) html += figure(photo, "the file");
    html += "</div>\n";
    if (colorizer.spec().has_class_head()) html += scene_section(photo, colored.scene, explanation);
    if (colorizer.has_styles()) html += fusion_section(colorizer, photo, explanation, settings);
    if (colorizer.spec().has_class_head())
        html += other_scenes_section(colorizer, photo, colored.scene, settings);
    html += stage_section(explanation);
    const std::string title = escape_html(name, 200);
    return "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
           "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n"
           "<meta http-equiv=Content-Security-Policy content=\"default-src 'none';img-src data:;"
           "style-src 'unsafe-inline'\">\n<title>" +
           title + " · lumachrome</title>\n<style>" + kReportStyle + kExplainStyle +
           "</style>\n</head>\n<body>\n<main>\n<h1>" + title +
           "</h1>\n<p class=\"soft lead\">How the network came to these colours, at " +
           format("%ld x %ld", long{colored.network_width}, long{colored.network_height}) +
           " pixels.</p>\n" + html + "<footer>Written by lumachrome explain.</footer>\n" +
           "</main>\n</body>\n</html>\n";
}

int run_explain(const ExplainOptions& options, Console& console) {
    check_sources({options.photo}, {options.output});
    check_overwrite(options.output, options.overwrite);  // before the work, not after it
    const Exec exec = exec_for(options, console);
    const Image photo = read_image(options.photo, {.max_pixels = options.max_pixels});
    Colorizer colorizer(options.weights.empty() ? default_model_path() : options.weights, exec);
    const std::string name =
        options.photo == "-" ? "A photo" : std::filesystem::path(options.photo).filename().string();
    const std::string html = page(colorizer, name, photo, options.settings);
    AtomicFile file(options.output, options.overwrite);
    file.write({reinterpret_cast<const uint8_t*>(html.data()), html.size()});
    file.commit();
    console.note(options.photo + " -> " + options.output);
    Json json;
    json.set("report", options.output);
    json.set("bytes", static_cast<int64_t>(html.size()));
    console.result(json);
    return 0;
}

}  // namespace

Command explain_command() {
    Command command({
        .name = "explain",
        .summary = "how the network came to a photo's colours",
        .description =
            "Writes a page with pictures: the scene and where it is seen, global against "
            "local features, every stage.",
        .examples = "  lumachrome explain grandma.jpg -o grandma.html",
    });
    ExplainOptions& options = command.runs(run_explain);
    add_run_options(command, options);
    command.add("PHOTO", options.photo, "A photo, or - for stdin").required();
    command.add("-o,--output", options.output, "The page (.html)").required();
    command.add("--max-pixels", options.max_pixels, "Refuse larger photos by their header")
        .at_least(1);
    add_weights_option(command, options.weights);
    add_size_option(command, options.settings);
    command.add("--overwrite", options.overwrite, "Replace an existing page");
    return command;
}

}  // namespace lumachrome
