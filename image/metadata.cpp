#include "image/metadata.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace lumachrome {
namespace {

// Unsigned integers of a TIFF block, in its own byte order; nullopt past the end.
struct TiffBlock {
    std::span<const uint8_t> bytes;
    bool big_endian;

    std::optional<uint32_t> read(size_t offset, size_t size) const {
        if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
        uint32_t value = 0;
        for (size_t i = 0; i < size; ++i)
            value = value << 8 | bytes[offset + (big_endian ? i : size - 1 - i)];
        return value;
    }
};

using namespace std::literals;
using Bytes = std::span<const uint8_t>;

constexpr auto kExifName = "Exif\0\0"sv;
constexpr auto kXmpName = "http://ns.adobe.com/xap/1.0/\0"sv;
constexpr auto kXmpExtensionName = "http://ns.adobe.com/xmp/extension/\0"sv;
constexpr auto kXmpKeyword = "XML:com.adobe.xmp"sv;
constexpr size_t kMaxSegment = 65533, kMaxMetadata = 16 << 20;
constexpr int kApp1 = 0xE1, kApp13 = 0xED, kComment = 0xFE;

bool starts_with(Bytes bytes, std::string_view name) {
    return bytes.size() >= name.size() && std::memcmp(bytes.data(), name.data(), name.size()) == 0;
}
bool contains(Bytes bytes, std::string_view text) {
    return std::search(bytes.begin(), bytes.end(), text.begin(), text.end()) != bytes.end();
}
std::string text_of(Bytes bytes) {
    return {bytes.begin(), bytes.end()};
}
PhotoMetadata::Part part(std::string type, std::string_view name, std::string_view bytes) {
    PhotoMetadata::Part made{std::move(type), {name.begin(), name.end()}};
    made.bytes.insert(made.bytes.end(), bytes.begin(), bytes.end());
    return made;
}

// More than ASCII, and well-formed UTF-8 (RFC 3629, lengths only): what tEXt's Latin-1 would
// garble.
bool needs_utf8(std::string_view text) {
    bool beyond_ascii = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto lead = static_cast<uint8_t>(text[i]);
        if (lead < 0x80) continue;
        beyond_ascii = true;
        const int more = lead >= 0xC2 && lead < 0xE0   ? 1
                         : lead >= 0xE0 && lead < 0xF0 ? 2
                         : lead >= 0xF0 && lead < 0xF5 ? 3
                                                       : -1;
        if (more < 0) return false;
        for (int k = 0; k < more; ++k)
            if (++i >= text.size() || (static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) return false;
    }
    return beyond_ascii;
}

size_t total_bytes(const PhotoMetadata& m) {
    size_t total = m.exif.size() + m.xmp.size();
    for (const auto& text : m.text) total += text.keyword.size() + text.text.size();
    for (const auto* parts : {&m.png_chunks, &m.jpeg_segments})
        for (const auto& part : *parts) total += part.bytes.size();
    return total;
}

// The directory at `at`: calls f(tag, place of the entry) for each entry; returns where the offset
// of the next directory stands, nothing if the block ends before.
template <class F>
std::optional<size_t> for_each_entry(const TiffBlock& tiff, size_t at, const F& f) {
    const auto entries = tiff.read(at, 2);
    if (!entries) return {};
    for (size_t i = 0; i < *entries; ++i) {
        const size_t entry = at + 2 + 12 * i;  // tag 2, type 2, count 4, value 4 bytes
        const auto tag = tiff.read(entry, 2);
        if (!tag || !tiff.read(entry + 8, 4)) return {};
        f(*tag, entry);
    }
    return at + 2 + 12 * size_t{*entries};
}

template <int PixelBytes>
void permute_pixels(const Image& from, int64_t start, int64_t step_x, int64_t step_y, Image& to) {
    for (int64_t y = 0; y < to.height; ++y) {
        const uint8_t* in = from.bytes.data() + start + y * step_y;
        uint8_t* out = to.row<uint8_t>(y);
        for (int64_t x = 0; x < to.width; ++x, in += step_x, out += PixelBytes)
            std::memcpy(out, in, PixelBytes);
    }
}

// Unsigned integers into a TIFF block that has room for them.
void store(std::span<uint8_t> tiff, size_t at, size_t size, uint32_t value) {
    const bool big_endian = tiff[0] == 'M';
    for (size_t i = 0; i < size; ++i, value >>= 8)
        tiff[big_endian ? at + size - 1 - i : at + i] = static_cast<uint8_t>(value);
}

// A TIFF block without the name that JPEG puts before it; empty if it is none.
Bytes tiff_of(Bytes app1) {
    if (starts_with(app1, kExifName)) app1 = app1.subspan(kExifName.size());
    if (app1.size() < 8 || app1[0] != app1[1] || (app1[0] != 'I' && app1[0] != 'M')) return {};
    return TiffBlock{app1, app1[0] == 'M'}.read(2, 2) == 42u ? app1 : Bytes{};
}

}  // namespace

int exif_orientation(std::span<const uint8_t> app1) {
    const Bytes bytes = tiff_of(app1);
    if (bytes.empty()) return 1;
    const TiffBlock tiff{bytes, bytes[0] == 'M'};
    constexpr uint32_t kShort = 3;
    uint32_t value = 1;
    for_each_entry(tiff, *tiff.read(4, 4), [&](uint32_t tag, size_t entry) {
        if (tag == 0x0112 && tiff.read(entry + 2, 2) == kShort) value = *tiff.read(entry + 8, 2);
    });
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
}

namespace {

std::vector<uint8_t> turned_exif(std::span<const uint8_t> app1, int orientation) {
    const Bytes bytes = tiff_of(app1);
    std::vector<uint8_t> out(bytes.begin(), bytes.end());
    if (out.empty()) return out;
    const TiffBlock tiff{out, out[0] == 'M'};
    // Two entries exchange type, count and value.
    const auto exchange = [&](size_t a, size_t b) {
        if (orientation >= 5 && a != 0 && b != 0)
            std::swap_ranges(out.begin() + std::ptrdiff_t(a + 2),
                             out.begin() + std::ptrdiff_t(a + 12),
                             out.begin() + std::ptrdiff_t(b + 2));
    };
    size_t width = 0, height = 0, camera = 0;
    const auto next = for_each_entry(tiff, *tiff.read(4, 4), [&](uint32_t tag, size_t entry) {
        if (tag == 0x0112) store(out, entry + 8, 2, 1);
        if (tag == 0x0100) width = entry;
        if (tag == 0x0101) height = entry;
        if (tag == 0x8769) camera = *tiff.read(entry + 8, 4);  // the directory of Exif's own tags
    });
    exchange(width, height);
    if (camera != 0) {
        width = height = 0;
        for_each_entry(tiff, camera, [&](uint32_t tag, size_t entry) {
            if (tag == 0xA002) width = entry;
            if (tag == 0xA003) height = entry;
        });
        exchange(width, height);
    }
    if (!next || !tiff.read(*next, 4)) return out;
    // The second directory describes the thumbnail.
    size_t begin = 0, size = 0;
    for_each_entry(tiff, *tiff.read(*next, 4), [&](uint32_t tag, size_t entry) {
        if (tag == 0x0201) begin = *tiff.read(entry + 8, 4);
        if (tag == 0x0202) size = *tiff.read(entry + 8, 4);
    });
    store(out, *next, 4, 0);
    if (begin < 8 || begin > out.size() || size > out.size() - begin) return out;
    if (begin + size == out.size())
        out.resize(begin);
    else
        std::fill_n(out.begin() + std::ptrdiff_t(begin), size, uint8_t{0});
    return out;
}

}  // namespace

std::vector<uint8_t> upright_exif(std::span<const uint8_t> app1, int orientation) {
    std::vector<uint8_t> out = turned_exif(app1, orientation);
    // Directories that overlap can undo what was written.
    if (exif_orientation(out) != 1) out.clear();
    return out;
}

void add_jpeg_segment(PhotoMetadata& metadata, int marker, std::span<const uint8_t> bytes,
                      int orientation) {
    if (total_bytes(metadata) + bytes.size() > kMaxMetadata) return;
    if (marker == kApp1 && starts_with(bytes, kExifName))
        metadata.exif = upright_exif(bytes, orientation);
    else if (marker == kApp1 && starts_with(bytes, kXmpName))
        metadata.xmp = text_of(bytes.subspan(kXmpName.size()));
    else if (marker == kApp13 || (marker == kApp1 && starts_with(bytes, kXmpExtensionName)))
        metadata.jpeg_segments.push_back(
            {std::string(1, static_cast<char>(marker)), {bytes.begin(), bytes.end()}});
    else if (marker == kComment)
        metadata.text.push_back({"Comment", text_of(bytes)});
}

void add_png_chunk(PhotoMetadata& metadata, const std::string& chunk,
                   std::span<const uint8_t> bytes) {
    if (total_bytes(metadata) + bytes.size() > kMaxMetadata) return;
    const auto zero = std::find(bytes.begin(), bytes.end(), uint8_t{0});
    const auto keyword_bytes = static_cast<size_t>(zero - bytes.begin());
    if (zero == bytes.end() || keyword_bytes < 1 || keyword_bytes > 79) return;
    const std::string keyword = text_of(bytes.first(keyword_bytes));
    const Bytes rest = bytes.subspan(keyword_bytes + 1);
    // Neither compressed nor in a language nor translated.
    const bool plain_utf8 =
        chunk == "iTXt" && rest.size() >= 4 && rest[0] == 0 && rest[2] == 0 && rest[3] == 0;
    if (chunk == "tEXt") {
        metadata.text.push_back({keyword, text_of(rest)});
    } else if (plain_utf8 && keyword == kXmpKeyword) {
        metadata.xmp = text_of(rest.subspan(4));
    } else if (plain_utf8) {
        metadata.text.push_back({keyword, text_of(rest.subspan(4))});
    } else {
        metadata.png_chunks.push_back({chunk, {bytes.begin(), bytes.end()}});
    }
}

std::vector<PhotoMetadata::Part> jpeg_segments(const PhotoMetadata& metadata) {
    std::vector<PhotoMetadata::Part> parts;
    const auto add = [&](PhotoMetadata::Part made) {
        if (made.bytes.size() <= kMaxSegment) parts.push_back(std::move(made));
    };
    const std::string app1(1, static_cast<char>(kApp1)), comment(1, static_cast<char>(kComment));
    if (!metadata.exif.empty())
        add(part(app1, kExifName,
                 {reinterpret_cast<const char*>(metadata.exif.data()), metadata.exif.size()}));
    if (!metadata.xmp.empty()) add(part(app1, kXmpName, metadata.xmp));
    for (const auto& kept : metadata.jpeg_segments) add(kept);
    for (const auto& text : metadata.text)
        if (text.keyword != "Software" || !contains(metadata.exif, text.text))  // Exif says it
            add(part(comment, text.keyword == "Comment" ? "" : text.keyword + ": ", text.text));
    return parts;
}

std::vector<PhotoMetadata::Part> png_chunks(const PhotoMetadata& metadata) {
    std::vector<PhotoMetadata::Part> parts;
    if (!metadata.xmp.empty())
        parts.push_back(part("iTXt", std::string(kXmpKeyword) + "\0\0\0\0\0"s, metadata.xmp));
    for (const auto& text : metadata.text)
        parts.push_back(needs_utf8(text.text)
                            ? part("iTXt", text.keyword + "\0\0\0\0\0"s, text.text)
                            : part("tEXt", text.keyword + '\0', text.text));
    parts.insert(parts.end(), metadata.png_chunks.begin(), metadata.png_chunks.end());
    return parts;
}

namespace {

constexpr uint32_t kSoftware = 0x0131, kAscii = 2;
constexpr size_t kEntry = 12;  // tag 2, type 2, count 4, value or its offset 4
constexpr auto kSourceType = "DigitalSourceType"sv;
constexpr auto kSourceTypes = "http://cv.iptc.org/newscodes/digitalsourcetype/"sv;
constexpr auto kTrainedComposite = "compositeWithTrainedAlgorithmicMedia"sv;

std::string also(const std::string& said, const std::string& ours) {
    if (said.ends_with(ours)) return said;
    return said.empty() ? ours : said + "; " + ours;
}

// The text of an entry; nullopt when it is none or lies outside.
std::optional<std::string> ascii_of(const TiffBlock& tiff, size_t entry) {
    const size_t count = *tiff.read(entry + 4, 4),
                 at = count > 4 ? *tiff.read(entry + 8, 4) : entry + 8;
    if (tiff.read(entry + 2, 2) != kAscii || at > tiff.bytes.size() ||
        count > tiff.bytes.size() - at)
        return {};
    std::string text = text_of(tiff.bytes.subspan(at, count));
    text.resize(std::min(text.size(), text.find('\0')));
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

// Offsets count from the start of the block, so nothing in it may move: the text, and a directory
// that has one entry more, are appended.
std::vector<uint8_t> with_software(const std::vector<uint8_t>& exif, const std::string& software) {
    if (!exif.empty() && tiff_of(exif).size() != exif.size()) return exif;
    static const std::vector<uint8_t> kNoEntries{'I', 'I', 42, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const std::vector<uint8_t>& old = exif.empty() ? kNoEntries : exif;
    const TiffBlock tiff{old, old[0] == 'M'};
    const size_t directory = *tiff.read(4, 4);
    size_t found = 0, before = 0, entries = 0;
    const auto next = for_each_entry(tiff, directory, [&](uint32_t tag, size_t entry) {
        if (tag == kSoftware) found = entry;
        before += tag < kSoftware;
        ++entries;
    });
    const auto said = found ? ascii_of(tiff, found) : std::optional(""s);
    if (!next || !tiff.read(*next, 4) || !said || entries == 0xFFFF) return exif;
    if (said->ends_with(software)) return exif;

    std::vector<uint8_t> out = old;
    const auto grow = [&out](size_t bytes) {
        const size_t at = (out.size() + 1) / 2 * 2;  // TIFF wants words
        out.resize(at + bytes);
        return at;
    };
    const std::string text = also(*said, software);
    const size_t text_at = grow(text.size() + 1);
    std::copy(text.begin(), text.end(), out.begin() + std::ptrdiff_t(text_at));
    if (!found) {
        const Bytes listed = tiff.bytes.subspan(directory, *next + 4 - directory);
        const size_t size = listed.size() + kEntry, at = grow(size), split = 2 + kEntry * before;
        found = at + split;
        std::copy_n(listed.begin(), split, out.begin() + std::ptrdiff_t(at));
        std::copy(listed.begin() + std::ptrdiff_t(split), listed.end(),
                  out.begin() + std::ptrdiff_t(found + kEntry));
        store(out, at, 2, static_cast<uint32_t>(entries + 1));
        store(out, 4, 4, static_cast<uint32_t>(at));
    }
    store(out, found, 2, kSoftware);
    store(out, found + 2, 2, kAscii);
    store(out, found + 4, 4, static_cast<uint32_t>(text.size() + 1));
    store(out, found + 8, 4, static_cast<uint32_t>(text_at));
    return out.size() + kExifName.size() <= kMaxSegment ? out : exif;
}

// rdf:about of the packet's own descriptions; all of them must agree.
std::string subject_of(const std::string& xmp) {
    constexpr auto kAbout = "rdf:about="sv;
    const size_t at = xmp.find(kAbout), begin = at + kAbout.size() + 1;
    if (at == xmp.npos || begin > xmp.size()) return {};
    const size_t end = xmp.find(xmp[begin - 1], begin);
    return end == xmp.npos ? ""s : xmp.substr(begin, end - begin);
}

std::string with_source_type(std::string xmp) {
    constexpr auto kEnd = "</rdf:RDF>"sv;
    if (xmp.empty())
        xmp =
            "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>"
            "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
            "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
            "</rdf:RDF></x:xmpmeta><?xpacket end=\"w\"?>";
    std::string marked = xmp;
    if (const size_t said = xmp.find(kSourceType); said != xmp.npos) {
        const size_t value = xmp.find(kSourceTypes, said), begin = value + kSourceTypes.size();
        constexpr size_t kNear = 80;  // in the same element
        if (value == xmp.npos || value - said > kNear) return xmp;
        const size_t end = xmp.find_first_of("\"'<", begin);
        if (end == xmp.npos) return xmp;
        marked.replace(begin, end - begin, kTrainedComposite);
    } else if (const size_t end = xmp.rfind(kEnd); end != xmp.npos) {
        marked.insert(end,
                      "<rdf:Description rdf:about=\"" + subject_of(xmp) +
                          "\" xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\""
                          " Iptc4xmpExt:" +
                          std::string(kSourceType) + "=\"" + std::string(kSourceTypes) +
                          std::string(kTrainedComposite) + "\"/>");
    }
    return marked.size() + kXmpName.size() <= kMaxSegment ? marked : xmp;
}

}  // namespace

void add_provenance(PhotoMetadata& metadata, const Provenance& provenance) {
    metadata.exif = with_software(metadata.exif, provenance.software);
    metadata.xmp = with_source_type(std::move(metadata.xmp));
    auto& texts = metadata.text;
    const auto software = std::find_if(texts.begin(), texts.end(),
                                       [](const auto& text) { return text.keyword == "Software"; });
    if (software != texts.end())
        software->text = also(software->text, provenance.software);
    else
        texts.insert(texts.begin(), {"Software", provenance.software});
    const PhotoMetadata::Text note{"Comment", provenance.note};
    if (std::find(texts.begin(), texts.end(), note) == texts.end())
        texts.insert(texts.begin(), note);
}

Image upright(Image stored, int orientation) {
    if (orientation <= 1 || orientation > 8) return stored;
    const bool exchanged = orientation >= 5;
    const bool from_right =
        orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom =
        orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const int64_t pixel = stored.pixel_bytes(), row = stored.row_bytes();

    // Walking the upright photo is walking the stored one from a corner with signed steps.
    const int64_t start =
        (from_right ? row - pixel : 0) + (from_bottom ? row * (stored.height - 1) : 0);
    int64_t step_x = from_right ? -pixel : pixel, step_y = from_bottom ? -row : row;
    if (exchanged) std::swap(step_x, step_y);

    Image turned = exchanged
                       ? Image::make(stored.height, stored.width, stored.channels, stored.bits)
                       : Image::make(stored.width, stored.height, stored.channels, stored.bits);
    turned.icc = std::move(stored.icc);
    turned.metadata = std::move(stored.metadata);
    turned.warnings = std::move(stored.warnings);
    if (exchanged)
        std::swap(turned.metadata.pixels_per_metre_x, turned.metadata.pixels_per_metre_y);
    switch (pixel) {
        case 1:
            permute_pixels<1>(stored, start, step_x, step_y, turned);
            break;
        case 2:
            permute_pixels<2>(stored, start, step_x, step_y, turned);
            break;
        case 3:
            permute_pixels<3>(stored, start, step_x, step_y, turned);
            break;
        case 4:
            permute_pixels<4>(stored, start, step_x, step_y, turned);
            break;
        case 6:
            permute_pixels<6>(stored, start, step_x, step_y, turned);
            break;
        default:
            permute_pixels<8>(stored, start, step_x, step_y, turned);
            break;
    }
    return turned;
}

}  // namespace lumachrome
