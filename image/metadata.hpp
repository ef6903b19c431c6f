// What a camera writes beside the pixels: which way up the photo is must not be ignored, the rest
// is kept. Sources: TIFF 6.0 section 2 (image file directory), Exif 2.3 sections 4.5.8 (thumbnail)
// and 4.6.4 (tags), XMP part 3 sections 1.1.3 and 1.1.5.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "image/image.hpp"

namespace lumachrome {

// Orientation 1..8 of an Exif block: a JPEG APP1 segment ("Exif\0\0", then TIFF) or the bare TIFF
// of a PNG eXIf chunk. Both byte orders. Anything missing, damaged or out of range reads as 1
// (upright): metadata never costs a photo.
int exif_orientation(std::span<const uint8_t> app1);

// The Exif block as it belongs to the upright photo: orientation 1, width and height exchanged
// where they were, the thumbnail taken out (it would stay gray). Empty for what is no TIFF block, or
// one that contradicts itself.
std::vector<uint8_t> upright_exif(std::span<const uint8_t> app1, int orientation);

// JPEG's marker segments and PNG's chunks <-> metadata. `marker` is 0xE1 (Exif, XMP), 0xED (IPTC)
// or 0xFE (comment); `chunk` tEXt, zTXt or iTXt. What is damaged, or more than 16 MiB in all, is
// left out: metadata never costs a photo.
void add_jpeg_segment(PhotoMetadata& metadata, int marker, std::span<const uint8_t> bytes,
                      int orientation);
void add_png_chunk(PhotoMetadata& metadata, const std::string& chunk,
                   std::span<const uint8_t> bytes);
// Every part as the file needs it, in order; a segment has at most 65533 bytes, longer parts are
// left out. Exif of PNG and the resolution have functions of their own in the codecs.
std::vector<PhotoMetadata::Part> jpeg_segments(const PhotoMetadata& metadata);
std::vector<PhotoMetadata::Part> png_chunks(const PhotoMetadata& metadata);

// Where a photo's colours come from.
struct Provenance {
    std::string software;  // "lumachrome 0.1.0": ASCII, 4 characters at least
    std::string note;      // one line more, ASCII
};
// Says so where viewers look: Software of Exif (TIFF 6.0, tag 305) and of PNG, a comment, and
// DigitalSourceType of XMP (IPTC Photo Metadata 2023.2: a composite with what a trained model
// made). What the photo says already stays: its software is named before ours, its own
// comments come last, which readers of one comment take. A block that is damaged, or that JPEG
// could then not hold, is left as it is.
void add_provenance(PhotoMetadata& metadata, const Provenance& provenance);

// The stored photo turned upright. The value names where stored row 0 and column 0 lie in the
// upright photo:
//   1 top, left    2 top, right    3 bottom, right    4 bottom, left
//   5 left, top    6 right, top    7 right, bottom    8 left, bottom    (width and height swap)
// Any other value is taken as 1.
Image upright(Image stored, int orientation);

}  // namespace lumachrome
