// Photos in and out of files: PNG (ISO/IEC 15948), JPEG (ITU-T T.81) and binary PPM and PGM
// (Netpbm, for prepared training photos: nothing is left to decode).
//
// A decoder meets hostile bytes, so every limit is checked before memory is taken, and a damaged or
// truncated file is an error, never gray filler. Every error is one line, "NAME: reason".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "image/image.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

struct DecodeLimits {
    int64_t max_pixels = 256'000'000;      // width * height, checked on the header
    int64_t max_bytes = int64_t{1} << 31;  // of the file itself, read_image only
};

enum class Format { png, jpeg, ppm };

// Whether a file found in a folder or an archive is taken for a photo: by its name's ending, in any
// case; hidden ones are not.
inline constexpr const char* kPhotoNames = ".png, .jpg, .jpeg, .jfif, .pgm, .ppm, .pnm";
bool has_photo_name(const std::string& path);

// The upright photo in `bytes`; the format is told by signature, `name` only appears in errors.
//   PNG   gray of 1..16 bits, gray + alpha, palette, RGB, RGBA, tRNS (becomes alpha), interlaced;
//         16 bits stay 16, fewer become 8
//   JPEG  gray -> 1 channel; YCbCr, RGB, CMYK, YCCK -> 3; baseline, progressive, arithmetic; 8 bits
//   PPM   P6 -> 3 channels, P5 -> 1; 8 bits with 255 as the largest sample
// Its samples are sRGB whatever profile the file carries (image/profile.hpp); what could not be
// followed is said in its warnings. Throws InputError.
Image decode(std::span<const uint8_t> bytes, const std::string& name,
             const DecodeLimits& limits = {}, const Exec& exec = {});

// The same from a file; "-" is standard input. Throws InputError.
Image read_image(const std::string& path, const DecodeLimits& limits = {}, const Exec& exec = {});

// PNG keeps channels and bits. JPEG is 8 bits (16 are rounded) and 4:4:4, because the chroma is the
// product here; quality 1..100. PPM is 8 bits, gray as P5. Throws UsageError for what the format
// cannot hold: alpha or a side above 65500 in JPEG, alpha in PPM.
std::vector<uint8_t> encode(const Image& image, Format format, int quality = 95);

// The same for rows as they come, so that neither the pixels nor the file need be in memory.
class RowEncoder {
  public:
    virtual ~RowEncoder() = default;
    // The next `count` rows, packed as in Image. What the sink throws passes through.
    virtual void write(const uint8_t* rows, int64_t count) = 0;
    // After the last row. Throws Error when there were more or fewer than the header says.
    virtual void finish() = 0;
};
using ByteSink = std::function<void(std::span<const uint8_t> bytes)>;

// `sink` gets the file from its first byte to its last, in pieces, during write() and finish().
// Throws UsageError as encode() does.
std::unique_ptr<RowEncoder> make_encoder(const ImageHeader& header, Format format, int quality,
                                         ByteSink sink);

// The format that a path's extension names: .png, .jpg, .jpeg in any case. Throws UsageError.
Format format_of_path(const std::string& path);

// Where the pixels of a PPM lie: `offset` bytes in, packed as in Image. Lets a reader of archives
// read them to their place, where decode() would copy. nullopt when `start`, the first bytes of the
// file, is no P5 or P6 or ends before the header does. Throws InputError as decode() does.
struct PnmHeader {
    int64_t width = 0, height = 0;
    int channels = 0;
    int64_t offset = 0;
};
std::optional<PnmHeader> pnm_header(std::span<const uint8_t> start, const std::string& name,
                                    const DecodeLimits& limits = {});

// encode() to the format of the path, written atomically. Throws UsageError, or ResourceError when
// the disk says no.
void write_image(const std::string& path, const Image& image, bool overwrite, int quality = 95);

}  // namespace lumachrome
