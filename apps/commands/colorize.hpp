// What `colorize` is asked, and where its results go.
#pragma once
#include <string>
#include <vector>

#include "apps/commands/commands.hpp"
#include "apps/commands/photos.hpp"
#include "apps/commands/styles.hpp"
#include "image/codec.hpp"

namespace lumachrome {

struct ColorizeOptions : PhotoOptions, StyleOptions {
    std::string output;  // empty: beside the input
    std::string format;  // png, jpeg; empty: by the output's name, else png
    std::string if_color = "recolor";
    bool strip_metadata = false, no_mark = false;
    ColorizeSettings settings;
    int quality = 95;
    bool overwrite = false, skip_existing = false;
    std::shared_ptr<const Json> decided;  // Command::decided
};

struct Target {
    std::string path;  // "-" is standard output
    Format format = Format::png;
};

struct Targets {
    std::vector<Target> of_photos;
    bool in_folder = false;  // the folder options.output, which exists now
};
// Where every photo goes. Throws UsageError before anything starts when the wishes contradict each
// other.
Targets plan_targets(const std::vector<PhotoPath>& photos, const ColorizeOptions& options,
                     const Console& console);

bool is_there(const std::string& path);  // a dangling link too

// All that can be known before the network runs; the write itself checks again. `existing` says how
// a file that is there differs, see Manifest::difference. Throws UsageError, ResourceError.
void check_target(const Target& target, const ColorizeOptions& options,
                  const std::string& existing);

// Removes what earlier runs that were killed left where these are about to be written.
void clear_abandoned(const Targets& targets);

}  // namespace lumachrome
