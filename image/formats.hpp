// Inside image/ only: what codec.cpp asks of the formats. png.cpp and jpeg.cpp are the only files
// that know libpng and libjpeg. Both report errors by longjmp, which skips destructors; so
// each call into them runs inside one small guarded function whose frames hold trivial objects
// only, and everything with a destructor lives outside it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "image/codec.hpp"

namespace lumachrome {

Image decode_png(std::span<const uint8_t> bytes, const std::string& name,
                 const DecodeLimits& limits);
Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name,
                  const DecodeLimits& limits);
Image decode_pnm(std::span<const uint8_t> bytes, const std::string& name,
                 const DecodeLimits& limits);
bool is_pnm(std::span<const uint8_t> start);  // P5 or P6
std::vector<uint8_t> encode_png(const Image& image);
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);
std::vector<uint8_t> encode_pnm(const Image& image);

// Throws InputError when the header's size is zero or above the limit.
void check_pixels(int64_t width, int64_t height, const std::string& name,
                  const DecodeLimits& limits);

// Appends without letting an exception into C code; false when memory is out.
bool append(std::vector<uint8_t>& out, const uint8_t* bytes, size_t count) noexcept;

// Whether an ICC profile describes pixels of this kind (ICC.1:2010, 7.2.6: the colour space is at
// byte 16). A gray scan's profile must not be written beside its new colours.
bool icc_fits(std::span<const uint8_t> icc, bool gray);

}  // namespace lumachrome
