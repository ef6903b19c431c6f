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
std::unique_ptr<RowEncoder> png_encoder(const ImageHeader& header, ByteSink sink);
std::unique_ptr<RowEncoder> jpeg_encoder(const ImageHeader& header, int quality, ByteSink sink);
std::unique_ptr<RowEncoder> pnm_encoder(const ImageHeader& header, ByteSink sink);

// Between an encoder and its sink, which must not throw through C code: collects the coded bytes
// and hands them on in pieces; and counts the rows.
class EncoderOutput {
  public:
    EncoderOutput(const ImageHeader& header, ByteSink sink)
        : rows_left_(header.height), sink_(std::move(sink)) {}

    // Without letting an exception into C code; false when memory is out.
    bool append(const uint8_t* bytes, size_t count) noexcept;
    void take_rows(int64_t count);  // throws Error when there are not so many
    void pass_on();                 // when a piece is full
    void finish();                  // the rest; throws Error when rows are missing

  private:
    int64_t rows_left_;
    ByteSink sink_;
    std::vector<uint8_t> pending_;
};

// Samples of 16 bits rounded to 8.
void narrow(const uint16_t* wide, int64_t count, uint8_t* out);

// Throws InputError when the header's size is zero or above the limit.
void check_pixels(int64_t width, int64_t height, const std::string& name,
                  const DecodeLimits& limits);

// Whether an ICC profile describes pixels of this kind (ICC.1:2010, 7.2.6: the colour space is at
// byte 16). A gray scan's profile must not be written beside its new colours.
bool icc_fits(std::span<const uint8_t> icc, bool gray);

}  // namespace lumachrome
