// A scan that fills a wall, on a computer that is nothing special: 20,000 x 12,000 pixels, coloured
// at full size within 600 MiB. About 3 minutes of one core.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "image/codec.hpp"
#include "image/color.hpp"
#include "model/state.hpp"
#include "support/trained_network.hpp"
#include "tensor/json.hpp"
#include "tests/apps/process.hpp"

using namespace lumachrome;

namespace {

constexpr double kAllowedMib = 600;

// What the scan shows at a place; waves, because bands would be seen in them.
uint8_t tone(int64_t x, int64_t y) {
    const double wave = 60 * std::sin(double(x) / 70 + double(y) / 90) +
                        40 * std::sin(double(x) / 9 - double(y) / 13);
    return static_cast<uint8_t>(128 + wave);
}

void write_scan(const std::string& path, int64_t width, int64_t height) {
    ImageHeader header;
    header.width = width, header.height = height, header.channels = 1;
    std::ofstream file(path, std::ios::binary);
    const auto encoder = make_encoder(header, Format::png, 0, [&](std::span<const uint8_t> bytes) {
        file.write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    });
    std::vector<uint8_t> row(static_cast<size_t>(width));
    for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) row[static_cast<size_t>(x)] = tone(x, y);
        encoder->write(row.data(), 1);
    }
    encoder->finish();
}

// Pixels whose luma is more than a step off, in every 97th row.
int64_t off_tone(const Image& colored) {
    int64_t off = 0;
    for (int64_t y = 0; y < colored.height; y += 97) {
        const uint8_t* pixel = colored.row<uint8_t>(y);
        for (int64_t x = 0; x < colored.width; ++x, pixel += 3) {
            const double gray = kLumaR * pixel[0] + kLumaG * pixel[1] + kLumaB * pixel[2];
            off += std::abs(gray - tone(x, y)) > 1;
        }
    }
    return off;
}

}  // namespace

TEST_CASE("a large scan at full size within 600 MiB") {
#ifdef __SANITIZE_ADDRESS__
    MESSAGE("skipped: the sanitizer's own memory would be counted");
    return;
#endif
    const TemporaryFolder here;
    const int64_t width = 20000, height = 12000;
    write_scan(here / "scan.png", width, height);
    const Process process({"colorize", here / "scan.png", "-o", here / "color.png", "--size",
                           "full", "--max-memory", std::to_string(int(kAllowedMib)), "--json"});
    const Finished done = process.wait();
    INFO(done.err);
    REQUIRE(done.code == 0);
    const Json photo = Json::parse(done.out).at("images").array()[0];
    CHECK(photo.at("network_width").integer() == width);
    CHECK(photo.at("network_height").integer() == height);
    MESSAGE("peak " << done.peak_mib << " MiB, " << done.cpu_seconds << " s of CPU, "
                    << photo.at("milliseconds").at("total").number() / 1000 << " s");
    CHECK(done.peak_mib <= kAllowedMib);
    const Image colored = read_image(here / "color.png");
    REQUIRE(colored.width == width);
    REQUIRE(colored.height == height);
    CHECK(off_tone(colored) == 0);
}

TEST_CASE("bands give the bits of the whole") {
    const TemporaryFolder here;
    const std::string weights = here / "tiny.safetensors";
    ColorNet net = trained_network(preset("tiny"));
    write_tensor_file(weights, model_file(net), true);
    write_scan(here / "scan.png", 1500, 1100);
    const auto colored = [&](std::vector<std::string> memory) {
        std::vector<std::string> words{
            "colorize", here / "scan.png", "-o",          here / "color.png", "--size",
            "full",     "--json",          "--overwrite", "--weights",        weights};
        words.insert(words.end(), memory.begin(), memory.end());
        const Finished done = run(words);
        INFO(done.err);
        REQUIRE(done.code == 0);
        return std::pair(read_image(here / "color.png").bytes, done.peak_mib);
    };
    const auto [whole, whole_mib] = colored({});
    const auto [bands, bands_mib] = colored({"--max-memory", "60"});
    CHECK(bands == whole);
    MESSAGE("peak " << whole_mib << " MiB whole, " << bands_mib << " in bands");
#ifndef __SANITIZE_ADDRESS__
    CHECK(bands_mib <= 60);
    CHECK(bands_mib < whole_mib);
#endif
}
