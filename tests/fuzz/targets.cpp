#include "fuzz/targets.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

#include "apps/serve/wishes.hpp"
#include "image/codec.hpp"
#include "image/metadata.hpp"
#include "image/profile.hpp"
#include "model/import_torch7.hpp"
#include "model/style.hpp"
#include "serve/http_head.hpp"
#include "tensor/error.hpp"
#include "tensor/json.hpp"
#include "tensor/tensor_file.hpp"
#include "train/tar.hpp"

namespace lumachrome {
namespace {

using Bytes = std::span<const uint8_t>;

void require(bool holds, const char* what) {
    if (!holds) throw std::logic_error(what);
}

std::string text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::vector<uint8_t> copy_of(Bytes bytes) {
    return {bytes.begin(), bytes.end()};
}

void json(Bytes bytes) {
    const std::string once = Json::parse(text_of(bytes)).dump();
    require(Json::parse(once).dump() == once, "what was read is not what is written");
}

void tensor_file(Bytes bytes) {
    const TensorFile file = parse_tensor_file(copy_of(bytes), "fuzz");
    for (const auto& [name, tensor] : file.tensors) (void)to_f32(tensor);
    (void)serialize(file);
}

void style(Bytes bytes) {
    Spec spec = preset("tiny");
    spec.width_divisor = 64;  // styles [1,4]
    (void)parse_style(copy_of(bytes), "fuzz", spec, "abc");
}

void torch7(Bytes bytes) {
    (void)import_torch7(bytes, "fuzz");
}

void photo(Bytes bytes) {
    const Image image = decode(bytes, "fuzz", {.max_pixels = 1 << 18});
    require(int64_t(image.bytes.size()) == image.height * image.row_bytes(), "a torn photo");
    (void)encode(image, Format::png);
}

// The first byte chooses what the rest is.
void metadata(Bytes bytes) {
    if (bytes.empty()) return;
    const uint8_t kind = bytes[0];
    bytes = bytes.subspan(1);
    PhotoMetadata found;
    constexpr int kMarkers[] = {0xE1, 0xED, 0xFE};
    constexpr const char* kChunks[] = {"tEXt", "zTXt", "iTXt"};
    switch (kind % 3) {
        case 0:
            add_jpeg_segment(found, kMarkers[kind / 3 % 3], bytes, 1 + kind / 9 % 8);
            break;
        case 1:
            add_png_chunk(found, kChunks[kind / 3 % 3], bytes);
            break;
        default:
            found.exif = upright_exif(bytes, exif_orientation(bytes));
            require(exif_orientation(found.exif) == 1, "not upright");
    }
    (void)jpeg_segments(found);
    (void)png_chunks(found);
}

void profile(Bytes bytes) {
    if (bytes.empty()) return;
    constexpr SampleLayout kLayouts[] = {{Samples::gray, false, 8},
                                         {Samples::gray, true, 16},
                                         {Samples::rgb, false, 8},
                                         {Samples::rgb, true, 16},
                                         {Samples::cmyk, false, 8}};
    const SampleLayout& layout = kLayouts[bytes[0] % std::size(kLayouts)];
    bytes = bytes.subspan(1);
    if (bytes.empty()) return;
    const ProfileReading reading = read_profile(bytes, layout);
    if (!reading.to_srgb) return;
    std::vector<uint8_t> in(64 * 8, 77), out(64 * 3);
    const bool in_place = layout.samples != Samples::cmyk;
    reading.to_srgb->apply(in.data(), in_place ? in.data() : out.data(), 64);
}

void tar(Bytes bytes) {
    const int file = memfd_create("fuzz", 0);
    require(file >= 0 && write(file, bytes.data(), bytes.size()) == ssize_t(bytes.size()),
            "no memory file");
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    try {
        const TarReader reader(path);
        for (const TarMember& member : reader.members()) {
            require(member.offset >= 0 && member.bytes >= 0 &&
                        member.offset + member.bytes <= int64_t(bytes.size()),
                    "a member outside the file");
            std::vector<uint8_t> content(size_t(member.bytes));
            reader.read(member.offset, content.data(), member.bytes);
        }
    } catch (...) {
        close(file);
        throw;
    }
    close(file);
}

void http_policy(Bytes bytes) {
    require(judge_bytes(text_of(bytes)), "an unsound verdict");
}

void wishes(Bytes bytes) {
    (void)wishes_of(Json::parse(text_of(bytes)));
}

// Refusing is the right answer to nearly all of it.
template <void (*read)(Bytes)>
void guarded(Bytes bytes) {
    try {
        read(bytes);
    } catch (const Error& error) {
        require(std::string(error.what()).find('\n') == std::string::npos, "not one line");
    }
}

constexpr FuzzTarget kTargets[] = {
    {"json", guarded<json>},
    {"tensor_file", guarded<tensor_file>},
    {"style", guarded<style>},
    {"torch7", guarded<torch7>},
    {"photo", guarded<photo>},
    {"metadata", guarded<metadata>},
    {"profile", guarded<profile>},
    {"tar", guarded<tar>},
    {"http_policy", guarded<http_policy>},
    {"wishes", guarded<wishes>},
};

}  // namespace

std::span<const FuzzTarget> fuzz_targets() {
    return kTargets;
}

}  // namespace lumachrome
