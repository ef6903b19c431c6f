// `convert` as people and scripts meet it. What the files hold, tests/model knows.
#include <doctest/doctest.h>

#include "model/import_torch7.hpp"
#include "support/colornet_t7.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "tensor/sha256.hpp"
#include "tests/apps/process.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

Spec small_spec() {
    Spec spec = preset("tiny");
    spec.classes = 0;
    spec.batch_norm = false;
    return spec;
}

struct Place : TemporaryFolder {
    const TemporaryFolder& here = *this;
    std::string weights = here / "tiny.safetensors", t7 = here / "colornet.t7";
    Place() {
        ColorNet net(small_spec(), 1);
        write_tensor_file(weights, model_file(net, {{"licence", "CC0-1.0"}}), true);
        write_file_atomic(t7, torch7_writer::ColornetFile(net, {}).bytes, true);
    }
};

Json convert(const std::string& in, const std::string& out, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"convert", in, out, "--json"});
    const Finished done = run(std::move(more));
    CAPTURE(done.err);
    REQUIRE(done.code == 0);
    return Json::parse(done.out);
}

}  // namespace

TEST_CASE("convert writes each number type, and says from what") {
    const Place place;
    const std::string hash = sha256(read_file(place.weights));
    std::map<std::string, uintmax_t> sizes;
    for (const char* dtype : {"f32", "f16", "bf16"})
        for (const char* extension : {".safetensors", ".onnx"}) {
            const std::string out = place / (std::string(dtype) + extension);
            const Json json = convert(place.weights, out, {"--dtype", dtype});
            CHECK(json.at("source_sha256").string() == hash);
            CHECK(json.at("tensors").integer() > 40);
            CHECK(json.at("parameters").integer() > 100'000);
            CHECK(json.at("dtype").string() == dtype);
            sizes[dtype + std::string(extension)] = fs::file_size(out);
        }
    for (const char* dtype : {"f16", "bf16"})
        for (const char* extension : {".safetensors", ".onnx"})
            CHECK(double(sizes[dtype + std::string(extension)]) <
                  0.6 * double(sizes["f32" + std::string(extension)]));
    const LoadedModel f32 = load_model(place / "f32.safetensors"),
                      bf16 = load_model(place / "bf16.safetensors");
    CHECK(f32.metadata.at("source_sha256") == hash);
    CHECK(f32.metadata.at("licence") == "CC0-1.0");
    const Tensor &exact = f32.net->mid[0].layer.weight.value,
                 &rounded = bf16.net->mid[0].layer.weight.value;
    for (int64_t i = 0; i < exact.numel(); ++i)
        REQUIRE(rounded.item(i) == bf16_to_float(float_to_bf16(float(exact.item(i)))));
    CHECK(convert(place.weights, place / "default.safetensors").at("dtype").string() == "f16");
    CHECK(convert(place.weights, place / "default.onnx").at("dtype").string() == "f32");
}

TEST_CASE("convert reads a colornet.t7, carries its licence, and the result colours photos") {
    const Place place;
    const std::string out = place / "colornet.safetensors";
    const Finished done = run({"convert", place.t7, out});
    CAPTURE(done.err);
    REQUIRE(done.code == 0);
    CHECK(done.err.find("CC BY-NC-SA 4.0") != done.err.npos);
    const LoadedModel model = load_model(out), original = load_model(place.weights);
    CHECK(model.metadata.at("licence") == kPublishedLicence);
    CHECK(model.metadata.at("source_sha256") == sha256(read_file(place.t7)));
    CHECK(bit_equal(model.net->output.weight.value, original.net->output.weight.value));
    const std::string photo = place / "photo.pgm", gray(32 * 24, '\x60'), header = "P5 32 24 255\n";
    std::ofstream(photo, std::ios::binary) << header << gray;
    CHECK(run({"colorize", photo, "--weights", out, "-o", place / "a.png"}).code == 0);
    CHECK(run({"classify", photo, "--weights", out}).code == 4);
    // It can be trained on, with a class head for the scenes at hand.
    CHECK(run({"train", "scenes:28", "--init", out, "--steps", "1", "--batch", "2", "--size", "32",
               "--out", place / "run"})
              .code == 0);
    CHECK(load_model(place / "run/model.safetensors").net->spec.classes == 14);
    CHECK(convert(place.t7, place / "colornet.onnx").at("dtype").string() == "f32");
    CHECK(run({"inspect", out}).code == 0);
}

TEST_CASE("convert refuses what it cannot read or write, and replaces nothing unasked") {
    const Place place;
    const std::string out = place / "out.onnx";
    const auto refused = [&](int code, std::vector<std::string> words) {
        words.insert(words.begin(), "convert");
        const Finished done = run(std::move(words));
        CAPTURE(done.err);
        CHECK(done.code == code);
        CHECK(done.messages() == 1);
    };
    refused(2, {place.weights, place / "out.pth"});
    refused(2, {place.weights, out, "--dtype", "f64"});
    refused(2, {place.weights, out, "--luma-mean", "0.4"});
    refused(4, {place / "missing", out});
    for (const std::string text :
         {"", "<!DOCTYPE html><title>404</title>", "neither of them at all"}) {
        std::ofstream(place / "junk", std::ios::binary) << text;
        refused(4, {place / "junk", out});
    }
    const std::string whole = contents(place.t7);
    std::ofstream(place / "cut.t7", std::ios::binary) << whole.substr(0, whole.size() / 2);
    refused(4, {place / "cut.t7", out});
    CHECK_FALSE(fs::exists(out));
    convert(place.weights, out);
    const std::string before = contents(out);
    refused(2, {place.t7, out});
    CHECK(contents(out) == before);
    convert(place.t7, out, {"--overwrite"});
    CHECK(contents(out) != before);
}
