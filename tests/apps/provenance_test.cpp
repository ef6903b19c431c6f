// What a result says of itself, and what the program says of a photo's colour profile.
#include <doctest/doctest.h>

#include "image/profile.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "tensor/sha256.hpp"
#include "tests/apps/hostile.hpp"
#include "tests/apps/process.hpp"
#include "unit/icc_profiles.hpp"

using namespace lumachrome;

namespace {

struct Studio : TemporaryFolder {
    const TemporaryFolder& here = *this;
    std::string weights = here / "tiny.safetensors";

    Studio() {
        ColorNet net(preset("tiny"), 1);
        write_tensor_file(weights, model_file(net), true);
    }
    std::string photo(const std::string& name, const std::vector<uint8_t>& icc = {}) const {
        Image image = striped(24, 16);
        image.icc = icc;
        image.metadata.text = {{"Comment", "Aunt Ida, 1931"}};
        write_image(here / name, image, true);
        return here / name;
    }
    Finished colorize(std::vector<std::string> words) const {
        words.insert(words.begin(), {"colorize", "--weights", weights, "--overwrite"});
        return run(std::move(words));
    }
    // What the result of these words says.
    PhotoMetadata said(const std::string& name, std::vector<std::string> words) const {
        const std::string result = here / ("color-" + name);
        words.insert(words.end(), {photo(name), "-o", result});
        const Finished done = colorize(words);
        INFO(done.err);
        REQUIRE(done.code == 0);
        return read_image(result).metadata;
    }
};

bool marked(const PhotoMetadata& metadata) {
    return !metadata.exif.empty() &&
           metadata.xmp.find("compositeWithTrainedAlgorithmicMedia") != std::string::npos;
}

}  // namespace

TEST_CASE("results name the program and the model") {
    const Studio studio;
    const std::string model = sha256(read_file(studio.weights));
    for (const std::string name : {"a.png", "a.jpg"}) {
        CAPTURE(name);
        const PhotoMetadata kept = studio.said(name, {});
        CHECK(marked(kept));
        REQUIRE(kept.text.size() >= 2);
        CHECK(kept.text[0].text.find(model) != std::string::npos);
        CHECK(kept.text.back().text == "Aunt Ida, 1931");
        const PhotoMetadata stripped = studio.said(name, {"--strip-metadata"});
        CHECK(marked(stripped));
        CHECK(stripped.text.back().text != "Aunt Ida, 1931");
        PhotoMetadata plain;
        plain.text = {{"Comment", "Aunt Ida, 1931"}};
        CHECK(studio.said(name, {"--no-mark"}) == plain);
        CHECK(studio.said(name, {"--no-mark", "--strip-metadata"}) == PhotoMetadata{});
    }
}

TEST_CASE("a profile that cannot be followed is said once, and in every record") {
    const Studio studio;
    std::vector<uint8_t> damaged = icc::rgb(icc::kAdobe, icc::gamma(2.2));
    damaged.resize(200);
    const std::string first = studio.photo("1.jpg", damaged),
                      second = studio.photo("2.jpg", damaged);
    const Finished done = studio.colorize({first, second, "-o", studio.here / "out/", "--json"});
    CHECK(done.code == 0);
    const size_t at = done.err.find("colour profile");
    CHECK(at != std::string::npos);
    CHECK(done.err.find("colour profile", at + 1) == std::string::npos);
    const Json report = Json::parse(done.out);
    for (const Json& record : report.at("images").array())
        CHECK(record.at("warnings").array().size() == 1);
}

TEST_CASE("a photo in Adobe RGB comes out in sRGB, its tones as they were seen") {
    if (color_management().empty()) {
        MESSAGE("skipped: built without lcms2");
        return;
    }
    const Studio studio;
    const std::string photo = studio.photo("a.png", icc::rgb(icc::kAdobe, icc::gamma(2.2)));
    REQUIRE(studio.colorize({photo, "-o", studio.here / "b.png"}).code == 0);
    const Image seen = read_image(photo), colored = read_image(studio.here / "b.png");
    CHECK(seen.bytes != striped(24, 16).bytes);
    CHECK(colored.icc == seen.icc);
    const auto gray = [](const uint8_t* p) { return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]; };
    for (size_t i = 0; i < seen.bytes.size(); i += 3)
        REQUIRE(std::abs(gray(&seen.bytes[i]) - gray(&colored.bytes[i])) <= 1);
}
