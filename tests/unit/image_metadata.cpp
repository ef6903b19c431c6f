// What travels with a photo: nothing is lost, the photo is upright, and the gray thumbnail is gone.
#include "image/metadata.hpp"

#include <doctest/doctest.h>

#include <string>

#include "image/codec.hpp"
#include "image/color.hpp"
#include "tensor/random.hpp"

using namespace lumachrome;
using namespace std::literals;

namespace {

using Bytes = std::vector<uint8_t>;

// A TIFF block, little or big endian: orientation, width 40 and height 30 in both directories of
// the photo, and a thumbnail of 20 bytes with `behind` bytes after it.
class Tiff {
  public:
    Tiff(bool big_endian, int orientation, size_t behind) : big_(big_endian) {
        bytes = big_ ? Bytes{'M', 'M', 0, 42} : Bytes{'I', 'I', 42, 0};
        put(8, 4);
        directory({{0x0100, 3, 40}, {0x0101, 3, 30}, {0x0112, 3, orientation}, {0x8769, 4, 62}});
        next_at = bytes.size();
        put(92, 4);  // the directory of the thumbnail
        directory({{0xA002, 3, 40}, {0xA003, 4, 30}});
        put(0, 4);
        directory({{0x0201, 4, 122}, {0x0202, 4, 20}});
        put(0, 4);
        bytes.insert(bytes.end(), 20, 0xAB);
        bytes.insert(bytes.end(), behind, 0xCD);
    }
    uint32_t number(size_t at, size_t size) const {
        uint32_t value = 0;
        for (size_t i = 0; i < size; ++i)
            value = value << 8 | bytes[at + (big_ ? i : size - 1 - i)];
        return value;
    }
    Bytes bytes;
    size_t next_at = 0;

  private:
    struct Entry {
        int tag, type, value;
    };
    void put(int value, size_t size) {
        for (size_t i = 0; i < size; ++i)
            bytes.push_back(static_cast<uint8_t>(value >> 8 * (big_ ? size - 1 - i : i)));
    }
    void directory(std::initializer_list<Entry> entries) {
        put(static_cast<int>(entries.size()), 2);
        for (const Entry& e : entries) {
            put(e.tag, 2), put(e.type, 2), put(1, 4);
            put(e.value, e.type == 3 ? 2 : 4);
            if (e.type == 3) put(0, 2);
        }
    }
    bool big_;
};

Image photo_of(int64_t width, int64_t height, int channels) {
    Image image = Image::make(width, height, channels, 8);
    for (size_t i = 0; i < image.bytes.size(); ++i) image.bytes[i] = static_cast<uint8_t>(i * 7);
    return image;
}

PhotoMetadata everything() {
    PhotoMetadata m;
    m.exif = Tiff(true, 1, 0).bytes;
    m.exif.resize(122);  // without its thumbnail
    std::fill_n(m.exif.begin() + 58, 4, uint8_t{0});
    m.xmp =
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'>gr\xc3\xbc\xc3\x9f"
        "e</x:xmpmeta>";
    m.text = {{"Comment",
               "Gro\xc3\x9f"
               "mutter, 1931"},
              {"Title", "at the sea"}};
    m.pixels_per_metre_x = m.pixels_per_metre_y = 11811;  // 300 dpi
    return m;
}

}  // namespace

TEST_CASE("metadata: both formats give back what they were given") {
    for (const Format format : {Format::png, Format::jpeg}) {
        Image photo = photo_of(20, 10, 3);
        photo.metadata = everything();
        const Image again = decode(encode(photo, format), "photo");
        CHECK(again.metadata.exif == photo.metadata.exif);
        CHECK(again.metadata.xmp == photo.metadata.xmp);
        CHECK(again.metadata.pixels_per_metre_x == 11811);
        REQUIRE(again.metadata.text.size() == 2);
        CHECK(again.metadata.text[0] == photo.metadata.text[0]);
        // JPEG has no keywords.
        CHECK(again.metadata.text[1].text ==
              (format == Format::png ? "at the sea" : "Title: at the sea"));
    }
}

TEST_CASE("metadata: text of PNG is UTF-8 where it must be, and Latin-1 stays what it was") {
    PhotoMetadata m;
    m.text = {{"a", "plain"}, {"b", "\xc3\xbc"}, {"c", "\xfc"}, {"d", "cut \xc3"}};
    const auto chunks = png_chunks(m);
    REQUIRE(chunks.size() == 4);
    CHECK(chunks[0].type == "tEXt");
    CHECK(chunks[1].type == "iTXt");
    CHECK(chunks[2].type == "tEXt");
    CHECK(chunks[3].type == "tEXt");
    PhotoMetadata again;
    for (const auto& chunk : chunks) add_png_chunk(again, chunk.type, chunk.bytes);
    CHECK(again == m);
}

TEST_CASE("metadata: what one format alone can hold stays in it") {
    Image photo = photo_of(9, 9, 1);
    photo.metadata.jpeg_segments = {{"\xED", {1, 2, 3}}};
    const auto compressed = "Notes\0\0not inflated"s;
    photo.metadata.png_chunks = {{"zTXt", {compressed.begin(), compressed.end()}}};
    const PhotoMetadata jpeg = decode(encode(photo, Format::jpeg), "jpeg").metadata;
    CHECK(jpeg.jpeg_segments == photo.metadata.jpeg_segments);
    CHECK(jpeg.png_chunks.empty());
    const PhotoMetadata png = decode(encode(photo, Format::png), "png").metadata;
    CHECK(png.png_chunks == photo.metadata.png_chunks);
    CHECK(png.jpeg_segments.empty());
}

TEST_CASE("metadata: Exif follows the photo when it is turned upright") {
    for (const bool big_endian : {false, true})
        for (int orientation = 1; orientation <= 8; ++orientation)
            for (const size_t behind : {0, 5}) {
                CAPTURE(orientation);
                const Tiff tiff(big_endian, orientation, behind);
                Tiff turned = tiff;
                turned.bytes = upright_exif(tiff.bytes, orientation);
                CHECK(exif_orientation(turned.bytes) == 1);
                const bool exchanged = orientation >= 5;
                CHECK(turned.number(18, 2) == (exchanged ? 30 : 40));  // width, a short
                CHECK(turned.number(30, 2) == (exchanged ? 40 : 30));
                CHECK(turned.number(72, exchanged ? 4 : 2) == (exchanged ? 30 : 40));
                CHECK(turned.number(84, exchanged ? 2 : 4) == (exchanged ? 40 : 30));
                CHECK(turned.number(turned.next_at, 4) == 0);  // no second directory
                CHECK(std::count(turned.bytes.begin(), turned.bytes.end(), 0xAB) == 0);
                CHECK(turned.bytes.size() == (behind ? tiff.bytes.size() : tiff.bytes.size() - 20));
            }
    // Through a file: stored lying, read upright.
    Image photo = photo_of(40, 30, 1);
    photo.metadata.exif = Tiff(true, 6, 0).bytes;
    for (const Format format : {Format::png, Format::jpeg}) {
        const Image read = decode(encode(photo, format), "photo");
        CHECK(read.width == 30);
        CHECK(exif_orientation(read.metadata.exif) == 1);
        CHECK(read.metadata.exif.size() == 122);
    }
}

TEST_CASE("metadata: damaged blocks cost nothing, whatever they say") {
    CHECK(upright_exif({}, 1).empty());
    CHECK(upright_exif(Bytes{'n', 'o', ' ', 't', 'i', 'f', 'f', ' ', '.'}, 6).empty());
    const Bytes whole = Tiff(false, 6, 3).bytes;
    for (size_t n = 0; n < whole.size(); ++n) upright_exif(std::span(whole).first(n), 6);
    Random random(1, Random::Purpose::test);
    for (int trial = 0; trial < 20000; ++trial) {
        Bytes bytes = whole;
        for (int i = 0; i < 4; ++i)
            bytes[static_cast<size_t>(random.below(std::ssize(bytes)))] =
                static_cast<uint8_t>(random.below(256));
        const Bytes turned = upright_exif(bytes, 6);
        REQUIRE(turned.size() <= bytes.size());
    }
    PhotoMetadata m;
    add_png_chunk(m, "tEXt", Bytes{});
    add_png_chunk(m, "tEXt", Bytes{'n', 'o', ' ', 'z', 'e', 'r', 'o'});
    add_png_chunk(m, "iTXt", Bytes{0, 0, 0});
    add_jpeg_segment(m, 0xE1, Bytes{'E', 'x'}, 1);
    CHECK(m == PhotoMetadata{});
    // More than 16 MiB: the rest is left out.
    for (int i = 0; i < 400; ++i) add_jpeg_segment(m, 0xFE, Bytes(65533, 'a'), 1);
    CHECK(m.text.size() == 255);  // with their keywords
}

TEST_CASE("metadata: a long part that JPEG cannot hold is left out, the photo stays") {
    Image photo = photo_of(8, 8, 3);
    photo.metadata.xmp = std::string(70000, 'x');
    CHECK(decode(encode(photo, Format::jpeg), "photo").metadata.xmp.empty());
    CHECK(decode(encode(photo, Format::png), "photo").metadata.xmp.size() == 70000);
}

TEST_CASE("metadata: colours carry the photo's") {
    Image photo = photo_of(12, 8, 1);
    photo.metadata = everything();
    CHECK(merged(photo).metadata == photo.metadata);
}
