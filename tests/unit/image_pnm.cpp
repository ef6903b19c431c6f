// PPM and PGM: what others write, and what nobody should.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "unit/image_fixtures.hpp"

using namespace lumachrome;

namespace {

Bytes pnm(const std::string& header, size_t pixels) {
    Bytes bytes(header.begin(), header.end());
    for (size_t i = 0; i < pixels; ++i) bytes.push_back(static_cast<uint8_t>(i * 37));
    return bytes;
}

}  // namespace

TEST_CASE("image: PPM keeps RGB and gray of 8 bits, rounds 16, refuses alpha") {
    for (const int channels : {1, 3}) {
        const Image image = random_image(37, 19, channels, 8);
        const Image back = decode(encode(image, Format::ppm), "memory");
        CHECK(back.channels == channels);
        CHECK(back.width == 37);
        CHECK(back.bits == 8);
        CHECK(back.bytes == image.bytes);
        const Image wide = random_image(5, 3, channels, 16);
        const Image rounded = decode(encode(wide, Format::ppm), "memory");
        for (size_t i = 0; i < rounded.bytes.size(); ++i)
            CHECK(std::abs(rounded.bytes[i] - wide.row<uint16_t>(0)[i] / 257.0) <= .5);
    }
    for (const int channels : {2, 4})
        CHECK_THROWS_AS(encode(random_image(3, 3, channels, 8), Format::ppm), UsageError);
}

TEST_CASE("image: PPM headers as others write them") {
    for (const char* header :
         {"P6\n2 1\n255\n", "P6 2 1 255 ", "P6\r\n2\t1\r\n255\n",
          "P6#made\n2#wide\n#high\n1\n255\t", "P6\n# a photo of 3 4 300\n002 01\n255\n"}) {
        CAPTURE(header);
        const Bytes whole = pnm(header, 6);
        const Image image = decode(whole, "photo");
        CHECK(image.width == 2);
        CHECK(image.height == 1);
        CHECK(image.bytes == Bytes{0, 37, 74, 111, 148, 185});
        const auto parsed = pnm_header(whole, "photo");
        REQUIRE(parsed);
        CHECK(parsed->offset == static_cast<int64_t>(std::strlen(header)));
        for (size_t n = 0; n < std::strlen(header); ++n)
            CHECK_FALSE(pnm_header({whole.data(), n}, "photo"));
    }
    CHECK(decode(pnm("P5\n2 1\n255\n", 9), "photo").bytes == Bytes{0, 37});  // as ppm(5) allows
    CHECK(decode(pnm("P5\n2 1\n255\n\n", 1), "photo").bytes ==
          Bytes{'\n', 0});  // one blank ends it
}

TEST_CASE("image: hostile PPM files") {
    const Bytes whole = pnm("P6 20 17\n255\n", 20 * 17 * 3);
    for (size_t n = 0; n < whole.size(); ++n)
        REQUIRE(error_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}) !=
                "no error");
    contains(error_of(pnm("P6 0 1 255\n", 9)), "the header says 0x1 pixels");
    contains(error_of(pnm("P6 100000 100000 255\n", 9)), "exceed the limit of 256000000");
    contains(error_of(pnm("P6 16000 16000 255\n", 9)), "PNM data is damaged: too short");
    contains(error_of(pnm("P6 2 2 255\n", 12), {.max_pixels = 3}), "exceed the limit of 3");
    contains(error_of(pnm("P6 9223372036854775807 9223372036854775807 255\n", 9)), "exceed");
    contains(error_of(pnm("P6 99999999999999999999 1 255\n", 9)), "three numbers");
    contains(error_of(pnm("P6 -2 1 255\n", 9)), "three numbers");
    contains(error_of(pnm("P6 2 1.5 255\n", 9)), "three numbers");
    contains(error_of(pnm("P6 2 1 255#", 9)), "ends without a blank");
    for (const char* largest : {"0", "1", "254", "256", "65535"})
        contains(error_of(pnm(std::string("P6 2 1 ") + largest + "\n", 12)), "samples up to");
    contains(error_of(pnm("P6 # " + std::string(100'000, 'c'), 0)), "the file is truncated");
    const Bytes original = pnm("P6 20 17 255\n", 20 * 17 * 3);
    std::mt19937 random(7);
    for (int i = 0; i < 2000; ++i) {
        Bytes bytes = original;
        for (unsigned k = 0; k < 1 + random() % 3; ++k)
            bytes[random() % 14] = static_cast<uint8_t>("0123456789 #\nP"[random() % 14]);
        try {
            decode(bytes, "fuzzed", {.max_pixels = 1'000'000});
        } catch (const InputError&) {
        }
    }
}
