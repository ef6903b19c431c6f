#include "image/codec.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>

#include "image/formats.hpp"
#include "image/profile.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

using namespace std::string_view_literals;

constexpr auto kPngSignature = "\x89PNG\r\n\x1a\n"sv;
constexpr auto kJpegSignature = "\xff\xd8\xff"sv;

bool has_at(std::span<const uint8_t> bytes, size_t offset, std::string_view text) {
    return bytes.size() >= offset + text.size() &&
           std::equal(text.begin(), text.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                      [](char c, uint8_t b) { return static_cast<uint8_t>(c) == b; });
}

// What else people hand to a photo program; naming it saves them a search.
std::string describe_unknown(std::span<const uint8_t> bytes) {
    struct Known {
        size_t offset;
        std::string_view signature;
        const char* text;
    };
    constexpr Known kKnown[] = {
        {0, "GIF8"sv, "a GIF file"},
        {8, "WEBP"sv, "a WebP file"},
        {0, "BM"sv, "a BMP file"},
        {0, "II*\0"sv, "a TIFF or camera raw file"},
        {0, "MM\0*"sv, "a TIFF or camera raw file"},
        {0, "P2"sv, "a PGM file in text form; only binary P5 and P6 are read"},
        {0, "P3"sv, "a PPM file in text form; only binary P5 and P6 are read"},
        {4, "ftyp"sv, "a HEIC, AVIF or video file"},
        {0, "<!DOCTYPE"sv, "a web page, perhaps a failed download"},
        {0, "<html"sv, "a web page, perhaps a failed download"},
    };
    for (const Known& known : kKnown)
        if (has_at(bytes, known.offset, known.signature))
            return std::string("this is ") + known.text;
    std::string start = "starts with";
    for (size_t i = 0; i < std::min<size_t>(bytes.size(), 4); ++i) {
        char hex[4];
        std::snprintf(hex, sizeof hex, " %02x", bytes[i]);
        start += hex;
    }
    return start;
}

// Throws InputError when the file starts like none of the formats.
Format check_signature(std::span<const uint8_t> start, const std::string& name) {
    if (start.empty()) throw InputError(name + ": the file is empty");
    if (has_at(start, 0, kPngSignature)) return Format::png;
    if (has_at(start, 0, kJpegSignature)) return Format::jpeg;
    if (is_pnm(start)) return Format::ppm;
    throw InputError(name + ": not a PNG, JPEG or PPM file (" + describe_unknown(start) + ")");
}

// As the file has them.
Image decode_samples(std::span<const uint8_t> bytes, const std::string& name,
                     const DecodeLimits& limits) {
    switch (check_signature(bytes, name)) {
        case Format::png:
            return decode_png(bytes, name, limits);
        case Format::jpeg:
            return decode_jpeg(bytes, name, limits);
        default:
            return decode_pnm(bytes, name, limits);
    }
}

void follow_profile(Image& photo, const Exec& exec) {
    if (photo.icc.empty()) return;
    ProfileReading profile = read_profile(
        photo.icc, {photo.gray() ? Samples::gray : Samples::rgb, photo.has_alpha(), photo.bits});
    constexpr int64_t kRows = 16;
    const auto convert = [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; ++y)
            profile.to_srgb->apply(photo.row<uint8_t>(y), photo.row<uint8_t>(y), photo.width);
    };
    if (profile.to_srgb) parallel_chunks(exec, photo.height, convert, kRows);
    if (!profile.warning.empty()) photo.warnings.push_back(std::move(profile.warning));
    photo.icc = std::move(profile.icc);
}

}  // namespace

bool has_photo_name(const std::string& path) {
    const std::filesystem::path file(path);
    std::string ending = file.extension().string();
    for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const std::string known = std::string(kPhotoNames) + ",";
    return !ending.empty() && known.find(ending + ",") != known.npos &&
           !file.filename().string().starts_with('.');
}

void check_pixels(int64_t width, int64_t height, const std::string& name,
                  const DecodeLimits& limits) {
    const std::string size = std::to_string(width) + "x" + std::to_string(height) + " pixels";
    if (width < 1 || height < 1) throw InputError(name + ": the header says " + size);
    if (width > limits.max_pixels / height)
        throw InputError(name + ": " + size + " exceed the limit of " +
                         std::to_string(limits.max_pixels) + " (--max-pixels)");
}

bool EncoderOutput::append(const uint8_t* bytes, size_t count) noexcept {
    try {
        pending_.insert(pending_.end(), bytes, bytes + count);
        return true;
    } catch (...) {
        return false;
    }
}

void EncoderOutput::take_rows(int64_t count) {
    if (count > rows_left_) throw Error("image encoder: more rows than the header says");
    rows_left_ -= count;
}

void EncoderOutput::pass_on() {
    constexpr size_t kPiece = 1 << 18;
    if (pending_.size() < kPiece) return;
    sink_(pending_);
    pending_.clear();
}

void EncoderOutput::finish() {
    if (rows_left_ > 0)
        throw Error("image encoder: " + std::to_string(rows_left_) + " rows are missing");
    sink_(pending_);
    pending_.clear();
}

void narrow(const uint16_t* wide, int64_t count, uint8_t* out) {
    for (int64_t i = 0; i < count; ++i)
        out[i] = static_cast<uint8_t>((wide[i] * 255u + 32767) / 65535);
}

bool icc_fits(std::span<const uint8_t> icc, bool gray) {
    return has_at(icc, 16, gray ? "GRAY"sv : "RGB "sv);
}

Image decode(std::span<const uint8_t> bytes, const std::string& name, const DecodeLimits& limits,
             const Exec& exec) {
    Image photo = decode_samples(bytes, name, limits);
    follow_profile(photo, exec);
    return photo;
}

Image read_image(const std::string& path, const DecodeLimits& limits, const Exec& exec) {
    const std::string name = path == "-" ? "standard input" : path;
    const auto check_start = [&](std::span<const uint8_t> start) { check_signature(start, name); };
    return decode(read_file(path, limits.max_bytes, check_start), name, limits, exec);
}

std::unique_ptr<RowEncoder> make_encoder(const ImageHeader& header, Format format, int quality,
                                         ByteSink sink) {
    switch (format) {
        case Format::png:
            return png_encoder(header, std::move(sink));
        case Format::jpeg:
            return jpeg_encoder(header, quality, std::move(sink));
        default:
            return pnm_encoder(header, std::move(sink));
    }
}

std::vector<uint8_t> encode(const Image& image, Format format, int quality) {
    std::vector<uint8_t> out;
    const auto encoder = make_encoder(image, format, quality, [&](std::span<const uint8_t> bytes) {
        out.insert(out.end(), bytes.begin(), bytes.end());
    });
    encoder->write(image.bytes.data(), image.height);
    encoder->finish();
    return out;
}

Format format_of_path(const std::string& path) {
    const size_t dot = path.find_last_of("./");
    std::string extension = dot == std::string::npos || path[dot] == '/' ? "" : path.substr(dot);
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (extension == ".png") return Format::png;
    if (extension == ".jpg" || extension == ".jpeg") return Format::jpeg;
    throw UsageError(path + ": the name must end in .png, .jpg or .jpeg");
}

void write_image(const std::string& path, const Image& image, bool overwrite, int quality) {
    const Format format = format_of_path(path);
    AtomicFile file(path, overwrite);
    const auto encoder = make_encoder(image, format, quality,
                                      [&](std::span<const uint8_t> bytes) { file.write(bytes); });
    encoder->write(image.bytes.data(), image.height);
    encoder->finish();
    file.commit();
}

}  // namespace lumachrome
