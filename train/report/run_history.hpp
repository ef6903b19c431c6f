// What a run says about itself: metrics.jsonl, one JSON object a line. Figures that are absent or
// null are NaN, unknown keys are passed over.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace lumachrome {

struct RunHistory {
    static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

    struct Training {  // averages since the line before
        int64_t step = 0;
        double epoch = kNone, seconds = kNone;
        double color_loss = kNone, class_loss = kNone, top1 = kNone;
        double learning_rate = kNone, gradient_norm = kNone, images_per_second = kNone;
    };
    struct Validation {  // on held-out photos
        int64_t step = 0;
        bool final = false;  // at the end of a run, beside the regular ones
        double epoch = kNone, seconds = kNone, images = kNone;
        double color_loss = kNone, class_loss = kNone, top1 = kNone;
        double rmse_ab = kNone, gray_rmse_ab = kNone;  // the latter of the uncoloured photos
        double psnr_rgb = kNone, delta_e2000_mean = kNone, near_gray_fraction = kNone;
        double colorfulness = kNone, colorfulness_truth = kNone;

        double colorfulness_share() const {  // of the truth
            return colorfulness_truth > 0 ? colorfulness / colorfulness_truth : kNone;
        }
    };
    struct Class {
        std::string label;
        double images = kNone, top1 = kNone;
    };
    struct Layer {
        std::string name;
        double activation_mean = kNone, activation_std = kNone, activation_zero = kNone;
        double weight_rms = kNone, gradient_rms = kNone;
    };

    std::vector<Training> training;
    std::vector<Validation> validation;
    std::vector<Class> classes;  // of the last validation
    std::vector<Layer> layers;

    // Where the run stands: at its last line, whichever kind that is; NaN where there is none.
    struct Position {
        double step = 0, epoch = kNone, seconds = kNone;
    };
    Position position() const;
    // The regular validation with the smallest colour loss, whose model best.safetensors holds; the
    // final one where there is no other; null where there is none.
    const Validation* best() const;
};

// At most 256 MiB are read. A last line that was cut off by a crash is passed over. Throws
// InputError when the folder holds no log, or a line is damaged.
RunHistory read_run_history(const std::string& run);

}  // namespace lumachrome
