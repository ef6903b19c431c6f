#include <png.h>

#include <bit>
#include <cstdio>
#include <cstring>
#include <utility>

#include "image/formats.hpp"
#include "image/metadata.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Where libpng leaves its last words before it jumps.
struct Failure {
    char text[160] = "";
};

// libpng writes "IDAT: CRC error"; we say "CRC error in IDAT".
void on_error(png_structp png, png_const_charp text) {
    auto& failure = *static_cast<Failure*>(png_get_error_ptr(png));
    const bool names_chunk = std::strlen(text) > 6 && text[4] == ':' && text[5] == ' ';
    std::snprintf(failure.text, sizeof failure.text, names_chunk ? "%s in %.4s" : "%s",
                  names_chunk ? text + 6 : text, text);
    png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}  // ancillary data only; the library prints nothing

// Runs `calls` (trivial objects only, see formats.hpp); false when libpng jumped out of it.
template <class Calls>
bool guarded(png_structp png, const Calls& calls) {
    if (setjmp(png_jmpbuf(png))) return false;
    calls();
    return true;
}

struct Reader {
    explicit Reader(std::span<const uint8_t> bytes) : rest(bytes) {
        png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning);
        if (png) info = png_create_info_struct(png);
        if (!info) throw ResourceError("out of memory in the PNG decoder");
    }
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    static void read(png_structp png, png_bytep out, size_t count) {
        auto& rest = static_cast<Reader*>(png_get_io_ptr(png))->rest;
        if (count > rest.size()) png_error(png, "the file is truncated");
        std::memcpy(out, rest.data(), count);
        rest = rest.subspan(count);
    }

    std::span<const uint8_t> rest;
    Failure failure;
    png_structp png = nullptr;
    png_infop info = nullptr;
};

// Text is skipped unread: it is the one place where a few bytes may inflate without bound.
constexpr png_byte kSkippedChunks[] = "tEXt\0zTXt\0iTXt\0sPLT\0hIST\0pCAL\0sCAL";
constexpr int kSkippedChunkCount = (sizeof kSkippedChunks) / 5;
constexpr png_alloc_size_t kMaxChunkBytes = 8'000'000;  // any other chunk but IDAT, inflated

struct Header {
    uint32_t width = 0, height = 0;
    int passes = 1, channels = 0, bits = 0, stored_bits = 0;  // as delivered; per pixel in the file
    png_bytep icc = nullptr, exif = nullptr;
    uint32_t icc_size = 0, exif_size = 0;
};

void read_header(Reader& reader, Header& header) {
    png_structp png = reader.png;
    png_infop info = reader.info;
    png_set_read_fn(png, &reader, Reader::read);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);  // check_pixels has judged the size
    png_set_chunk_malloc_max(png, kMaxChunkBytes);
    png_set_chunk_cache_max(png, 64);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, kSkippedChunks, kSkippedChunkCount);
    png_read_info(png, info);

    header.stored_bits = png_get_bit_depth(png, info) * png_get_channels(png, info);
    png_set_expand(png);  // palette to RGB, 1/2/4 bits to 8, tRNS to alpha
    if (std::endian::native == std::endian::little) png_set_swap(png);
    header.passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    header.width = png_get_image_width(png, info), header.height = png_get_image_height(png, info);
    header.channels = png_get_channels(png, info), header.bits = png_get_bit_depth(png, info);

    png_charp profile_name = nullptr;
    int compression = 0;
    png_get_iCCP(png, info, &profile_name, &compression, &header.icc, &header.icc_size);
}

uint32_t big_endian_32(const uint8_t* bytes) {
    return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

// Compressed bytes of all IDAT chunks.
int64_t image_data_bytes(std::span<const uint8_t> bytes) {
    constexpr size_t kSignature = 8, kFrame = 12;  // length, type, CRC
    int64_t total = 0;
    for (size_t at = kSignature; at + kFrame <= bytes.size();) {
        const uint32_t length = big_endian_32(&bytes[at]);
        if (std::memcmp(&bytes[at + 4], "IDAT", 4) == 0) total += length;
        at += kFrame + length;
    }
    return total;
}

}  // namespace

Image decode_png(std::span<const uint8_t> bytes, const std::string& name,
                 const DecodeLimits& limits) {
    // The header chunk is at a fixed place; reading it here keeps the size check ahead of libpng.
    constexpr size_t kWidthAt = 16, kHeaderEnd = 24;
    if (bytes.size() >= kHeaderEnd)
        check_pixels(big_endian_32(&bytes[kWidthAt]), big_endian_32(&bytes[kWidthAt + 4]), name,
                     limits);

    Reader reader(bytes);
    const auto damaged = [&](const char* reason) {
        return InputError(name + ": PNG data is damaged: " + reason);
    };
    Header header;
    if (!guarded(reader.png, [&] { read_header(reader, header); }))
        throw damaged(reader.failure.text);

    // Deflate shrinks at most 1032:1 (RFC 1951: 258 bytes from 2 bits), so a short file with a
    // large header is known to be truncated before memory is taken for its pixels.
    const int64_t row_bytes = (int64_t{header.width} * header.stored_bits + 7) / 8;
    if (row_bytes * header.height / 1032 > static_cast<int64_t>(bytes.size()))
        throw damaged("too short for its size of pixels");
    // And it hardly grows: what lies far beyond the pixels would be inflated for nothing.
    constexpr int64_t kSlack = 65'536;
    if (image_data_bytes(bytes) > 2 * (row_bytes + 1) * int64_t{header.height} + kSlack)
        throw damaged("more image data than its pixels need");

    Image image = Image::make(header.width, header.height, header.channels, header.bits);
    image.icc.assign(header.icc, header.icc + header.icc_size);
    const auto read_pixels = [&] {
        for (int pass = 0; pass < header.passes; ++pass)
            for (int64_t y = 0; y < image.height; ++y)
                png_read_row(reader.png, image.row<uint8_t>(y), nullptr);
        png_read_end(reader.png, reader.info);
        png_get_eXIf_1(reader.png, reader.info, &header.exif_size, &header.exif);
    };
    if (!guarded(reader.png, read_pixels)) throw damaged(reader.failure.text);
    return upright(std::move(image), exif_orientation({header.exif, header.exif_size}));
}

namespace {

struct Writer {
    Writer() {
        png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning);
        if (png) info = png_create_info_struct(png);
        if (!info) throw ResourceError("out of memory in the PNG encoder");
    }
    ~Writer() { png_destroy_write_struct(&png, &info); }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    static void write(png_structp png, png_bytep bytes, size_t count) {
        if (!append(*static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png)), bytes, count))
            png_error(png, "out of memory");
    }

    Failure failure;
    png_structp png = nullptr;
    png_infop info = nullptr;
};

}  // namespace

std::vector<uint8_t> encode_png(const Image& image) {
    constexpr int kColorTypes[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA,
                                   PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};
    constexpr int kCompression = 1;  // on photos, slower levels and filters gain little size
    constexpr int64_t kMaxSide = 0x7fffffff;
    if (image.width > kMaxSide || image.height > kMaxSide)
        throw UsageError("PNG is limited to " + std::to_string(kMaxSide) + " pixels a side");

    Writer writer;
    std::vector<uint8_t> out;
    const bool keep_icc = icc_fits(image.icc, image.gray());
    const auto write = [&] {
        png_structp png = writer.png;
        png_infop info = writer.info;
        png_set_write_fn(png, &out, Writer::write, nullptr);
        png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
        png_set_benign_errors(png, 1);  // a broken profile is left out and costs no photo
        png_set_compression_level(png, kCompression);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
        png_set_IHDR(png, info, static_cast<png_uint_32>(image.width),
                     static_cast<png_uint_32>(image.height), image.bits,
                     kColorTypes[image.channels], PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                     PNG_FILTER_TYPE_DEFAULT);
        if (keep_icc)
            png_set_iCCP(png, info, "icc", PNG_COMPRESSION_TYPE_BASE, image.icc.data(),
                         static_cast<png_uint_32>(image.icc.size()));
        png_write_info(png, info);
        if (std::endian::native == std::endian::little) png_set_swap(png);
        for (int64_t y = 0; y < image.height; ++y) png_write_row(png, image.row<uint8_t>(y));
        png_write_end(png, info);
    };
    if (!guarded(writer.png, write))
        throw Error(std::string("PNG encoder: ") + writer.failure.text);
    return out;
}

}  // namespace lumachrome
