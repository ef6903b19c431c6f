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

namespace {

// Entries of the first directory, read by the test's own code: tag and place.
std::vector<std::pair<uint32_t, size_t>> first_directory(const Tiff& tiff) {
    std::vector<std::pair<uint32_t, size_t>> entries;
    const size_t at = tiff.number(4, 4), count = tiff.number(at, 2);
    for (size_t i = 0; i < count; ++i)
        entries.emplace_back(tiff.number(at + 2 + 12 * i, 2), at + 2 + 12 * i);
    return entries;
}
std::string software_of(const Tiff& tiff) {
    for (const auto& [tag, at] : first_directory(tiff))
        if (tag == 0x0131)
            return reinterpret_cast<const char*>(tiff.bytes.data() + tiff.number(at + 8, 4));
    return "";
}

const Provenance kMark{"program 1.0", "made by program 1.0, model 0123"};

}  // namespace

TEST_CASE("metadata: a result says where its colours come from, in both formats") {
    for (const Format format : {Format::png, Format::jpeg}) {
        Image photo = photo_of(20, 10, 3);
        add_provenance(photo.metadata, kMark);
        const Bytes file = encode(photo, format);
        const PhotoMetadata got = decode(file, "photo").metadata;
        const auto once = [&](const std::string& name) {
            const std::string text(file.begin(), file.end());
            return text.find(name) != text.npos && text.find(name) == text.rfind(name);
        };
        CHECK(once(format == Format::png ? "eXIf" : "Exif"));
        CHECK(got.exif.size() == 44);  // a header, the text, a directory of one entry
        Tiff tiff(false, 1, 0);
        tiff.bytes = got.exif;
        CHECK(software_of(tiff) == "program 1.0");
        CHECK(got.xmp.find("Iptc4xmpExt:DigitalSourceType=\"http://cv.iptc.org/newscodes/"
                           "digitalsourcetype/compositeWithTrainedAlgorithmicMedia\"") !=
              std::string::npos);
        REQUIRE(!got.text.empty());
        CHECK(got.text[0] == PhotoMetadata::Text{"Comment", kMark.note});
        if (format == Format::png)
            CHECK(got.text[1] == PhotoMetadata::Text{"Software", "program 1.0"});
        else
            CHECK(got.text.size() == 1);  // Exif says the other
    }
}

TEST_CASE("metadata: what the photo says stays, unchanged and first") {
    for (const bool big_endian : {false, true}) {
        PhotoMetadata m = everything();
        Tiff before(big_endian, 1, 0), after = before;
        m.exif = before.bytes;
        m.text.push_back({"Software", "Scanner 3"});
        const PhotoMetadata photo = m;
        add_provenance(m, kMark);
        after.bytes = m.exif;
        CHECK(software_of(after) == "program 1.0");
        // Every other entry as it was, in order of tags, and nothing behind the header has moved.
        auto entries = first_directory(after);
        const auto old = first_directory(before);
        REQUIRE(entries.size() == old.size() + 1);
        CHECK(std::is_sorted(entries.begin(), entries.end()));
        std::erase_if(entries, [](const auto& entry) { return entry.first == 0x0131; });
        for (size_t i = 0; i < old.size(); ++i)
            CHECK(std::equal(before.bytes.begin() + std::ptrdiff_t(old[i].second),
                             before.bytes.begin() + std::ptrdiff_t(old[i].second + 12),
                             after.bytes.begin() + std::ptrdiff_t(entries[i].second)));
        CHECK(std::equal(before.bytes.begin() + 8, before.bytes.end(), after.bytes.begin() + 8));
        CHECK(exif_orientation(m.exif) == 1);
        // Comments last, where readers of one comment find them.
        REQUIRE(m.text.size() == photo.text.size() + 1);
        CHECK(std::equal(photo.text.begin(), photo.text.end() - 1, m.text.begin() + 1));
        CHECK(m.text.back().text == "Scanner 3; program 1.0");
        CHECK(m.pixels_per_metre_x == photo.pixels_per_metre_x);
        // Colouring the result again says nothing twice.
        const PhotoMetadata once = m;
        add_provenance(m, kMark);
        CHECK(m == once);
        // Another program's result.
        add_provenance(m, {"other 2", "note"});
        after.bytes = m.exif;
        CHECK(software_of(after) == "program 1.0; other 2");
        CHECK(first_directory(after).size() == old.size() + 1);
    }
}

TEST_CASE("metadata: XMP keeps its packet and gets one property more") {
    const std::string head = "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='r'>",
                      own = "<rdf:Description rdf:about='uuid:1' dc:x='1'/>",
                      tail = "</rdf:RDF></x:xmpmeta><?xpacket end='w'?>";
    const auto marked = [](const std::string& xmp) {
        PhotoMetadata m;
        m.xmp = xmp;
        add_provenance(m, kMark);
        return m.xmp;
    };
    const std::string got = marked(head + own + tail);
    CHECK(got.starts_with(head + own + "<rdf:Description rdf:about=\"uuid:1\""));
    CHECK(got.ends_with("\"/>" + tail));
    CHECK(marked(got) == got);
    // A capture no longer: replaced in place.
    const std::string types = "http://cv.iptc.org/newscodes/digitalsourcetype/",
                      ours = "compositeWithTrainedAlgorithmicMedia",
                      before = "<e:DigitalSourceType>" + types;
    CHECK(marked(head + before + "negativeFilm</e:DigitalSourceType>" + tail) ==
          head + before + ours + "</e:DigitalSourceType>" + tail);
    // What is not understood, or would no longer fit a JPEG, is left alone.
    for (const std::string& other :
         {"no packet"s, head + "<e:DigitalSourceType>7</e:DigitalSourceType>" + tail,
          head + before + "cut", head + std::string(65400, ' ') + tail})
        CHECK(marked(other) == other);
    CHECK(marked(head + "<rdf:Description rdf:about=" + tail).find(ours) != std::string::npos);
}

TEST_CASE("metadata: provenance meets damaged Exif without harm") {
    const auto marked = [](const Bytes& exif) {
        PhotoMetadata m;
        m.exif = exif;
        add_provenance(m, kMark);
        return m.exif;
    };
    const Bytes whole = marked(Tiff(true, 1, 3).bytes);
    for (size_t n = 1; n < whole.size(); ++n)
        marked({whole.begin(), whole.begin() + std::ptrdiff_t(n)});
    Random random(2, Random::Purpose::test);
    for (int trial = 0; trial < 20000; ++trial) {
        Bytes bytes = whole;
        for (int i = 0; i < 4; ++i)
            bytes[static_cast<size_t>(random.below(std::ssize(bytes)))] =
                static_cast<uint8_t>(random.below(256));
        const Bytes got = marked(bytes);
        REQUIRE(got.size() >= bytes.size());
        REQUIRE(got.size() < 70000);
    }
    // A maker's note may fill the segment to its end: it stays whole, and unmarked.
    Bytes large = Tiff(true, 1, 0).bytes;
    large.resize(65520);
    CHECK(marked(large) == large);
    // Software that is no text.
    Tiff odd(false, 1, 0);
    odd.bytes[10] = 0x31, odd.bytes[11] = 1;
    CHECK(marked(odd.bytes) == odd.bytes);
}
