// A photo in, a colour photo out: the network with what surrounds it.
//
//   photo -> luma, shrunk to the network's size, mean subtracted -> ab at half that size
//         -> enlarged to full size along the photo's edges -> merged with the photo's own luma
//
// Rows pass through from top to bottom: of a tall photo neither floats nor the result are ever held
// as a whole.
//
// Walk 1, stop 1: photo -> PNG.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "image/rows.hpp"
#include "model/explain.hpp"
#include "model/infer/inference.hpp"
#include "model/state.hpp"
#include "model/style.hpp"

namespace lumachrome {

struct ColorizeSettings {
    int64_t size = 0;       // shorter side of the network's input, pixels; 0: auto
    bool full = false;      // the network runs at the photo's own size
    double saturation = 1;  // factor on the predicted chroma
    ChromaUpsampling upsampling = ChromaUpsampling::edge_aware;
    bool two_scale = false;  // tint from a pass at the automatic size (image/two_scale.hpp)
    int64_t max_memory = 0;  // bytes that the process may use; 0: no limit
    // The network as training runs it, with the definitions' loops; styles are computed as always.
    bool naive = false;
    std::vector<Style> styles = {};  // global features of other photos
    std::string scene_class = {};    // coloured as such a scene; empty: as what it is
    double scene_class_weight = 1;   // share, beside those of the styles
};

struct SceneScore {
    std::string label;
    double probability;
    int64_t index = 0;  // of the class
};

struct Colorization {
    int64_t network_width = 0, network_height = 0;
    std::vector<SceneScore> scene;  // most probable first; empty without a class head
    double network_milliseconds = 0;
};
// What the global branch says of a photo. Undefined and empty where the network has none.
struct GlobalView {
    Tensor style;                   // [1,G]
    Tensor semantics;               // [1,F]: what the class head reads
    std::vector<SceneScore> scene;  // empty without a class head
};
// All of a photo that does not depend on its style: computed once, coloured many times.
struct PhotoFeatures {
    int64_t network_width = 0, network_height = 0;
    Tensor middle;  // [1,H/8,W/8,M]
    GlobalView global;
    double network_milliseconds = 0;
};
struct Colorized : Colorization {
    Image image;  // size, depth and alpha of the photo; 3 or 4 channels
};

struct NetworkSize {
    int64_t height, width;  // multiples of 8
};
// Throws UsageError for a size outside 8..8192.
NetworkSize network_size(int64_t photo_height, int64_t photo_width,
                         const ColorizeSettings& settings);

class Colorizer {
  public:
    // Throws ModelError naming the file.
    Colorizer(const std::string& weights_path, const Exec& exec);
    Colorizer(std::unique_ptr<ColorNet> net, Metadata metadata, const Exec& exec);

    // Another with the same weights, for photos that are coloured at the same time: the network's
    // runs, on so many threads each, do not wait for each other. On the CPU.
    std::unique_ptr<Colorizer> twin(int threads);

    const Metadata& metadata() const { return metadata_; }
    const Spec& spec() const { return spec_; }
    const Exec& exec() const { return exec_; }
    // Throws ModelError without a class head, UsageError for a scene that it does not know.
    int64_t class_index(const std::string& label) const;
    std::string class_name(int64_t index) const;  // its number where the model names none
    bool has_styles() const { return spec_.use_global; }
    void require_styles() const;  // throws ModelError
    // Of the file that the weights come from. Computed when first asked for.
    const std::string& weights_sha256();

    // `rows` gets the result from top to bottom, rows of an image with the header merged(photo).
    // Throws ModelError when the network's output is not finite or when it knows no styles,
    // UsageError for an unknown class, ResourceError when the memory allowed is too little, perhaps
    // after some rows.
    Colorization colorize(const Image& photo, const ColorizeSettings& settings,
                          const ColorRows::Sink& rows);
    Colorized colorize(const Image& photo, const ColorizeSettings& settings = {});
    // Throws ModelError without a class head.
    std::vector<SceneScore> classify(const Image& photo);

    // The same in two halves, for many styles of one photo: of the settings, the first takes the
    // size, the second the rest but two_scale. Whole maps are kept, so memory grows with the size.
    PhotoFeatures features(const Image& photo, const ColorizeSettings& settings = {});
    Colorization colorize(const Image& photo, const PhotoFeatures& features,
                          const ColorizeSettings& settings, const ColorRows::Sink& rows);
    Colorized colorize(const Image& photo, const PhotoFeatures& features,
                       const ColorizeSettings& settings = {});
    // What the network does with the photo at that size, with maps of so many channels a stage, and
    // where it sees its `classes` most probable scenes. Eager, on the CPU.
    Explanation explain(const Image& photo, const ColorizeSettings& settings, int64_t channels,
                        int64_t classes);
    // Throws ModelError without a global branch.
    GlobalView global_view(const Image& photo);

  private:
    Colorizer(const Colorizer& other, const Exec& exec);
    // Rows of the colours [.,W/2,2] in 0..1 to `color`; returns the logits, undefined without a
    // class head or with a style [1,G], which takes the place of the photo's own.
    using ColorSink = std::function<void(const float* color, int64_t rows)>;
    Tensor run_network(const Image& photo, const NetworkSize& size, bool naive, const Tensor& style,
                       const ColorSink& color);
    Tensor run_naive(const Image& photo, const NetworkSize& size, const Tensor& style,
                     const ColorSink& color);
    Tensor run_on_gpu(const Image& photo, const NetworkSize& size, const Tensor& style,
                      const ColorSink& color);
    // ab [H/2,W/2,2] in Lab units.
    Tensor whole_ab(const Image& photo, const NetworkSize& size, bool naive, const Tensor& style);
    Tensor style_of(const GlobalView& own, const ColorizeSettings& settings);
    Inference& inference();
    bool on_gpu() const { return exec_.device.kind == Device::cuda; }
    Tensor network_input(const Image& photo, int64_t height, int64_t width) const;
    Tensor copy_of(const Image& photo) const;  // that the global branch sees
    std::vector<SceneScore> scores(const Tensor& logits) const;
    ColorNet& net();
    std::string path_;               // of the weights; empty: they were given as a network
    std::unique_ptr<ColorNet> net_;  // null while the plan's weights are all that is needed
    Spec spec_;
    Metadata metadata_;
    Exec exec_;
    std::string weights_sha256_;
    std::unique_ptr<Inference> inference_;  // made when a photo first needs it
    std::unique_ptr<ColorNet> on_device_;   // of a GPU, for the naive path
};

}  // namespace lumachrome
