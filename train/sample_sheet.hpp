// A picture to judge a model by: for photos spread over a dataset, gray, result and truth side by
// side.
#pragma once
#include <span>
#include <vector>

#include "model/colorizer.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

// One group of pictures (gray, result, truth, say) for every photo, `columns` groups a row, each
// picture fitted into side x side pixels. 8-bit RGB.
Image contact_sheet(const std::vector<std::vector<Image>>& photos, int64_t columns, int64_t side);

// Gray, the result of each model and truth of `count` of the first `limit` photos (0: all). Throws
// InputError when there is no photo.
Image sample_sheet(std::span<Colorizer* const> colorizers, const Dataset& data, int64_t limit,
                   int64_t count, int64_t columns, int64_t side, const ColorizeSettings& settings);

}  // namespace lumachrome
