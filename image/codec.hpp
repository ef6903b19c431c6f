// Photos in and out of files: PNG (ISO/IEC 15948) and JPEG (ITU-T T.81).
//
// A decoder meets hostile bytes, so every limit is checked before memory is taken, and a damaged or
// truncated file is an error, never gray filler. Every error is one line, "NAME: reason".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "image/image.hpp"

namespace lumachrome {

struct DecodeLimits {
    int64_t max_pixels = 256'000'000;      // width * height, checked on the header
    int64_t max_bytes = int64_t{1} << 31;  // of the file itself, read_image only
};

enum class Format { png, jpeg };

// The upright photo in `bytes`; the format is told by signature, `name` only appears in errors.
//   PNG   gray of 1..16 bits, gray + alpha, palette, RGB, RGBA, tRNS (becomes alpha), interlaced;
//         16 bits stay 16, fewer become 8
//   JPEG  gray -> 1 channel; YCbCr, RGB, CMYK, YCCK -> 3; baseline, progressive, arithmetic; 8 bits
// Throws InputError.
Image decode(std::span<const uint8_t> bytes, const std::string& name,
             const DecodeLimits& limits = {});

// The same from a file; "-" is standard input. Throws InputError.
Image read_image(const std::string& path, const DecodeLimits& limits = {});

// PNG keeps channels and bits. JPEG is 8 bits (16 are rounded) and 4:4:4, because the chroma is the
// product here; quality 1..100. Throws UsageError for what the format cannot hold: alpha or a side
// above 65500 in JPEG.
std::vector<uint8_t> encode(const Image& image, Format format, int quality = 95);

// The format that a path's extension names: .png, .jpg, .jpeg in any case. Throws UsageError.
Format format_of_path(const std::string& path);

// encode() to the format of the path, written atomically. Throws UsageError, or ResourceError when
// the disk says no.
void write_image(const std::string& path, const Image& image, bool overwrite, int quality = 95);

}  // namespace lumachrome
