// Photos with scene labels, wherever they lie: the first stop of the data walk
//
//   dataset -> augment -> loader -> trainer
//
// A source, as `train DATA` and `evaluate DATA` name it, is one of
//   folder       every sub-folder is a class and may have folders of its own; what lies in a
//                sub-folder `unlabeled` or directly in the folder is unlabeled, as in a flat folder
//   shard folder a folder with *.tar: all its train-*.tar when it has such, else all its *.tar
//                but val.tar beside others;
//                other files in it are not looked at
//   FILE.tar     uncompressed ustar (IEEE 1003.1), members class/name.jpg or name.jpg
//   FILE.txt     a list: photo path, then optionally a tab and a class, or on every line a blank
//                and a class index, as in Places365 (photo_list.hpp); paths relative to the list
//   photo        one file, unlabeled
//   scenes:N     N procedural photos of 128 pixels (scenes.hpp); scenes:N:SIZE sets the side
// Photos are what has_photo_name takes; names that begin with a dot are passed over. A
// labels.txt in a folder, or beside a named .tar, lists its classes one a line and fixes their
// order.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "image/image.hpp"

namespace lumachrome {

struct Photo {
    Image image;
    int64_t label = -1;  // index into classes(), -1 unlabeled
    std::string name;    // path, or ARCHIVE:member, or scene number: for messages
};

// Immutable; every member may be called from any thread.
class Dataset {
  public:
    virtual ~Dataset() = default;
    virtual int64_t size() const = 0;
    // Throws InputError when the photo is missing or corrupt.
    virtual Photo read(int64_t index) const = 0;
    virtual std::string name(int64_t index) const = 0;
    virtual int64_t label(int64_t index) const = 0;  // without reading the photo
    const std::vector<std::string>& classes() const { return classes_; }

  protected:
    std::vector<std::string> classes_;
};

// The photos of all sources in the order given, inside a source sorted by path or as archived.
// Classes: those of the labels.txt files first, in their order, then all others found, sorted. A
// non-empty `classes` replaces that list, so that a checkpoint's indices keep their meaning.
// `seed` only matters to scenes.
// Throws InputError: a source that is missing, holds no photo or has a class outside its list; a
// damaged archive (the text names file and byte offset). UsageError: a malformed scenes:N.
std::shared_ptr<const Dataset> open_dataset(const std::vector<std::string>& sources, uint64_t seed,
                                            const std::vector<std::string>& classes = {});

// Some photos of another dataset, in the order given, with its classes. Throws UsageError for an
// index outside it.
std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset,
                                      std::vector<int64_t> indices);

// `count` photos set aside for validation, spread evenly: one of each of `count` stretches of equal
// length. A function of dataset size and count alone, so a resumed run holds out the same photos.
// Throws UsageError unless 0 < count < size.
struct Split {
    std::shared_ptr<const Dataset> training, validation;
};
Split hold_out(std::shared_ptr<const Dataset> dataset, int64_t count);

}  // namespace lumachrome
