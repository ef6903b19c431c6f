// A photo in, a colour photo out: the network with what surrounds it.
//
//   photo -> luma, shrunk to the network's size, mean subtracted -> ab at half that size
//         -> enlarged to full size -> merged with the photo's own luma
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
#include "model/infer/inference.hpp"
#include "model/state.hpp"

namespace lumachrome {

struct ColorizeSettings {
    int64_t size = 0;        // shorter side of the network's input, pixels; 0: auto
    bool full = false;       // the network runs at the photo's own size
    double saturation = 1;   // factor on the predicted chroma
    int64_t max_memory = 0;  // bytes that the process may use; 0: no limit
    bool naive = false;      // the network as training runs it, with the definitions' loops
};

struct SceneScore {
    std::string label;
    double probability;
};

struct Colorization {
    int64_t network_width = 0, network_height = 0;
    std::vector<SceneScore> scene;  // most probable first; empty without a class head
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

    const Metadata& metadata() const { return metadata_; }
    const Spec& spec() const { return spec_; }
    const Exec& exec() const { return exec_; }

    // `rows` gets the result from top to bottom, rows of an image with the header merged(photo).
    // Throws ModelError when the network's output is not finite, ResourceError when the memory
    // allowed is too little, both perhaps after some rows.
    Colorization colorize(const Image& photo, const ColorizeSettings& settings,
                          const ColorRows::Sink& rows);
    Colorized colorize(const Image& photo, const ColorizeSettings& settings = {});
    std::vector<SceneScore> classify(const Image& photo);

  private:
    // Rows of the colours [.,W/2,2] in 0..1 to `color`; returns the logits, undefined without a
    // class head.
    using ColorSink = std::function<void(const float* color, int64_t rows)>;
    Tensor run_network(const Image& photo, const NetworkSize& size,
                       const ColorizeSettings& settings, const ColorSink& color);
    Tensor run_naive(const Image& photo, const NetworkSize& size, const ColorSink& color);
    Tensor run_on_gpu(const Image& photo, const NetworkSize& size, const ColorSink& color);
    std::unique_ptr<Inference> make_inference(const InferenceOptions& options);
    bool on_gpu() const { return exec_.device.kind == Device::cuda; }
    Tensor network_input(const Image& photo, int64_t height, int64_t width) const;
    std::vector<SceneScore> scores(const Tensor& logits) const;
    ColorNet& net();
    std::string path_;               // of the weights; empty: they were given as a network
    std::unique_ptr<ColorNet> net_;  // null while the plan's weights are all that is needed
    Spec spec_;
    Metadata metadata_;
    Exec exec_;
    std::unique_ptr<Inference> inference_;   // made when a photo first needs it
    std::unique_ptr<Inference> classifier_;  // of a GPU, without colours
    std::unique_ptr<ColorNet> on_device_;    // of a GPU, for the naive path
};

}  // namespace lumachrome
