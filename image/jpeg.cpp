// jpeglib.h needs FILE and size_t and includes neither; jerror.h needs jpeglib.h's configuration.
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "image/formats.hpp"
#include "image/metadata.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

struct Failure {
    jpeg_error_mgr manager;
    jmp_buf jump;
    int code = 0;
    char text[JMSG_LENGTH_MAX] = "";
};

Failure& failure_of(j_common_ptr codec) {
    return *static_cast<Failure*>(codec->client_data);
}

[[noreturn]] void fail(j_common_ptr codec) {
    Failure& failure = failure_of(codec);
    failure.code = codec->err->msg_code;
    if (!*failure.text) codec->err->format_message(codec, failure.text);
    std::longjmp(failure.jump, 1);
}

// libjpeg fills what it cannot read with gray and only warns; these warnings mean lost pixels. The
// others (bytes before a marker, odd version numbers) occur in intact photos.
void on_message(j_common_ptr codec, int level) {
    constexpr int kLostPixels[] = {JWRN_JPEG_EOF, JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE,
                                   JWRN_MUST_RESYNC, JWRN_ARITH_BAD_CODE};
    if (level < 0 &&
        std::count(std::begin(kLostPixels), std::end(kLostPixels), codec->err->msg_code))
        fail(codec);
}

template <class Codec>
void install(Codec& codec, Failure& failure) {
    codec.err = jpeg_std_error(&failure.manager);
    codec.err->error_exit = fail;
    codec.err->emit_message = on_message;
    codec.client_data = &failure;
}

// Runs `calls` (trivial objects only, see formats.hpp); false when libjpeg jumped out of it.
template <class Calls>
bool guarded(Failure& failure, const Calls& calls) {
    if (setjmp(failure.jump)) return false;
    calls();
    return true;
}

// A progressive scan may cost a few bytes in the file and a pass over all coefficients here. Real
// files have about ten.
constexpr int kMaxScans = 500;

void on_progress(j_common_ptr codec) {
    if (reinterpret_cast<j_decompress_ptr>(codec)->input_scan_number <= kMaxScans) return;
    std::snprintf(failure_of(codec).text, JMSG_LENGTH_MAX, "more than %d scans", kMaxScans);
    fail(codec);
}

struct Decompressor {
    Decompressor() {
        install(codec, failure);
        if (!guarded(failure, [&] { jpeg_create_decompress(&codec); }))
            throw ResourceError(failure.text);
        progress.progress_monitor = on_progress;
        codec.progress = &progress;
    }
    ~Decompressor() {
        jpeg_destroy_decompress(&codec);
        std::free(icc);
    }
    Decompressor(const Decompressor&) = delete;
    Decompressor& operator=(const Decompressor&) = delete;

    jpeg_decompress_struct codec{};
    jpeg_progress_mgr progress{};
    Failure failure;
    JOCTET* icc = nullptr;  // malloc'ed by libjpeg
    unsigned icc_size = 0;
};

bool stored_as_cmyk(const jpeg_decompress_struct& codec) {
    return codec.jpeg_color_space == JCS_CMYK || codec.jpeg_color_space == JCS_YCCK;
}

// Naive inks: each one takes its share of white. Adobe's files hold 255 - ink.
void cmyk_to_rgb(const uint8_t* cmyk, bool inverted, int64_t width, uint8_t* rgb) {
    const int flip = inverted ? 0 : 255;
    for (int64_t x = 0; x < width; ++x, cmyk += 4)
        for (int c = 0; c < 3; ++c)
            *rgb++ = static_cast<uint8_t>(((cmyk[c] ^ flip) * (cmyk[3] ^ flip) + 127) / 255);
}

int orientation_of(const jpeg_decompress_struct& codec) {
    for (auto marker = codec.marker_list; marker; marker = marker->next)
        if (marker->marker == JPEG_APP0 + 1 && marker->data_length >= 6 &&
            !std::memcmp(marker->data, "Exif\0", 6))
            return exif_orientation({marker->data, marker->data_length});
    return 1;
}

}  // namespace

Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name,
                  const DecodeLimits& limits) {
    Decompressor jpeg;
    jpeg_decompress_struct& codec = jpeg.codec;
    const auto error = [&] {
        const int code = jpeg.failure.code;
        const bool unsupported = code == JERR_BAD_PRECISION || code == JERR_SOF_UNSUPPORTED ||
                                 code == JERR_CONVERSION_NOTIMPL || code == JERR_NOTIMPL ||
                                 code == JERR_NOT_COMPILED;
        if (code == JERR_OUT_OF_MEMORY) return InputError(name + ": out of memory while decoding");
        return InputError(
            name +
            (unsupported ? ": this kind of JPEG is not supported: " : ": JPEG data is damaged: ") +
            jpeg.failure.text);
    };

    const auto read_header = [&] {
        jpeg_mem_src(&codec, bytes.data(), bytes.size());
        jpeg_save_markers(&codec, JPEG_APP0 + 1, 0xffff);  // Exif
        jpeg_save_markers(&codec, JPEG_APP0 + 2, 0xffff);  // ICC
        jpeg_read_header(&codec, TRUE);
        jpeg_read_icc_profile(&codec, &jpeg.icc, &jpeg.icc_size);
    };
    if (!guarded(jpeg.failure, read_header)) throw error();
    check_pixels(codec.image_width, codec.image_height, name, limits);

    // A Huffman-coded block costs one bit at least, so a short file with a large header is known to
    // be truncated before memory is taken for its pixels.
    int64_t blocks = 0;
    for (int c = 0; c < codec.num_components; ++c)
        blocks += int64_t{codec.comp_info[c].width_in_blocks} * codec.comp_info[c].height_in_blocks;
    if (!codec.arith_code && blocks / 8 > static_cast<int64_t>(bytes.size()))
        throw InputError(name + ": JPEG data is damaged: too short for its size of pixels");

    const bool cmyk = stored_as_cmyk(codec), gray = codec.jpeg_color_space == JCS_GRAYSCALE;
    const bool inverted = codec.saw_Adobe_marker;
    codec.out_color_space = cmyk ? JCS_CMYK : gray ? JCS_GRAYSCALE : JCS_RGB;
    Image image = Image::make(codec.image_width, codec.image_height, gray ? 1 : 3, 8);
    std::vector<uint8_t> inks(cmyk ? static_cast<size_t>(image.width) * 4 : 0);
    const int orientation = orientation_of(codec);  // finishing frees the markers
    const auto read_pixels = [&] {
        jpeg_start_decompress(&codec);
        while (codec.output_scanline < codec.output_height) {
            uint8_t* row = image.row<uint8_t>(codec.output_scanline);
            JSAMPROW target = cmyk ? inks.data() : row;
            jpeg_read_scanlines(&codec, &target, 1);
            if (cmyk) cmyk_to_rgb(inks.data(), inverted, image.width, row);
        }
        jpeg_finish_decompress(&codec);
    };
    if (!guarded(jpeg.failure, read_pixels)) throw error();
    if (!cmyk) image.icc.assign(jpeg.icc, jpeg.icc + jpeg.icc_size);
    return upright(std::move(image), orientation);
}

namespace {

// Compressed bytes leave libjpeg in pieces of this buffer.
struct Destination {
    jpeg_destination_mgr manager{};
    std::vector<uint8_t> out;
    JOCTET piece[1 << 16];

    static Destination& of(j_compress_ptr codec) {
        return *reinterpret_cast<Destination*>(codec->dest);
    }
    static void rewind(j_compress_ptr codec) {
        Destination& to = of(codec);
        to.manager.next_output_byte = to.piece, to.manager.free_in_buffer = sizeof to.piece;
    }
    static boolean flush(j_compress_ptr codec) {  // libjpeg calls it with the whole piece full
        if (!append(of(codec).out, of(codec).piece, sizeof piece))
            ERREXIT1(codec, JERR_OUT_OF_MEMORY, 0);
        rewind(codec);
        return TRUE;
    }
    static void finish(j_compress_ptr codec) {
        Destination& to = of(codec);
        if (!append(to.out, to.piece, sizeof to.piece - to.manager.free_in_buffer))
            ERREXIT1(codec, JERR_OUT_OF_MEMORY, 0);
    }
};

struct Compressor {
    Compressor() {
        install(codec, failure);
        if (!guarded(failure, [&] { jpeg_create_compress(&codec); }))
            throw ResourceError(failure.text);
        destination.manager.init_destination = Destination::rewind;
        destination.manager.empty_output_buffer = Destination::flush;
        destination.manager.term_destination = Destination::finish;
        codec.dest = &destination.manager;
    }
    ~Compressor() { jpeg_destroy_compress(&codec); }
    Compressor(const Compressor&) = delete;
    Compressor& operator=(const Compressor&) = delete;

    jpeg_compress_struct codec{};
    Failure failure;
    Destination destination;
};

}  // namespace

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
    if (image.has_alpha()) throw UsageError("JPEG cannot hold transparency; write a PNG");
    if (std::max(image.width, image.height) > JPEG_MAX_DIMENSION)
        throw UsageError("JPEG is limited to " + std::to_string(JPEG_MAX_DIMENSION) +
                         " pixels a side; write a PNG");

    const auto jpeg =
        std::make_unique<Compressor>();  // 64 KiB of buffer are too much for a thread's stack
    const int64_t samples = image.width * image.channels;
    std::vector<uint8_t> row_8_bits(static_cast<size_t>(samples));
    const bool keep_icc = icc_fits(image.icc, image.gray());
    const auto write = [&] {
        jpeg_compress_struct& codec = jpeg->codec;
        codec.image_width = static_cast<JDIMENSION>(image.width);
        codec.image_height = static_cast<JDIMENSION>(image.height);
        codec.input_components = image.channels;
        codec.in_color_space = image.gray() ? JCS_GRAYSCALE : JCS_RGB;
        jpeg_set_defaults(&codec);
        jpeg_set_quality(&codec, quality, TRUE);
        for (int c = 0; c < codec.num_components; ++c)
            codec.comp_info[c].h_samp_factor = codec.comp_info[c].v_samp_factor = 1;  // 4:4:4
        jpeg_start_compress(&codec, TRUE);
        if (keep_icc)
            jpeg_write_icc_profile(&codec, image.icc.data(),
                                   static_cast<unsigned>(image.icc.size()));
        for (int64_t y = 0; y < image.height; ++y) {
            if (image.bits == 16) {
                const auto* wide = image.row<uint16_t>(y);
                std::transform(wide, wide + samples, row_8_bits.begin(), [](uint16_t v) {
                    return static_cast<uint8_t>((v * 255 + 32767) / 65535);
                });
            } else {
                std::memcpy(row_8_bits.data(), image.row<uint8_t>(y), row_8_bits.size());
            }
            JSAMPROW row = row_8_bits.data();
            jpeg_write_scanlines(&codec, &row, 1);
        }
        jpeg_finish_compress(&codec);
    };
    if (!guarded(jpeg->failure, write))
        throw Error(std::string("JPEG encoder: ") + jpeg->failure.text);
    return std::move(jpeg->destination.out);
}

}  // namespace lumachrome
