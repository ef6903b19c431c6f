// A picture to judge a model by: for photos spread over a dataset, gray, result and truth side by
// side.
#pragma once
#include "model/colorizer.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

// `count` of the first `limit` photos (0: all), `columns` triples a row, each picture fitted into
// side x side pixels. 8-bit RGB.
Image sample_sheet(Colorizer& colorizer, const Dataset& data, int64_t limit, int64_t count,
                   int64_t columns, int64_t side, const ColorizeSettings& settings);

}  // namespace lumachrome
