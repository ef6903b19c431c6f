// The sample sheets of a run (samples/step-00000500.png: the same photos, coloured after so many
// steps), thinned out to what one page can show.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lumachrome {

struct FilmStrip {
    struct Frame {
        int64_t step = 0, width = 0, height = 0;
        std::vector<uint8_t> png;
    };
    // The newest sheet, whole; no bytes when there is none.
    Frame newest;
    // First, newest, and between them such that steps grow by about the same factor: of each sheet
    // the row of pictures that changed the most over the run. Empty with fewer than two sheets.
    std::vector<Frame> frames;
    int64_t sheets = 0;      // in the folder
    int64_t unreadable = 0;  // of those that were to be shown: damaged, too large, another layout
};

// No samples: an empty strip. What it returns is at most 5.5 MiB of PNG.
FilmStrip read_film_strip(const std::string& run);

}  // namespace lumachrome
