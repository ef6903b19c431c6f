// The photo as it comes from a file and goes into one: interleaved pixels, rows from top to bottom,
// already upright.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lumachrome {

// What a file says besides its pixels; carried from the photo to its colours (image/metadata.hpp).
struct PhotoMetadata {
    struct Text {
        std::string keyword, text;  // of PNG, Latin-1 or UTF-8; a JPEG comment is a "Comment"
        bool operator==(const Text&) const = default;
    };
    struct Part {
        std::string type;  // of a PNG chunk, or the code of a JPEG marker as one character
        std::vector<uint8_t> bytes;
        bool operator==(const Part&) const = default;
    };
    std::vector<uint8_t> exif;  // a TIFF block: upright, without a thumbnail
    std::string xmp;            // an XMP packet
    std::vector<Text> text;
    uint32_t pixels_per_metre_x = 0, pixels_per_metre_y = 0;  // 0: unknown
    // What only one format can hold, as it was: compressed text of PNG; IPTC and long XMP of JPEG.
    std::vector<Part> png_chunks, jpeg_segments;
    bool operator==(const PhotoMetadata&) const = default;
};

// What a file says of its pixels. Samples are sRGB, integers in [0, 2^bits - 1], channels
// innermost; a row is width * channels * bits / 8 bytes, tightly packed, 16-bit samples are native
// uint16_t.
struct ImageHeader {
    int64_t width = 0, height = 0;
    int channels = 0;          // 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA
    int bits = 8;              // 8 or 16
    std::vector<uint8_t> icc;  // the profile that says so, see profile.hpp; may be empty
    PhotoMetadata metadata;

    bool gray() const { return channels <= 2; }
    bool has_alpha() const { return channels == 2 || channels == 4; }
    int64_t pixel_bytes() const { return channels * (bits / 8); }
    int64_t row_bytes() const { return width * pixel_bytes(); }
};

struct Image : ImageHeader {
    std::vector<uint8_t> bytes;         // height rows
    std::vector<std::string> warnings;  // what reading could not do as the file asked, a line each

    // A black (and transparent) image. Throws Error unless the sizes are positive and the format is
    // one of the above.
    static Image make(int64_t width, int64_t height, int channels, int bits);

    // First sample of row y; T is uint8_t for 8 bits (or for raw bytes), uint16_t for 16.
    template <class T>
    T* row(int64_t y) {
        return reinterpret_cast<T*>(bytes.data() + y * row_bytes());
    }
    template <class T>
    const T* row(int64_t y) const {
        return reinterpret_cast<const T*>(bytes.data() + y * row_bytes());
    }
};

}  // namespace lumachrome
