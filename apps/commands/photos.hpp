// What the commands that take photos share: from the words on the command line to photos, and the
// rule that one bad photo does not stop the others.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/console.hpp"
#include "image/metadata.hpp"
#include "model/colorizer.hpp"

namespace lumachrome {

struct PhotoPath {
    std::string path;      // "-" is standard input
    std::string relative;  // below the folder that was named; else the file name alone
    std::string problem;   // a folder that cannot be listed: counts as a photo that fails; else ""
    double cost = 0;       // of its work, about, in bytes of its file; only ratios matter
};

// Files as they are, existing or not; folders and quoted patterns to the photos in them, sorted.
// Earlier results (*-color.*) in a folder are passed over. A folder without photos is a note to
// people where there are others, and an InputError where it was all.
std::vector<PhotoPath> find_photos(const std::vector<std::string>& inputs, bool recursive,
                                   Console& console);

enum class Outcome { done, skipped };

struct Tally {
    int code = 0;  // the photo's own when it was the only one, else kSomeFailed where one failed
    int64_t done = 0, skipped = 0;
    std::vector<std::string> failed;  // paths
    double seconds = 0;
};

// Calls `work` for photos[i] with the record it fills, for so many photos at a time, each on a
// thread of its own. A failure becomes a line on stderr and `error` in the record, and the next
// photo is taken, unless stop_requested(). Photos whose cost is 0 do not count for the time that is
// left.
Tally for_each_photo(const std::vector<PhotoPath>& photos, int at_a_time, Console& console,
                     Json::Array& records,
                     const std::function<Outcome(size_t i, Json& record)>& work);

// "196 coloured, 2 skipped, 2 failed (a.jpg, b.png) in 41 s"
std::string summary_of(const Tally& tally, const std::string& what_was_done);

// What reading the photo could not do as its file asked, as `warnings` of the record.
// for_each_photo tells each text once, by the first photo that has it; with --verbose, every one.
void set_warnings(Json& record, const Image& photo);

// What results say of themselves: this program, and the model by the SHA-256 of its file.
Provenance provenance_of(const std::string& weights_sha256);

// The first `top` as [{label, probability}].
Json scene_json(const std::vector<SceneScore>& scores, int64_t top);

}  // namespace lumachrome
