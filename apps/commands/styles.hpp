// Styles as people name them: "beach.jpg", "beach.jpg:0.5", "summer.style:0.3", scene classes
// alike.
#pragma once
#include <string>
#include <vector>

#include "apps/option_table.hpp"
#include "model/colorizer.hpp"

namespace lumachrome {

struct StyleOptions {
    std::vector<std::string> styles;  // photos, or files of the command `style`
    std::string scene_class;
};
void add_style_options(OptionTable& table, StyleOptions& options);

// Reads the photos and files, and asks the network for the photos' features. Throws UsageError for
// a weight outside 0..1, InputError or ModelError for a file.
void set_styles(ColorizeSettings& settings, const StyleOptions& options, Colorizer& colorizer,
                int64_t max_pixels);

// "NAME:WEIGHT"; a file whose whole name that is, stays one.
struct Weighted {
    std::string name;
    double weight = 1;
};
Weighted parse_weighted(const std::string& word);

}  // namespace lumachrome
