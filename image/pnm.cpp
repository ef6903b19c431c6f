// Netpbm's binary formats of 8 bits, whose pixels lie in the file as they lie in an Image. Source:
// Netpbm, ppm(5) and pgm(5).
#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

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

namespace {

class PnmEncoder : public RowEncoder {
  public:
    PnmEncoder(const ImageHeader& header, ByteSink sink)
        : samples_(header.width * header.channels),
          row_bytes_(header.row_bytes()),
          wide_(header.bits == 16),
          narrow_row_(wide_ ? static_cast<size_t>(samples_) : 0),
          output_(header, std::move(sink)) {
        if (header.has_alpha()) throw UsageError("PPM cannot hold transparency; write a PNG");
        const std::string text = (header.gray() ? "P5\n" : "P6\n") + std::to_string(header.width) +
                                 " " + std::to_string(header.height) + "\n255\n";
        append(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    }
    void write(const uint8_t* rows, int64_t count) override {
        output_.take_rows(count);
        for (int64_t y = 0; y < count; ++y, rows += row_bytes_) {
            if (wide_)
                narrow(reinterpret_cast<const uint16_t*>(rows), samples_, narrow_row_.data());
            append(wide_ ? narrow_row_.data() : rows, static_cast<size_t>(samples_));
            output_.pass_on();
        }
    }
    void finish() override { output_.finish(); }

  private:
    void append(const uint8_t* bytes, size_t count) {
        if (!output_.append(bytes, count)) throw ResourceError("out of memory in the PPM encoder");
    }
    int64_t samples_, row_bytes_;
    bool wide_;
    std::vector<uint8_t> narrow_row_;
    EncoderOutput output_;
};

}  // namespace

std::unique_ptr<RowEncoder> pnm_encoder(const ImageHeader& header, ByteSink sink) {
    return std::make_unique<PnmEncoder>(header, std::move(sink));
}

}  // namespace lumachrome
