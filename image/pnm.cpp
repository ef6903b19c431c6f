// Netpbm's binary formats of 8 bits, whose pixels lie in the file as they lie in an Image. Source:
// Netpbm, ppm(5) and pgm(5).
#include <algorithm>
#include <charconv>
#include <string>

#include "image/formats.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

InputError damaged(const std::string& name, const std::string& rule) {
    return InputError(name + ": PNM data is damaged: " + rule);
}

bool is_space(uint8_t c) {  // as in C's "C" locale
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

// Past white space and comments, which reach from # to the end of their line.
size_t skip_blanks(std::span<const uint8_t> bytes, size_t at) {
    for (bool comment = false; at < bytes.size(); ++at) {
        if (bytes[at] == '#') comment = true;
        if (bytes[at] == '\n' || bytes[at] == '\r') comment = false;
        if (!comment && !is_space(bytes[at])) break;
    }
    return at;
}

}  // namespace

bool is_pnm(std::span<const uint8_t> start) {
    return start.size() >= 3 && start[0] == 'P' && (start[1] == '5' || start[1] == '6') &&
           (is_space(start[2]) || start[2] == '#');
}

std::optional<PnmHeader> pnm_header(std::span<const uint8_t> start, const std::string& name,
                                    const DecodeLimits& limits) {
    if (!is_pnm(start)) return std::nullopt;
    size_t at = 2;
    int64_t numbers[3] = {};  // width, height, largest sample
    for (int64_t& number : numbers) {
        at = skip_blanks(start, at);
        const size_t first = at;
        while (at < start.size() && is_digit(start[at])) ++at;
        if (at == start.size()) return std::nullopt;  // the number may go on
        const char* text = reinterpret_cast<const char*>(start.data());
        if (std::from_chars(text + first, text + at, number).ec != std::errc())
            throw damaged(name, "the header needs three numbers: width, height, 255");
    }
    const auto [width, height, largest] = numbers;
    if (!is_space(start[at])) throw damaged(name, "the header ends without a blank");
    check_pixels(width, height, name, limits);
    if (largest != 255)
        throw InputError(name + ": PNM files with samples up to " + std::to_string(largest) +
                         " are not supported, only up to 255");
    return PnmHeader{width, height, start[1] == '6' ? 3 : 1, static_cast<int64_t>(at + 1)};
}

Image decode_pnm(std::span<const uint8_t> bytes, const std::string& name,
                 const DecodeLimits& limits) {
    const auto header = pnm_header(bytes, name, limits);
    if (!header) throw damaged(name, "the file is truncated");
    const int64_t room = static_cast<int64_t>(bytes.size()) - header->offset;
    if (header->width * header->height * header->channels > room)
        throw damaged(name, "too short for its size of pixels");
    Image image = Image::make(header->width, header->height, header->channels, 8);
    std::copy_n(bytes.begin() + header->offset, image.bytes.size(), image.bytes.begin());
    return image;
}

std::vector<uint8_t> encode_pnm(const Image& image) {
    if (image.has_alpha()) throw UsageError("PPM cannot hold transparency; write a PNG");
    const std::string header = (image.gray() ? "P5\n" : "P6\n") + std::to_string(image.width) +
                               " " + std::to_string(image.height) + "\n255\n";
    const size_t pixels = image.bytes.size() / static_cast<size_t>(image.bits / 8);
    std::vector<uint8_t> out(header.size() + pixels);
    const auto to = std::copy(header.begin(), header.end(), out.begin());
    if (image.bits == 8) {
        std::copy(image.bytes.begin(), image.bytes.end(), to);
    } else {
        const auto* wide = image.row<uint16_t>(0);
        std::transform(wide, wide + pixels, to,
                       [](uint16_t v) { return static_cast<uint8_t>((v * 255 + 32767) / 65535); });
    }
    return out;
}

}  // namespace lumachrome
