// jpeglib.h needs FILE and size_t and includes neither; jerror.h needs jpeglib.h's configuration.
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "image/formats.hpp"
#include "image/metadata.hpp"
#include "image/profile.hpp"
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

// Inks without a profile: each one takes its share of white.
class NaiveInks : public RowTransform {
  public:
    void apply(const uint8_t* cmyk, uint8_t* rgb, int64_t pixels) const override {
        for (int64_t x = 0; x < pixels; ++x, cmyk += 4)
            for (int c = 0; c < 3; ++c)
                *rgb++ = static_cast<uint8_t>(((255 - cmyk[c]) * (255 - cmyk[3]) + 127) / 255);
    }
};

ProfileReading read_ink_profile(std::span<const uint8_t> icc) {
    ProfileReading profile;
    if (icc.empty())
        profile.warning = "CMYK without a colour profile; its colours are approximate";
    else
        profile = read_profile(icc, {Samples::cmyk});
    if (!profile.to_srgb) profile.to_srgb = std::make_unique<NaiveInks>();
    return profile;
}

int orientation_of(const jpeg_decompress_struct& codec) {
    for (auto marker = codec.marker_list; marker; marker = marker->next)
        if (marker->marker == JPEG_APP0 + 1 && marker->data_length >= 6 &&
            !std::memcmp(marker->data, "Exif\0", 6))
            return exif_orientation({marker->data, marker->data_length});
    return 1;
}

void take_metadata(const jpeg_decompress_struct& codec, int orientation, PhotoMetadata& metadata) {
    for (auto marker = codec.marker_list; marker; marker = marker->next)
        add_jpeg_segment(metadata, marker->marker, {marker->data, marker->data_length},
                         orientation);
    constexpr double kInch = 0.0254, kCentimetre = 0.01;
    if (!codec.saw_JFIF_marker || codec.density_unit == 0) return;
    const double unit = codec.density_unit == 1 ? kInch : kCentimetre;
    metadata.pixels_per_metre_x = static_cast<uint32_t>(std::lround(codec.X_density / unit));
    metadata.pixels_per_metre_y = static_cast<uint32_t>(std::lround(codec.Y_density / unit));
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
        jpeg_save_markers(&codec, JPEG_APP0 + 1, 0xffff);   // Exif, XMP
        jpeg_save_markers(&codec, JPEG_APP0 + 13, 0xffff);  // IPTC
        jpeg_save_markers(&codec, JPEG_COM, 0xffff);
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
    const int flip = codec.saw_Adobe_marker ? 255 : 0;  // Adobe's files hold 255 - ink
    codec.out_color_space = cmyk ? JCS_CMYK : gray ? JCS_GRAYSCALE : JCS_RGB;
    Image image = Image::make(codec.image_width, codec.image_height, gray ? 1 : 3, 8);
    image.icc.assign(jpeg.icc, jpeg.icc + jpeg.icc_size);
    std::vector<uint8_t> inks(cmyk ? static_cast<size_t>(image.width) * 4 : 0);
    ProfileReading profile;
    if (cmyk) {
        profile = read_ink_profile(image.icc);
        image.icc = std::move(profile.icc);
        if (!profile.warning.empty()) image.warnings.push_back(std::move(profile.warning));
    }
    const int orientation = orientation_of(codec);
    take_metadata(codec, orientation, image.metadata);  // finishing frees the markers
    const auto read_pixels = [&] {
        jpeg_start_decompress(&codec);
        while (codec.output_scanline < codec.output_height) {
            uint8_t* row = image.row<uint8_t>(codec.output_scanline);
            JSAMPROW target = cmyk ? inks.data() : row;
            jpeg_read_scanlines(&codec, &target, 1);
            if (!cmyk) continue;
            for (uint8_t& ink : inks) ink ^= static_cast<uint8_t>(flip);
            profile.to_srgb->apply(inks.data(), row, image.width);
        }
        jpeg_finish_decompress(&codec);
    };
    if (!guarded(jpeg.failure, read_pixels)) throw error();
    return upright(std::move(image), orientation);
}

namespace {

// Compressed bytes leave libjpeg in pieces of this buffer.
struct Destination {
    jpeg_destination_mgr manager{};
    EncoderOutput* out = nullptr;
    JOCTET piece[1 << 16];

    static Destination& of(j_compress_ptr codec) {
        return *reinterpret_cast<Destination*>(codec->dest);
    }
    static void rewind(j_compress_ptr codec) {
        Destination& to = of(codec);
        to.manager.next_output_byte = to.piece, to.manager.free_in_buffer = sizeof to.piece;
    }
    static boolean flush(j_compress_ptr codec) {  // libjpeg calls it with the whole piece full
        if (!of(codec).out->append(of(codec).piece, sizeof piece))
            ERREXIT1(codec, JERR_OUT_OF_MEMORY, 0);
        rewind(codec);
        return TRUE;
    }
    static void finish(j_compress_ptr codec) {
        Destination& to = of(codec);
        if (!to.out->append(to.piece, sizeof to.piece - to.manager.free_in_buffer))
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

// Always on the heap: 64 KiB of buffer are too much for a thread's stack.
class JpegEncoder : public RowEncoder {
  public:
    JpegEncoder(const ImageHeader& header, int quality, ByteSink sink)
        : samples_(header.width * header.channels),
          row_bytes_(header.row_bytes()),
          segments_(jpeg_segments(header.metadata)),
          output_(header, std::move(sink)) {
        if (header.has_alpha()) throw UsageError("JPEG cannot hold transparency; write a PNG");
        if (std::max(header.width, header.height) > JPEG_MAX_DIMENSION)
            throw UsageError("JPEG is limited to " + std::to_string(JPEG_MAX_DIMENSION) +
                             " pixels a side; write a PNG");
        if (header.bits == 16) narrow_row_.resize(static_cast<size_t>(samples_));
        jpeg_.destination.out = &output_;
        run([&] { start(header, quality); });
    }
    void write(const uint8_t* rows, int64_t count) override {
        output_.take_rows(count);
        for (int64_t y = 0; y < count; ++y, rows += row_bytes_) {
            if (!narrow_row_.empty())
                narrow(reinterpret_cast<const uint16_t*>(rows), samples_, narrow_row_.data());
            JSAMPROW row = const_cast<uint8_t*>(narrow_row_.empty() ? rows : narrow_row_.data());
            run([&] { jpeg_write_scanlines(&jpeg_.codec, &row, 1); });
            output_.pass_on();
        }
    }
    void finish() override {
        if (jpeg_.codec.next_scanline == jpeg_.codec.image_height)
            run([&] { jpeg_finish_compress(&jpeg_.codec); });
        output_.finish();
    }

  private:
    template <class Calls>
    void run(const Calls& calls) {
        if (!guarded(jpeg_.failure, calls))
            throw Error(std::string("JPEG encoder: ") + jpeg_.failure.text);
    }
    void start(const ImageHeader& header, int quality) {
        jpeg_.codec.image_width = static_cast<JDIMENSION>(header.width);
        jpeg_.codec.image_height = static_cast<JDIMENSION>(header.height);
        jpeg_.codec.input_components = header.channels;
        jpeg_.codec.in_color_space = header.gray() ? JCS_GRAYSCALE : JCS_RGB;
        jpeg_set_defaults(&jpeg_.codec);
        jpeg_set_quality(&jpeg_.codec, quality, TRUE);
        for (int c = 0; c < jpeg_.codec.num_components; ++c)
            jpeg_.codec.comp_info[c].h_samp_factor = jpeg_.codec.comp_info[c].v_samp_factor =
                1;  // 4:4:4
        constexpr double kInch = 0.0254;
        const PhotoMetadata& about = header.metadata;
        if (about.pixels_per_metre_x > 0) {
            jpeg_.codec.density_unit = 1;
            jpeg_.codec.X_density = dots(about.pixels_per_metre_x * kInch);
            jpeg_.codec.Y_density = dots(about.pixels_per_metre_y * kInch);
        }
        jpeg_start_compress(&jpeg_.codec, TRUE);
        for (const PhotoMetadata::Part& segment : segments_)
            jpeg_write_marker(&jpeg_.codec, static_cast<uint8_t>(segment.type[0]),
                              segment.bytes.data(), static_cast<unsigned>(segment.bytes.size()));
        if (icc_fits(header.icc, header.gray()))
            jpeg_write_icc_profile(&jpeg_.codec, header.icc.data(),
                                   static_cast<unsigned>(header.icc.size()));
    }

    static UINT16 dots(double per_inch) {
        return static_cast<UINT16>(std::clamp(std::lround(per_inch), 1L, 65535L));
    }

    int64_t samples_, row_bytes_;
    std::vector<PhotoMetadata::Part> segments_;
    std::vector<uint8_t> narrow_row_;  // of 16 bits; else empty
    EncoderOutput output_;
    Compressor jpeg_;
};

}  // namespace

std::unique_ptr<RowEncoder> jpeg_encoder(const ImageHeader& header, int quality, ByteSink sink) {
    return std::make_unique<JpegEncoder>(header, quality, std::move(sink));
}

}  // namespace lumachrome
