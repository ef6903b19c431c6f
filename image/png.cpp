#include <png.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

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

// Text is taken as it lies in the file, and never inflated: it is the one place where a few bytes
// may become very many.
constexpr png_byte kKeptChunks[] = "tEXt\0zTXt\0iTXt";
constexpr int kKeptChunkCount = (sizeof kKeptChunks) / 5;
constexpr png_byte kSkippedChunks[] = "sPLT\0hIST\0pCAL\0sCAL";
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
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_ALWAYS, kKeptChunks, kKeptChunkCount);
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

// After the whole file has been read.
void take_metadata(Reader& reader, int orientation, std::span<const uint8_t> exif,
                   PhotoMetadata& metadata) {
    metadata.exif = upright_exif(exif, orientation);
    png_unknown_chunkp chunks = nullptr;
    const int count = png_get_unknown_chunks(reader.png, reader.info, &chunks);
    for (int i = 0; i < count; ++i)
        add_png_chunk(metadata, reinterpret_cast<const char*>(chunks[i].name),
                      {chunks[i].data, chunks[i].size});
    png_uint_32 x = 0, y = 0;
    int unit = PNG_RESOLUTION_UNKNOWN;
    if (png_get_pHYs(reader.png, reader.info, &x, &y, &unit) && unit == PNG_RESOLUTION_METER)
        metadata.pixels_per_metre_x = x, metadata.pixels_per_metre_y = y;
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
    const std::span<const uint8_t> exif(header.exif, header.exif_size);
    const int orientation = exif_orientation(exif);
    take_metadata(reader, orientation, exif, image.metadata);
    return upright(std::move(image), orientation);
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

    Failure failure;
    png_structp png = nullptr;
    png_infop info = nullptr;
};

// On six colourized photos of 6 Mpixel in all, ns and bytes a pixel:
//   level 1  sub 36 1.34   up 36 1.32   average 36 1.30   paeth 45 1.33   best of each row 63 1.30
//   level 2  average 56 1.28    level 3  average 83 1.24    level 6  average 238 1.34
constexpr int kCompression = 1;

class PngEncoder : public RowEncoder {
  public:
    PngEncoder(const ImageHeader& header, ByteSink sink)
        : row_bytes_(header.row_bytes()), output_(header, std::move(sink)) {
        constexpr int64_t kMaxSide = 0x7fffffff;
        if (header.width > kMaxSide || header.height > kMaxSide)
            throw UsageError("PNG is limited to " + std::to_string(kMaxSide) + " pixels a side");
        for (PhotoMetadata::Part& part : png_chunks(header.metadata)) {
            chunk_bytes_.push_back(std::move(part.bytes));
            png_unknown_chunk chunk{};
            std::copy_n(part.type.begin(), 4, chunk.name);
            chunk.data = chunk_bytes_.back().data();
            chunk.size = chunk_bytes_.back().size();
            chunk.location = PNG_HAVE_IHDR;
            chunks_.push_back(chunk);
        }
        exif_ = header.metadata.exif;
        run([&] { start(header); });
    }

    void write(const uint8_t* rows, int64_t count) override {
        output_.take_rows(count);
        for (int64_t y = 0; y < count; ++y, rows += row_bytes_) {
            run([&] { png_write_row(writer_.png, rows); });
            output_.pass_on();
        }
        rows_ += count;
    }
    void finish() override {
        if (rows_ == png_get_image_height(writer_.png, writer_.info))
            run([&] { png_write_end(writer_.png, writer_.info); });
        output_.finish();
    }

  private:
    static void append(png_structp png, png_bytep bytes, size_t count) {
        if (!static_cast<EncoderOutput*>(png_get_io_ptr(png))->append(bytes, count))
            png_error(png, "out of memory");
    }
    template <class Calls>
    void run(const Calls& calls) {
        if (!guarded(writer_.png, calls))
            throw Error(std::string("PNG encoder: ") + writer_.failure.text);
    }
    void start(const ImageHeader& header) {
        constexpr int kColorTypes[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA,
                                       PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};
        png_set_write_fn(writer_.png, &output_, append, nullptr);
        png_set_user_limits(writer_.png, 0x7fffffff, 0x7fffffff);
        png_set_benign_errors(writer_.png, 1);  // a broken profile is left out and costs no photo
        png_set_compression_level(writer_.png, kCompression);
        png_set_filter(writer_.png, PNG_FILTER_TYPE_BASE, PNG_FILTER_AVG);
        png_set_compression_buffer_size(writer_.png, 1 << 16);  // bytes of an IDAT chunk
        png_set_IHDR(writer_.png, writer_.info, static_cast<png_uint_32>(header.width),
                     static_cast<png_uint_32>(header.height), header.bits,
                     kColorTypes[header.channels], PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                     PNG_FILTER_TYPE_DEFAULT);
        if (icc_fits(header.icc, header.gray()))
            png_set_iCCP(writer_.png, writer_.info, "icc", PNG_COMPRESSION_TYPE_BASE,
                         header.icc.data(), static_cast<png_uint_32>(header.icc.size()));
        const PhotoMetadata& about = header.metadata;
        if (about.pixels_per_metre_x > 0)
            png_set_pHYs(writer_.png, writer_.info, about.pixels_per_metre_x,
                         about.pixels_per_metre_y, PNG_RESOLUTION_METER);
        if (!exif_.empty())
            png_set_eXIf_1(writer_.png, writer_.info, static_cast<png_uint_32>(exif_.size()),
                           exif_.data());
        png_set_keep_unknown_chunks(writer_.png, PNG_HANDLE_CHUNK_ALWAYS, nullptr, 0);
        if (!chunks_.empty())
            png_set_unknown_chunks(writer_.png, writer_.info, chunks_.data(),
                                   static_cast<int>(chunks_.size()));
        png_write_info(writer_.png, writer_.info);
        png_set_invalid(writer_.png, writer_.info, PNG_INFO_eXIf);  // else again at the end
        if (std::endian::native == std::endian::little) png_set_swap(writer_.png);
    }

    int64_t row_bytes_, rows_ = 0;
    std::vector<std::vector<uint8_t>> chunk_bytes_;
    std::vector<png_unknown_chunk> chunks_;
    std::vector<uint8_t> exif_;
    EncoderOutput output_;
    Writer writer_;
};

}  // namespace

std::unique_ptr<RowEncoder> png_encoder(const ImageHeader& header, ByteSink sink) {
    return std::make_unique<PngEncoder>(header, std::move(sink));
}

}  // namespace lumachrome
