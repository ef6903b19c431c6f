// What colorize and classify share: from the words on the command line to photos, and the rule that
// one bad photo does not stop the others.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/console.hpp"
#include "model/colorizer.hpp"

namespace lumachrome {

struct PhotoPath {
    std::string path;      // "-" is standard input
    std::string relative;  // below the folder that was named; else the file name alone
};

// Files as they are, existing or not; folders and quoted patterns to the photos in them, sorted.
// Earlier results (*-color.*) in a folder are passed over. Throws InputError for a folder without
// photos.
std::vector<PhotoPath> find_photos(const std::vector<std::string>& inputs, bool recursive);

// Calls `work` for photos[i] with the record it fills, for so many photos at a time, each on a
// thread of its own. A failure becomes a line on stderr and `error` in the record, and the next
// photo is taken, unless stop_requested(). Returns the exit code: the photo's own when it was the
// only one, else kSomeFailed.
int for_each_photo(const std::vector<PhotoPath>& photos, int at_a_time, Console& console,
                   Json::Array& records, const std::function<void(size_t i, Json& record)>& work);

// The first `top` as [{label, probability}].
Json scene_json(const std::vector<SceneScore>& scores, int64_t top);

}  // namespace lumachrome
