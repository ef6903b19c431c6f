// How training does on photos it never sees: the same centre crops every time, at the training
// size, through the network as it is used (running statistics, no dropout). Colours are compared
// with the target brought back to full size, which costs a few per cent of detail against
// `evaluate`'s protocol but nothing but one small forward pass.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/evaluate.hpp"
#include "train/train_step.hpp"

namespace lumachrome {

struct ClassAccuracy {
    std::string label;
    int64_t images = 0, correct = 0;
};

struct LayerStatistics {
    std::string name;  // as ColorNet::observe names stages
    double activation_mean = 0, activation_std = 0, activation_zero = 0;  // zero: share of exact 0
    double weight_rms = 0, gradient_rms = 0;                              // of the last step
};

struct ValidationResult : ColorQuality {
    int64_t images = 0;
    double color_loss = 0, class_loss = 0, top1 = 0;  // NaN where nothing is labelled or no head
    double colorfulness_truth = 0, gray_rmse_ab = 0;
    std::vector<ClassAccuracy> classes;  // those that occur
    std::vector<LayerStatistics> layers;
    Image samples;  // sheet: gray, output, truth of the first photos
};

class Validation {
  public:
    // Takes up to `count` photos spread over `data`; corrupt and near-gray ones are passed over.
    // For networks of this spec: scenes are judged when it names any. Throws InputError when no
    // photo is left.
    Validation(const Dataset& data, int64_t count, int64_t size, const Spec& spec);

    int64_t images() const { return luma_.shape()[0]; }
    ValidationResult run(ColorNet& net, const Exec& exec, int64_t batch) const;

  private:
    Tensor luma_, ab_;  // [n,S,S,1], [n,S/2,S/2,2], 0..1
    Labels labels_;
    std::vector<std::string> class_names_;
};

}  // namespace lumachrome
