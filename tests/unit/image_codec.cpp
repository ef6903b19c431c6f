// jpeglib.h needs FILE and size_t and includes neither.
#include <cstdio>

#include <jpeglib.h>
#include <png.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "image/color.hpp"
#include "image/metadata.hpp"
#include "image/profile.hpp"
#include "unit/icc_profiles.hpp"
#include "unit/image_fixtures.hpp"

using namespace lumachrome;

namespace {

Image smooth_image(int64_t width, int64_t height, int channels) {
    Image image = Image::make(width, height, channels, 8);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c)
                image.row<uint8_t>(y)[x * channels + c] =
                    static_cast<uint8_t>(c == 0   ? 255 * x / width
                                         : c == 1 ? 255 * y / height
                                                  : 60 + 100 * x / width);
    return image;
}

int largest_difference(const Image& a, const Image& b) {
    REQUIRE(a.width == b.width);
    REQUIRE(a.height == b.height);
    REQUIRE(a.channels == b.channels);
    int worst = 0;
    for (size_t i = 0; i < a.bytes.size(); ++i)
        worst = std::max(worst, std::abs(a.bytes[i] - b.bytes[i]));
    return worst;
}

// A PNG of rows of raw bytes, every setting open.
Bytes make_png(int width, int height, int bits, int color_type, bool interlaced,
               const std::vector<Bytes>& rows,
               const std::function<void(png_structp, png_infop)>& settings = {}) {
    Bytes out;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(
        png, &out,
        [](png_structp p, png_bytep data, size_t n) {
            auto& to = *static_cast<Bytes*>(png_get_io_ptr(p));
            to.insert(to.end(), data, data + n);
        },
        nullptr);
    png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), bits,
                 color_type, interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    if (settings) settings(png, info);
    png_write_info(png, info);
    std::vector<png_bytep> pointers;
    for (const Bytes& row : rows) pointers.push_back(const_cast<png_bytep>(row.data()));
    png_write_image(png, pointers.data());
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

struct JpegSettings {
    J_COLOR_SPACE in = JCS_RGB, stored = JCS_YCbCr;
    bool progressive = false, adobe = true, half_chroma = false, arithmetic = false;
    Bytes app1 = {}, icc = {};
};

// `image` gives the bytes only; its channels are those of settings.in (4 for CMYK).
Bytes make_jpeg(const Image& image, const JpegSettings& settings = {}) {
    jpeg_compress_struct codec{};
    jpeg_error_mgr errors{};
    codec.err = jpeg_std_error(&errors);
    jpeg_create_compress(&codec);
    unsigned char* data = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&codec, &data, &size);
    codec.image_width = static_cast<JDIMENSION>(image.width);
    codec.image_height = static_cast<JDIMENSION>(image.height);
    codec.input_components = image.channels;
    codec.in_color_space = settings.in;
    jpeg_set_defaults(&codec);
    jpeg_set_colorspace(&codec, settings.stored);
    jpeg_set_quality(&codec, 98, TRUE);
    for (int c = 0; c < codec.num_components; ++c)
        codec.comp_info[c].h_samp_factor = codec.comp_info[c].v_samp_factor =
            settings.half_chroma && c == 0 ? 2 : 1;
    if (!settings.adobe) codec.write_Adobe_marker = FALSE;
    codec.arith_code = settings.arithmetic;
    if (settings.progressive) jpeg_simple_progression(&codec);
    jpeg_start_compress(&codec, TRUE);
    if (!settings.app1.empty())
        jpeg_write_marker(&codec, JPEG_APP0 + 1, settings.app1.data(),
                          static_cast<unsigned>(settings.app1.size()));
    if (!settings.icc.empty())
        jpeg_write_icc_profile(&codec, settings.icc.data(),
                               static_cast<unsigned>(settings.icc.size()));
    for (int64_t y = 0; y < image.height; ++y) {
        JSAMPROW row = const_cast<uint8_t*>(image.row<uint8_t>(y));
        jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
    jpeg_destroy_compress(&codec);
    Bytes out(data, data + size);
    std::free(data);
    return out;
}

Bytes exif_with_orientation(int value, bool big_endian) {
    const uint8_t v = static_cast<uint8_t>(value);
    Bytes tiff =
        big_endian
            ? Bytes{'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, v, 0, 0}
            : Bytes{'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, v, 0, 0, 0};
    const Bytes prefix = {'E', 'x', 'i', 'f', 0, 0};
    tiff.insert(tiff.begin(), prefix.begin(), prefix.end());
    return tiff;
}

uint32_t crc32_of(const uint8_t* bytes, size_t count) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

void store_32(uint8_t* to, uint32_t value) {
    for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

Bytes with_size(Bytes png, uint32_t width, uint32_t height) {
    REQUIRE(png.size() > 33);
    store_32(&png[16], width), store_32(&png[20], height);
    store_32(&png[29], crc32_of(&png[12], 17));
    return png;
}

size_t find_bytes(const Bytes& in, const Bytes& what, size_t from = 0) {
    const auto start = in.begin() + static_cast<std::ptrdiff_t>(from);
    return static_cast<size_t>(std::search(start, in.end(), what.begin(), what.end()) - in.begin());
}

// Every prefix either fails as an InputError or holds all the pixels: never a picture with filler.
void check_truncation(const Bytes& whole, size_t step) {
    const Image want = decode(whole, "whole");
    for (size_t n = 0; n < whole.size(); n += (n + 40 > whole.size() ? 1 : step)) {
        const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
        bool same = true;
        try {
            same = decode(part, "part").bytes == want.bytes;
        } catch (const InputError&) {
        }
        CAPTURE(n);
        REQUIRE(same);
        if (n + 40 < whole.size()) REQUIRE(error_of(part) != "no error");
    }
}

struct TemporaryFolder {
    std::filesystem::path path = std::filesystem::temp_directory_path() /
                                 ("lumachrome_" + std::to_string(std::random_device{}()));
    TemporaryFolder() { std::filesystem::create_directory(path); }
    ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("image: PNG keeps every channel count and depth") {
    for (const int channels : {1, 2, 3, 4})
        for (const int bits : {8, 16}) {
            const Image image = random_image(37, 19, channels, bits);
            const Image back = decode(encode(image, Format::png), "memory");
            CHECK(back.channels == channels);
            CHECK(back.bits == bits);
            CHECK(back.width == 37);
            CHECK(back.bytes == image.bytes);
        }
    const Image one = random_image(1, 1, 3, 8);
    CHECK(decode(encode(one, Format::png), "memory").bytes == one.bytes);
}

TEST_CASE("image: PNG with 1, 2 and 4 bits of gray, plain and interlaced") {
    for (const int bits : {1, 2, 4})
        for (const bool interlaced : {false, true}) {
            const int width = 13, height = 9, max = (1 << bits) - 1;
            std::vector<Bytes> rows;
            Image want = Image::make(width, height, 1, 8);
            for (int y = 0; y < height; ++y) {
                Bytes row(static_cast<size_t>((width * bits + 7) / 8));
                for (int x = 0; x < width; ++x) {
                    const int v = (x * 7 + y * 3) & max, bit = x * bits;
                    row[static_cast<size_t>(bit / 8)] |=
                        static_cast<uint8_t>(v << (8 - bits - bit % 8));
                    want.row<uint8_t>(y)[x] = static_cast<uint8_t>(v * 255 / max);
                }
                rows.push_back(row);
            }
            const Image got = decode(
                make_png(width, height, bits, PNG_COLOR_TYPE_GRAY, interlaced, rows), "gray");
            CHECK(got.channels == 1);
            CHECK(got.bytes == want.bytes);
        }
}

TEST_CASE("image: PNG palettes, transparent colours and interlaced 16 bits") {
    const std::vector<Bytes> rows = {{0, 1, 2}, {2, 1, 0}};
    png_color palette[] = {{255, 0, 0}, {0, 200, 0}, {1, 2, 3}};
    png_byte alpha[] = {0, 128};
    const auto opaque = [&](png_structp png, png_infop info) {
        png_set_PLTE(png, info, palette, 3);
    };
    const auto transparent = [&](png_structp png, png_infop info) {
        opaque(png, info);
        png_set_tRNS(png, info, alpha, 2, nullptr);
    };
    const Image plain =
        decode(make_png(3, 2, 8, PNG_COLOR_TYPE_PALETTE, false, rows, opaque), "palette");
    CHECK(plain.channels == 3);
    CHECK(plain.bytes == Bytes{255, 0, 0, 0, 200, 0, 1, 2, 3, 1, 2, 3, 0, 200, 0, 255, 0, 0});
    const Image clear =
        decode(make_png(3, 2, 8, PNG_COLOR_TYPE_PALETTE, true, rows, transparent), "palette");
    CHECK(clear.channels == 4);
    CHECK(Bytes(clear.bytes.begin(), clear.bytes.begin() + 12) ==
          Bytes{255, 0, 0, 0, 0, 200, 0, 128, 1, 2, 3, 255});

    const auto black_is_clear = [](png_structp png, png_infop info) {
        png_color_16 black{};
        png_set_tRNS(png, info, nullptr, 0, &black);
    };
    const Image gray =
        decode(make_png(3, 2, 8, PNG_COLOR_TYPE_GRAY, false, rows, black_is_clear), "gray");
    CHECK(gray.channels == 2);
    CHECK(Bytes(gray.bytes.begin(), gray.bytes.begin() + 4) == Bytes{0, 0, 1, 255});

    const Image deep =
        decode(make_png(1, 2, 16, PNG_COLOR_TYPE_GRAY, true, {{0x12, 0x34}, {0xab, 0xcd}}), "deep");
    CHECK(deep.bits == 16);
    CHECK(deep.row<uint16_t>(0)[0] == 0x1234);
    CHECK(deep.row<uint16_t>(1)[0] == 0xabcd);
}

TEST_CASE("image: JPEG round trips at 4:4:4") {
    for (const int channels : {1, 3}) {
        const Image image = smooth_image(67, 45, channels);
        const Bytes bytes = encode(image, Format::jpeg, 98);
        CHECK(largest_difference(decode(bytes, "memory"), image) <= 6);
        if (channels == 3) {
            const size_t frame = find_bytes(bytes, {0xff, 0xc0});
            CHECK(bytes[frame + 11] == 0x11);  // sampling factors of the first component: 1x1
        }
    }
    Image deep = Image::make(16, 16, 1, 16);
    std::fill_n(deep.row<uint16_t>(0), 256, uint16_t{0x8080});
    CHECK(decode(encode(deep, Format::jpeg), "memory").bytes[7] == 0x80);
    CHECK_THROWS_AS(encode(random_image(4, 4, 4, 8), Format::jpeg), UsageError);
    CHECK_THROWS_AS(encode(Image::make(70000, 1, 1, 8), Format::jpeg), UsageError);
}

TEST_CASE("image: JPEG colour spaces, subsampling, progressive and arithmetic coding") {
    const Image rgb = smooth_image(67, 45, 3);
    CHECK(largest_difference(decode(make_jpeg(rgb, {.stored = JCS_RGB}), "rgb"), rgb) <= 4);
    CHECK(largest_difference(decode(make_jpeg(rgb, {.half_chroma = true}), "420"), rgb) <= 12);
    CHECK(largest_difference(decode(make_jpeg(rgb, {.progressive = true}), "progressive"), rgb) <=
          6);
    CHECK(largest_difference(decode(make_jpeg(rgb, {.arithmetic = true}), "arithmetic"), rgb) <= 6);

    // Inks: without black, the naive conversion is R = 255 - C. Adobe's files hold 255 - ink.
    for (const J_COLOR_SPACE stored : {JCS_CMYK, JCS_YCCK})
        for (const bool adobe : {true, false}) {
            if (stored == JCS_YCCK && !adobe) continue;  // nothing would mark it as YCCK
            Image inks = Image::make(rgb.width, rgb.height, 4, 8);
            for (size_t i = 0; i < inks.bytes.size(); ++i) {
                const uint8_t light = i % 4 == 3 ? uint8_t{255} : rgb.bytes[i / 4 * 3 + i % 4];
                inks.bytes[i] = adobe ? light : static_cast<uint8_t>(255 - light);
            }
            const Bytes bytes = make_jpeg(inks, {.in = JCS_CMYK, .stored = stored, .adobe = adobe});
            const Image naive = decode(bytes, "cmyk");
            CHECK(largest_difference(naive, rgb) <= 8);
            REQUIRE(naive.warnings.size() == 1);
            contains(naive.warnings[0], "CMYK without a colour profile");
            // With one: these inks differ in lightness alone.
            if (color_management().empty()) continue;
            const Image seen = decode(
                make_jpeg(inks,
                          {.in = JCS_CMYK, .stored = stored, .adobe = adobe, .icc = icc::cmyk(10)}),
                "cmyk");
            CHECK(seen.warnings.empty());
            CHECK(!seen.icc.empty());
            CHECK(seen.row<uint8_t>(0)[0] < seen.row<uint8_t>(44)[3 * 66]);
            for (size_t i = 0; i < seen.bytes.size(); i += 3)
                REQUIRE(std::abs(seen.bytes[i] - seen.bytes[i + 2]) <= 2);
        }
}

TEST_CASE("image: the eight orientations turn a photo upright") {
    // Where the pixel at stored (row, column) belongs in the upright photo, straight from the words
    // of the standard.
    const int64_t w = 24, h = 16;
    const Image stored = smooth_image(w, h, 3);
    for (int orientation = 1; orientation <= 8; ++orientation) {
        const Image got = upright(stored, orientation);
        REQUIRE(got.width == (orientation > 4 ? h : w));
        REQUIRE(got.height == (orientation > 4 ? w : h));
        for (int64_t r = 0; r < h; ++r)
            for (int64_t c = 0; c < w; ++c) {
                const int64_t y[] = {0, r, r, h - 1 - r, h - 1 - r, c, c, w - 1 - c, w - 1 - c};
                const int64_t x[] = {0, c, w - 1 - c, w - 1 - c, c, r, h - 1 - r, h - 1 - r, r};
                REQUIRE(!std::memcmp(got.row<uint8_t>(y[orientation]) + 3 * x[orientation],
                                     stored.row<uint8_t>(r) + 3 * c, 3));
            }
        for (const bool big_endian : {false, true}) {
            const Bytes exif = exif_with_orientation(orientation, big_endian);
            CHECK(exif_orientation(exif) == orientation);
            CHECK(largest_difference(decode(make_jpeg(stored, {.app1 = exif}), "turned"), got) <=
                  6);
            Bytes tiff(exif.begin() + 6, exif.end());
            const auto add_exif = [&](png_structp png, png_infop info) {
                png_set_eXIf_1(png, info, static_cast<png_uint_32>(tiff.size()), tiff.data());
            };
            std::vector<Bytes> rows;
            for (int64_t y = 0; y < h; ++y)
                rows.emplace_back(stored.row<uint8_t>(y), stored.row<uint8_t>(y) + 3 * w);
            CHECK(decode(make_png(24, 16, 8, PNG_COLOR_TYPE_RGB, false, rows, add_exif), "png")
                      .bytes == got.bytes);
        }
    }
    for (const int channels : {1, 2, 4})
        for (const int bits : {8, 16}) {
            const Image image = random_image(5, 3, channels, bits);
            CHECK(upright(upright(image, 6), 8).bytes == image.bytes);
            CHECK(upright(upright(image, 7), 7).bytes == image.bytes);
        }
}

TEST_CASE("image: damaged Exif reads as upright") {
    CHECK(exif_orientation({}) == 1);
    CHECK(exif_orientation(exif_with_orientation(9, true)) == 1);
    CHECK(exif_orientation(exif_with_orientation(0, false)) == 1);
    const Bytes whole = exif_with_orientation(6, true);
    for (size_t n = 0; n < 26; ++n) CHECK(exif_orientation(std::span(whole).first(n)) == 1);
    std::mt19937 random(3);
    for (int i = 0; i < 20000; ++i) {
        Bytes bytes = whole;
        for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
        const int orientation = exif_orientation(bytes);
        REQUIRE((orientation >= 1 && orientation <= 8));
    }
    Bytes far = whole;
    std::fill(far.begin() + 10, far.begin() + 14, uint8_t{0xff});  // the directory offset
    CHECK(exif_orientation(far) == 1);
}

TEST_CASE("image: colour profiles travel, unless they describe other pixels") {
    const Bytes profile = icc::rgb(icc::kSrgb, icc::curve(srgb_to_linear));
    Image image = smooth_image(8, 8, 3);
    image.icc = profile;
    CHECK(decode(encode(image, Format::png), "png").icc == profile);
    CHECK(decode(encode(image, Format::jpeg), "jpeg").icc == profile);
    image.icc[36] = 'x';  // broken: left out
    CHECK(decode(encode(image, Format::png), "png").icc.empty());
    image = smooth_image(8, 8, 1);
    image.icc = profile;
    CHECK(decode(encode(image, Format::png), "png").icc.empty());
    CHECK(decode(encode(image, Format::jpeg), "jpeg").icc.empty());
}

TEST_CASE("image: truncated files are errors at every length") {
    const Image photo = smooth_image(61, 43, 3);
    check_truncation(encode(random_image(20, 17, 3, 8), Format::png), 1);
    check_truncation(encode(photo, Format::jpeg), 1);
    check_truncation(make_jpeg(photo, {.progressive = true}), 1);
    check_truncation(make_jpeg(photo, {.half_chroma = true}), 7);
    contains(error_of([&] {
                 Bytes half = encode(photo, Format::jpeg);
                 half.resize(half.size() / 2);
                 return half;
             }()),
             "JPEG data is damaged: Premature end of JPEG file");
    contains(error_of([&] {
                 Bytes half = encode(random_image(20, 17, 3, 8), Format::png);
                 half.resize(half.size() / 2);
                 return half;
             }()),
             "PNG data is damaged: the file is truncated");
}

TEST_CASE("image: flipped bytes give an error or a picture, nothing else") {
    const Image photo = smooth_image(40, 30, 3);
    const Bytes originals[] = {encode(photo, Format::png), encode(photo, Format::jpeg),
                               make_jpeg(photo, {.progressive = true, .half_chroma = true}),
                               make_jpeg(photo, {.arithmetic = true})};
    std::mt19937 random(5);
    const DecodeLimits limits{.max_pixels = 1'000'000};
    for (const Bytes& original : originals)
        for (int i = 0; i < 1500; ++i) {
            Bytes bytes = original;
            for (unsigned k = 0; k < 1 + random() % 4; ++k)
                bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
            try {
                decode(bytes, "fuzzed", limits);
            } catch (const InputError&) {
            }
        }
}

TEST_CASE("image: a wrong checksum is an error that names the chunk") {
    Bytes png = encode(random_image(20, 17, 3, 8), Format::png);
    const size_t data = find_bytes(png, {'I', 'D', 'A', 'T'});
    png[data + 200] ^= 1;
    contains(error_of(png), "photo: PNG data is damaged: ");
    png[data + 200] ^= 1;
    png[png.size() - 13] ^= 1;  // the checksum of the last IDAT, before the 12 bytes of IEND
    contains(error_of(png), "PNG data is damaged: CRC error in IDAT");
}

TEST_CASE("image: hostile sizes fail at once, on the header") {
    const auto start = std::chrono::steady_clock::now();
    const Bytes png = encode(random_image(4, 4, 1, 8), Format::png);
    contains(error_of(with_size(png, 0x80000000u, 0x80000000u)),
             "2147483648x2147483648 pixels exceed the limit");
    contains(error_of(with_size(png, 0x7fffffffu, 0x7fffffffu)),
             "exceed the limit of 256000000 (--max-pixels)");
    contains(error_of(with_size(png, 0xffffffffu, 1)), "exceed the limit");
    contains(error_of(with_size(png, 0, 7)), "the header says 0x7 pixels");
    contains(error_of(with_size(png, 16000, 16000)), "PNG data is damaged: too short");
    contains(error_of(png, {.max_pixels = 15}), "4x4 pixels exceed the limit of 15");

    Bytes jpeg = encode(smooth_image(16, 16, 3), Format::jpeg);
    const size_t frame = find_bytes(jpeg, {0xff, 0xc0});
    for (const size_t at : {frame + 5, frame + 7}) jpeg[at] = 0xff, jpeg[at + 1] = 0xdc;  // 65500
    contains(error_of(jpeg), "65500x65500 pixels exceed the limit of 256000000 (--max-pixels)");
    for (const size_t at : {frame + 5, frame + 7}) jpeg[at] = 0x3e, jpeg[at + 1] = 0x80;  // 16000
    contains(error_of(jpeg), "JPEG data is damaged: too short");
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    CHECK(seconds.count() < 0.5);
}

TEST_CASE("image: unsupported JPEG processes say so") {
    Bytes jpeg = encode(smooth_image(16, 16, 3), Format::jpeg);
    const size_t frame = find_bytes(jpeg, {0xff, 0xc0});
    jpeg[frame + 4] = 12;
    contains(error_of(jpeg), "this kind of JPEG is not supported: ");
    jpeg[frame + 4] = 8, jpeg[frame + 1] = 0xc3;
    contains(error_of(jpeg), "this kind of JPEG is not supported: ");
}

TEST_CASE("image: thousands of scans are refused") {
    const Bytes whole = make_jpeg(smooth_image(64, 64, 3), {.progressive = true});
    // The first scan, DC coefficients alone, may be repeated without contradiction.
    const size_t first = find_bytes(whole, {0xff, 0xda}),
                 next = find_bytes(whole, {0xff, 0xc4}, first);
    const auto at = [&](size_t offset) {
        return whole.begin() + static_cast<std::ptrdiff_t>(offset);
    };
    Bytes bomb(whole.begin(), at(next));
    for (int i = 0; i < 2000; ++i) bomb.insert(bomb.end(), at(first), at(next));
    bomb.insert(bomb.end(), {0xff, 0xd9});
    contains(error_of(bomb), "JPEG data is damaged: more than 500 scans");
}

TEST_CASE("image: text that inflates is skipped") {
    const auto add_bomb = [](png_structp png, png_infop info) {
        std::string zeros(60'000'000, 'a'), key = "Comment";
        png_text text{};
        text.compression = PNG_TEXT_COMPRESSION_zTXt;
        text.key = key.data(), text.text = zeros.data(), text.text_length = zeros.size();
        png_set_text(png, info, &text, 1);
    };
    const Bytes bomb = make_png(3, 1, 8, PNG_COLOR_TYPE_GRAY, false, {{1, 2, 3}}, add_bomb);
    CHECK(bomb.size() < 1'000'000);
    const auto start = std::chrono::steady_clock::now();
    CHECK(decode(bomb, "bomb").bytes == Bytes{1, 2, 3});
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    CHECK(seconds.count() < 0.05);  // inflating takes longer than that
}

TEST_CASE("image: what is no photo is named") {
    CHECK(error_of({}) == "photo: the file is empty");
    CHECK(error_of({'h', 'e', 'l', 'l', 'o'}) ==
          "photo: not a PNG, JPEG or PPM file (starts with 68 65 6c 6c)");
    CHECK(error_of({0x89}) == "photo: not a PNG, JPEG or PPM file (starts with 89)");
    CHECK(error_of({'G', 'I', 'F', '8', '9', 'a'}) ==
          "photo: not a PNG, JPEG or PPM file (this is a GIF file)");
    CHECK(error_of({'P', '6'}) == "photo: not a PNG, JPEG or PPM file (starts with 50 36)");
    contains(error_of({'P', '3', ' ', '1'}), "a PPM file in text form");
}

TEST_CASE("image: files") {
    const TemporaryFolder folder;
    const auto path = [&](const char* name) { return (folder.path / name).string(); };
    const Image image = random_image(9, 5, 4, 16);
    write_image(path("a.PNG"), image, false);
    CHECK(read_image(path("a.PNG")).bytes == image.bytes);
    CHECK_THROWS_AS(write_image(path("a.PNG"), image, false), UsageError);
    write_image(path("a.PNG"), random_image(3, 3, 1, 8), true);
    CHECK(read_image(path("a.PNG")).width == 3);
    std::filesystem::rename(path("a.PNG"), path("lies.jpg"));  // the signature counts, not the name
    CHECK(read_image(path("lies.jpg")).width == 3);

    CHECK_THROWS_AS(write_image(path("a.gif"), image, false), UsageError);
    CHECK_THROWS_AS(write_image(path("png"), image, false), UsageError);
    CHECK_THROWS_AS(read_image(path("missing.png")), InputError);
    CHECK_THROWS_AS(read_image(folder.path.string()), InputError);
    std::ofstream(path("empty.png")).close();
    CHECK_THROWS_AS(read_image(path("empty.png")), InputError);
    CHECK_THROWS_AS(read_image(path("lies.jpg"), {.max_bytes = 10}), InputError);
}

TEST_CASE("image: sizes that cannot be") {
    CHECK_THROWS_AS(Image::make(0, 1, 1, 8), Error);
    CHECK_THROWS_AS(Image::make(1, 1, 5, 8), Error);
    CHECK_THROWS_AS(Image::make(1, 1, 1, 12), Error);
    CHECK_THROWS_AS(Image::make(int64_t{1} << 32, int64_t{1} << 32, 4, 16), Error);
}
