// Lists of photos and lists of classes: the text files that dataset.hpp names.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lumachrome {

struct PhotoList {
    struct Photo {
        std::string path;
        int64_t class_index = -1;  // into `classes`, -1 unlabeled
    };
    std::vector<Photo> photos;
    std::vector<std::string> classes;
    std::string class_list;  // the file that fixes `classes` and their order; empty: none does
};

// FILE.txt in either format:
//   PATH or PATH<tab>CLASS
//   PATH<space>INDEX on every line, as in the lists of Places365. The path may hold blanks; one
//   that begins with '/' is looked for in the list's folder when the root has no such file. Names
//   of the classes, in this order of preference: categories_places365.txt beside the list, the only
//   categories*.txt there, labels.txt there (line i is class i), else the index in six digits.
// A categories file has lines NAME<space>INDEX; the letter in front of /a/airfield is dropped, the
// kind behind a name, as in apartment_building/outdoor, is kept.
// Throws InputError naming file, line and rule: an index that is negative, above 100000 or not in
// the class list; a line without index between lines with one; a class list that names an index or
// a class twice, or several that could be meant.
PhotoList read_photo_list(const std::string& path);

// labels.txt: a class a line, empty lines left out. Throws InputError when one is listed twice.
std::vector<std::string> read_labels(const std::string& path);

}  // namespace lumachrome
