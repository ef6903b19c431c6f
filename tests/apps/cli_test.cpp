// The binary as people and scripts meet it: exit codes, --json keys, what is written and what is
// not, and the hostile files of hostile.hpp.
#include <doctest/doctest.h>

#include <cmath>

#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "tests/apps/hostile.hpp"
#include "tests/apps/place.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr double kMostSeconds = 20,
                 kMostMib = 2000;  // the sanitizer's own memory and time come on top
#else
constexpr double kMostSeconds = 1, kMostMib = 200;
#endif

void check_keys(const Json& json, const std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
        CAPTURE(key);
        CHECK(json.find(key) != nullptr);
    }
}

int rec601(const uint8_t* p) {
    return static_cast<int>(std::lround(0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]));
}

}  // namespace

TEST_CASE("colorize writes a photo of the same size and luma, and tells about it") {
    const Place place;
    const std::string output = place / "out.png";
    const Finished done = place.colorize({place.photo, "-o", output, "--json"});
    CHECK(done.code == 0);
    const Json json = Json::parse(done.out);
    check_keys(json, {"images", "device", "peak_rss_mib"});
    const Json& image = json.at("images").array().at(0);
    check_keys(image, {"input", "output", "width", "height", "network_width", "network_height"});
    check_keys(image.at("milliseconds"), {"decode", "network", "encode", "total"});
    check_keys(image.at("scene").array().at(0), {"label", "probability"});
    CHECK(image.at("output").string() == output);

    const Image before = read_image(place.photo), after = read_image(output);
    REQUIRE(after.width == before.width);
    REQUIRE(after.height == before.height);
    int worst = 0;
    for (size_t i = 0; i < before.bytes.size(); i += 3)
        worst = std::max(worst, std::abs(rec601(&before.bytes[i]) - rec601(&after.bytes[i])));
    CHECK(worst <= 1);
}

TEST_CASE("colorize names its output, and never replaces a file unasked") {
    const Place place;
    CHECK(place.colorize({place.photo}).code == 0);
    CHECK(fs::exists(place / "photo-color.png"));
    CHECK(place.colorize({place.other}).code == 0);
    CHECK(fs::exists(place / "other-color.png"));

    const std::string before = contents(place / "photo-color.png");
    const Finished again = place.colorize({place.photo, "--saturation", "0"});
    CHECK(again.code == 2);
    CHECK(again.messages() == 1);
    CHECK(contents(place / "photo-color.png") == before);
    CHECK(place.colorize({place.photo, "--skip-existing"}).code == 0);
    CHECK(contents(place / "photo-color.png") == before);
    CHECK(place.colorize({place.photo, "--saturation", "0", "--overwrite"}).code == 0);
    CHECK(contents(place / "photo-color.png") != before);

    CHECK(place.colorize({place.photo, "-o", place.photo, "--overwrite"}).code == 2);
    CHECK(place.colorize({place.photo, place.other, "-o", place / "one.png"}).code == 2);
    CHECK(place.colorize({place.photo, "-o", place / "no/such/folder.png"}).code == 2);
    CHECK(place.colorize({place.photo, "-o", place / "photo.tiff"}).code == 2);
    write_image(place / "photo.jpg", striped(8, 8), true);
    const Finished both = place.colorize({place.photo, place / "photo.jpg", "-o", place / "both/"});
    CHECK(both.code == 2);  // both would be both/photo-color.png
    CHECK_FALSE(fs::exists(place / "both/photo-color.png"));

    CHECK(place.colorize({place.photo, "-o", place / "out.jpg"}).code == 0);
    CHECK(contents(place / "out.jpg").starts_with("\xff\xd8\xff"));
    write_image(place / "clear.png", striped(8, 8, 4), true);
    CHECK(place.colorize({place / "clear.png", "-o", place / "clear.jpg"}).code == 2);
}

TEST_CASE("metadata travels unless it is not wanted, and photos in colour can be left alone") {
    const Place place;
    Image photo = striped(24, 16);
    photo.metadata.text = {{"Comment", "Oma, 1931"}};
    write_image(place / "oma.png", photo, true);
    REQUIRE(place.colorize({place / "oma.png", "-o", place / "oma.jpg", "--no-mark"}).code == 0);
    CHECK(read_image(place / "oma.jpg").metadata == photo.metadata);
    REQUIRE(place.colorize({place / "oma.png", "--strip-metadata", "--no-mark"}).code == 0);
    CHECK(read_image(place / "oma-color.png").metadata == PhotoMetadata{});

    Image colored = Image::make(16, 16, 3, 8);
    for (size_t i = 0; i < colored.bytes.size(); ++i)
        colored.bytes[i] = static_cast<uint8_t>(i * i * 37);
    write_image(place / "colored.png", colored, true);
    const Finished skipped =
        place.colorize({place / "colored.png", "--if-color", "skip", "--json"});
    CHECK(skipped.code == 0);
    CHECK(skipped.out.find("\"tone\":\"color\"") != std::string::npos);
    CHECK_FALSE(fs::exists(place / "colored-color.png"));
    const Finished refused = place.colorize({place / "colored.png", "--if-color", "error"});
    CHECK(refused.code == 3);
    CHECK(refused.messages() == 1);
    CHECK(place.colorize({place / "colored.png"}).code == 0);
    CHECK(fs::exists(place / "colored-color.png"));
}

TEST_CASE("colorize takes folders, patterns and pipes, and goes on after a bad photo") {
    const Place place;
    const std::string folder = place / "album";
    fs::create_directories(folder + "/deep");
    fs::copy(place.photo, folder + "/a.png");
    fs::copy(place.photo, folder + "/deep/b.png");
    write_bytes(folder + "/c.png", {1, 2, 3});

    const Finished batch = place.colorize({folder, "-r", "-o", place / "out/", "--json"});
    CHECK(batch.code == 5);
    CHECK(batch.messages() >= 1);
    const Json json = Json::parse(batch.out);
    const auto& images = json.at("images").array();
    REQUIRE(images.size() == 3);
    CHECK(images[1].find("error") != nullptr);
    CHECK(images[0].find("error") == nullptr);
    CHECK(fs::exists(place / "out/a-color.png"));
    CHECK(fs::exists(place / "out/deep/b-color.png"));

    CHECK(place.colorize({place / "album/a*.png"}).code == 0);
    CHECK(fs::exists(folder + "/a-color.png"));
    fs::create_directories(place / "nothing");
    CHECK(place.colorize({place / "nothing"}).code == 3);

    const Finished piped = place.colorize({"-", "-q"}, place.photo);
    CHECK(piped.code == 0);
    CHECK(piped.out.starts_with("\x89PNG"));
    CHECK(piped.err.empty());
    CHECK(place.colorize({"-", "-o", "-", "--format", "jpeg"}, place.photo)
              .out.starts_with("\xff\xd8"));
    CHECK(place.colorize({"-", "--json"}, place.photo).code == 2);
}

TEST_CASE("photos coloured several at a time come out as each alone, and are reported in order") {
    const Place place;
    fs::create_directories(place / "album");
    constexpr int kPhotos = 12;
    for (int i = 0; i < kPhotos; ++i)
        write_image(place / ("album/" + std::to_string(10 + i) + ".png"),
                    striped(30 + 7 * i, 90 - i), true);
    write_bytes(place / "album/155.png", {1, 2, 3});
    const auto colorize = [&](const std::string& folder, const std::string& threads) {
        return Process({"colorize", place / "album", "-o", folder + "/", "--json", "--weights",
                        place.weights, "--threads", threads},
                       "/dev/null")
            .wait();
    };
    const Finished together = colorize(place / "together", "4");
    CHECK(together.code == 5);
    CHECK(colorize(place / "alone", "1").code == 5);

    const Json report = Json::parse(together.out);
    const Json::Array& images = report.at("images").array();
    REQUIRE(images.size() == kPhotos + 1);
    for (size_t i = 1; i < images.size(); ++i)
        CHECK(images[i - 1].at("input").string() < images[i].at("input").string());
    int same = 0;
    for (const auto& entry : fs::directory_iterator(place / "alone"))
        same += read_file(entry.path().string()) ==
                read_file(place / ("together/" + entry.path().filename().string()));
    CHECK(same == kPhotos);
}

TEST_CASE("colorize keeps to --max-memory, with the same bytes, or says what is missing") {
    const Place p;
    const std::string tall = p.here / "tall.png";
    write_image(tall, striped(400, 6000), true);
    const auto colored = [&](const std::string& name, std::vector<std::string> words) {
        words.insert(words.end(), {tall, "--size", "full", "-o", p.here / name, "--json"});
        return p.colorize(std::move(words));
    };
    const Finished free = colored("free.png", {});
    REQUIRE(free.code == 0);
#ifndef __SANITIZE_ADDRESS__  // takes memory of its own
    const Finished limited = colored("limited.png", {"--max-memory", "64"});
    REQUIRE(limited.code == 0);
    CHECK(Json::parse(limited.out).at("peak_rss_mib").number() < 64 * 1.05);
    CHECK(read_file(p.here / "limited.png") == read_file(p.here / "free.png"));
#endif
    const Finished refused = colored("refused.png", {"--max-memory", "16"});
    CHECK(refused.code == 69);
    CHECK(refused.err.find("MiB") != std::string::npos);
    CHECK_FALSE(fs::exists(p.here / "refused.png"));
    CHECK(colored("word.png", {"--max-memory", "much"}).code == 2);
}

TEST_CASE("wrong requests end in exit code 2 and one helpful line") {
    const Finished typo = run({"colorise", "x.png"});
    CHECK(typo.code == 2);
    CHECK(typo.err == "lumachrome: unknown command colorise; did you mean colorize?\n");
    const Finished option = run({"colorize", "x.png", "--overwite"});
    CHECK(option.code == 2);
    CHECK(option.err.find("did you mean --overwrite?") != std::string::npos);
    const std::vector<std::vector<std::string>> wrong = {
        {"colorize"},
        {"bench", "inferr"},
        {"colorize", "x.png", "--size", "7"},
        {"colorize", "x.png", "--device", "gpu"},
        {"convert", "a", "b.onnx", "--device", "cuda:"},
        {"data", "scenes", "/proc/x", "--device", "cpu0"},
        {"report", "/proc/x", "--device", "cuda:-1"},
        {"colorize", "x.png", "--two-scale"},
        {"evaluate", "scenes:1", "--two-scale", "--size", "auto"},
        {"inspect", "x.safetensors", "--classes", "7"},
        {"train", "scenes:0", "--out", "/tmp/x"},
        {"inspect"},
        {"inspect", "--preset", "huge"},
        {"gradcheck", "--op", "nothing"},
        {"gradcheck", "--break", "nothing"}};
    for (const auto& words : wrong) {
        const Finished done = run(words);
        CAPTURE(done.err);
        CHECK(done.code == 2);
        CHECK(done.messages() == 1);
        CHECK(done.out.empty());
    }
    // One that this machine does not have, and what needs one.
    CHECK(run({"doctor", "--device", "cuda:99"}).code == 69);
    CHECK(run({"train", "scenes:5", "--out", "/tmp/x", "--device", "cpu", "--precision", "bf16"})
              .code == 69);
    CHECK(run({"--help"}).code == 0);
    for (const char* command :
         {"colorize", "classify", "train", "evaluate", "gradcheck", "inspect", "doctor"}) {
        const Finished help = Process({command, "--help"}).wait();
        CHECK(help.code == 0);
        CHECK(help.out.find("Examples:") < help.out.find("Options:"));
    }
}

TEST_CASE("the other commands keep their keys") {
    const Place place;
    const auto json = [](std::vector<std::string> words) {
        words.push_back("--json");
        const Finished done = run(words);
        CAPTURE(done.err);
        REQUIRE(done.code == 0);
        return Json::parse(done.out);
    };
    const Json classified =
        json({"classify", place.photo, "--weights", place.weights, "--top", "2"});
    CHECK(classified.at("images").array().at(0).at("scene").array().size() == 2);

    const std::vector<std::string> quality = {"psnr_rgb", "rmse_ab", "delta_e2000_mean",
                                              "colorfulness", "near_gray_fraction"};
    const Json evaluated = json({"evaluate", "scenes:3:32", "--weights", place.weights});
    check_keys(evaluated, quality);
    check_keys(evaluated, {"images", "colorfulness_truth", "top1", "top5"});
    check_keys(evaluated.at("gray_baseline"), quality);
    check_keys(evaluated, {"rmse_ab_share", "colorfulness_share", "intervals", "classes"});
    check_keys(evaluated.at("intervals"), quality);
    check_keys(evaluated.at("classes").array().at(0), {"label", "images", "rmse_ab", "top1"});
    const Json compared =
        json({"evaluate", "scenes:3:32", "--compare", place.weights, place.weights});
    check_keys(compared.at("b"), quality);
    const Json& difference = compared.at("difference").at("rmse_ab");
    CHECK(difference.at("mean").number() == 0);
    CHECK(difference.at("interval").array().size() == 2);
    CHECK(difference.at("better").string() == "neither");
    CHECK(run({"evaluate", "scenes:2:32", "--compare", place.weights}).code == 2);
    CHECK(run({"evaluate", "scenes:2:32", "--weights", place.weights, "--compare", place.weights,
               place.weights})
              .code == 2);
    CHECK(run({"evaluate", "scenes:2:32", "--weights", place.weights, "--max-rmse-ab", "0"}).code ==
          6);

    const Json paper = json({"inspect", "--preset", "paper"});
    CHECK(paper.at("parameters_without_norm_and_classifier").integer() == 43'218'402);
    CHECK(paper.at("macs_per_pixel").number() == 163'872);
    CHECK(paper.at("receptive_field").integer() == 131);
    check_keys(paper, {"parameters", "macs", "layers"});
    const Json plan =
        json({"inspect", "--preset", "tiny", "--plan", "480x64", "--band-rows", "48"});
    check_keys(plan, {"band_rows", "tasks", "arena_bytes", "packed_bytes", "isa"});
    check_keys(plan.at("steps").array().at(0), {"name", "problem", "kernel", "rows", "rows_held"});
    CHECK(plan.at("steps").array().at(0).at("rows_held").integer() < 60);
    CHECK(json({"inspect", place.weights}).at("metadata").at("licence").string() == "CC0-1.0");

    const Json checked = json({"gradcheck", "--op", "upsample"});
    check_keys(checked, {"checks", "failed", "worst_relative_error", "devices"});
    check_keys(checked.at("ops").array().at(0),
               {"name", "implementation", "checks", "worst_relative_error"});
    CHECK(checked.at("failed").integer() == 0);
    CHECK(run({"gradcheck", "--break", "upsample.mean"}).code == 6);
    CHECK(json({"gradcheck", "--explain"}).at("steps").array().size() == 12);

    const std::vector<std::string> small = {"--preset", "tiny", "--size", "64", "--runs", "1"};
    const auto bench = [&](std::vector<std::string> words) {
        words.insert(words.end(), small.begin(), small.end());
        return json(words);
    };
    const std::string colors = place / "colors.safetensors";
    const auto measured = [&](std::vector<std::string> more) {
        more.insert(more.begin(), {"bench", "infer", "--output", colors});
        more.insert(more.end(), small.begin(), small.end());
        return run(std::move(more));
    };
    CHECK(measured({}).code == 0);
    CHECK(measured({}).code == 2);  // exists already
    CHECK(measured({"--overwrite"}).code == 0);
    check_keys(bench({"bench", "infer"}), {"size", "median_ms", "min_ms", "max_ms", "peak_rss_mib",
                                           "gmacs", "device", "threads", "path"});
    const Json steps = bench({"bench", "infer", "--steps"}).at("steps");
    CHECK(steps.array().size() > 20);
    for (const Json& step : steps.array()) {
        check_keys(step, {"step", "problem", "implementation", "median_ms", "gflops", "floor_ms"});
        CHECK(step.at("median_ms").number() > 0);
        CHECK(step.at("floor_ms").number() > 0);
    }
    CHECK(run({"bench", "infer", "--steps", "--path", "simple"}).code == 2);
    check_keys(bench({"bench", "train", "--batch", "2"}),
               {"median_ms", "images_per_second", "peak_rss_mib", "device", "precision"});
    check_keys(bench({"bench", "ops", "--filter", "linear"}).at("ops").array().at(0),
               {"problem", "implementation", "median_us", "gflops"});

    check_keys(json({"doctor"}), {"cpu", "cpu_features", "instruction_set", "threads", "affinity",
                                  "cuda", "mpi", "nccl", "default_model"});
    CHECK(json({"data", "scenes", place / "made", "--count", "3", "--size", "32"})
              .at("images")
              .integer() == 3);
    fs::copy_file(place / "made/beach/000000.png", place / "made/beach/again.png");
    check_keys(json({"data", "scan", place / "made"}), {"images", "rejected", "reasons"});
}

TEST_CASE("evaluate goes on after a bad photo, and its figures outlive a picture that fails") {
    const Place place;
    const std::string photos = place / "photos";
    fs::create_directory(photos);
    fs::copy_file(place.photo, photos + "/a.png");
    write_image(photos + "/b.png", striped(24, 24, 1), true);
    write_image(photos + "/c.png", striped(32, 24), true);
    write_bytes(photos + "/d.png", {'n', 'o', 'n', 'e'});
    const auto evaluated = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {"evaluate", photos, "--json"});
        return run(std::move(words));
    };
    const auto with_picture = [&](const std::string& path) {
        return evaluated({"--weights", place.weights, "--overwrite", "--samples", path});
    };
    const auto times_named = [](const Finished& done, const std::string& name) {
        int times = 0;
        for (size_t at = 0; (at = done.err.find(name, at)) != done.err.npos; ++at) ++times;
        return times;
    };

    const Finished done = with_picture(place / "sheet.png");
    CAPTURE(done.err);
    CHECK(done.code == 5);
    CHECK(times_named(done, "b.png: is gray") == 1);
    CHECK(times_named(done, "/d.png: ") == 1);
    const Json json = Json::parse(done.out);
    CHECK(json.at("images").integer() == 2);
    CHECK(json.at("skipped").integer() == 2);
    CHECK(fs::exists(place / "sheet.png"));

    const Finished compared = evaluated({"--compare", place.weights, place.weights});
    CAPTURE(compared.err);
    CHECK(compared.code == 5);
    CHECK(times_named(compared, "/d.png: ") == 1);
    const Json both = Json::parse(compared.out);
    CHECK(both.at("skipped").integer() == 2);
    CHECK(both.at("a").at("images").integer() == 2);
    CHECK(both.at("b").at("images").integer() == 2);

    const Finished strict = evaluated({"--weights", place.weights, "--max-rmse-ab", "0"});
    CHECK(strict.code == 6);
    CHECK(run({"evaluate", photos + "/b.png", "--weights", place.weights}).code == 3);

    const Finished nowhere = with_picture(place / "none/sheet.png");
    CHECK(nowhere.code == 2);
    CHECK(nowhere.out.empty());                 // before the work
    fs::create_directory(place / "taken.png");  // a file cannot take its place
    const Finished failed = with_picture(place / "taken.png");
    CAPTURE(failed.err);
    CHECK(failed.code == 69);
    CHECK(Json::parse(failed.out).at("images").integer() == 2);
}

TEST_CASE("wishes that contradict each other are refused once, not for every photo") {
    const Place place;
    const Finished done = place.colorize({place.photo, place.other, "-o", place / "out/", "--path",
                                          "simple", "--max-memory", "100"});
    CAPTURE(done.err);
    CHECK(done.code == 2);
    CHECK(done.messages() == 1);
    CHECK_FALSE(fs::exists(place / "out"));
}

TEST_CASE("train ends, stops on a signal, resumes and fine-tunes") {
    const Place place;
    const std::string run_folder = place / "run";
    const std::vector<std::string> words = {"train",    "scenes:12:64", "--out",   run_folder,
                                            "--preset", "tiny",         "--batch", "2"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), words.begin(), words.end());
        return more;
    };
    const Finished done = run(with({"--steps", "2", "--json"}));
    CAPTURE(done.err);
    REQUIRE(done.code == 0);
    const Json json = Json::parse(done.out);
    check_keys(json, {"step", "epoch", "images_per_second", "color_loss", "class_loss", "top1",
                      "checkpoint"});
    CHECK(json.at("step").integer() == 2);
    CHECK(fs::exists(json.at("checkpoint").string()));
    CHECK(run(with({"--steps", "2"})).code == 2);  // holds a run already

    const Process process(with({"--resume", "--steps", "1000000", "--threads", "1"}));
    while (contents(process.files.path / "err").empty() && kill(process.id, 0) == 0) usleep(10'000);
    kill(process.id, SIGINT);
    const Finished stopped = process.wait();
    CHECK(stopped.code == 75);
    CHECK(stopped.err.find("train --resume --config " + run_folder + "/train.ini") !=
          std::string::npos);
    // What it says goes on with what it was told last, not with the first 2 steps.
    const Process further({"train", "--resume", "--config", run_folder + "/train.ini"});
    while (contents(further.files.path / "err").empty() && kill(further.id, 0) == 0) usleep(10'000);
    kill(further.id, SIGINT);
    CHECK(further.wait().code == 75);
    const auto go_on = [&](const std::string& steps) {
        const Finished resumed = run({"train", "--resume", "--config", run_folder + "/train.ini",
                                      "--steps", steps, "--json"});
        CAPTURE(resumed.err);
        CHECK(resumed.code == 0);
        return Json::parse(resumed.out);
    };
    const Json nothing = go_on("1");  // took no step, so it has measured none
    const int64_t step = nothing.at("step").integer();
    CHECK(step >= 2);
    for (const char* key : {"color_loss", "class_loss", "top1", "images_per_second"})
        CHECK(nothing.at(key).dump() == "null");
    const Json more = go_on(std::to_string(step + 1));
    CHECK(more.at("step").integer() == step + 1);
    CHECK(more.at("color_loss").number() > 0);

    const Finished none = run({"train", "scenes:6:64", "--out", place / "none", "--resume"});
    CHECK(none.code == 2);
    CHECK(none.err.find("holds no run to --resume") != std::string::npos);

    // Other scenes than the checkpoint's three: a new class head.
    CHECK(run({"train", "scenes:6:64", "--out", place / "tuned", "--init", place.weights, "--steps",
               "1", "--batch", "2"})
              .code == 0);
    CHECK(
        run({"train", "scenes:6:64", "--out", place / "no", "--init", place.photo, "--steps", "1"})
            .code == 4);
    CHECK(run({"train", place / "none", "--out", place / "no"}).code == 3);
}

TEST_CASE("hostile photos: the right exit code, one line, nothing written, no waste") {
    const Place place;
    std::vector<Hostile> photos = hostile_photos();
    CHECK(photos.size() >= 40);
    for (const Hostile& hostile : photos) {
        const std::string path = place / hostile.name, output = place / "out.png";
        write_bytes(path, hostile.bytes);
        const Finished done = place.colorize({path, "-o", output});
        CAPTURE(hostile.name);
        CAPTURE(done.err);
        CHECK(done.code == hostile.code);
        CHECK(done.messages() == 1);
        CHECK(done.err.starts_with("lumachrome: " + path + ": "));
        CHECK(done.cpu_seconds < kMostSeconds);
        CHECK(done.peak_mib < kMostMib);
        CHECK_FALSE(fs::remove(output));
    }
}

TEST_CASE("odd photos come out in their size") {
    const Place place;
    for (const Hostile& odd : odd_photos()) {
        const std::string path = place / odd.name, output = place / ("out-" + odd.name);
        write_bytes(path, odd.bytes);
        const Finished done = place.colorize({path, "-o", output});
        CAPTURE(odd.name);
        CAPTURE(done.err);
        CHECK(done.code == odd.code);
        CHECK(done.cpu_seconds < kMostSeconds);
        CHECK(done.peak_mib < kMostMib);
        REQUIRE(fs::exists(output));
        const Image before = read_image(path), after = read_image(output);
        CHECK(after.width == before.width);
        CHECK(after.height == before.height);
    }
}

TEST_CASE("broken checkpoints: exit code 4, one line, nothing written, no waste") {
    const Place place;
    for (const Hostile& hostile : hostile_models()) {
        const std::string path = place / hostile.name, output = place / "out.png";
        write_bytes(path, hostile.bytes);
        const Finished done = run({"colorize", place.photo, "-o", output, "--weights", path});
        CAPTURE(hostile.name);
        CAPTURE(done.err);
        CHECK(done.code == hostile.code);
        CHECK(done.messages() == 1);
        CHECK(done.err.find(path + ": ") != std::string::npos);
        CHECK(done.cpu_seconds < kMostSeconds);
        CHECK(done.peak_mib < kMostMib);
        CHECK_FALSE(fs::remove(output));
    }
}

TEST_CASE("what is no file at all") {
    const Place place;
    const std::string output = place / "out.png";
    const auto check = [&](const Finished& done, int code) {
        CAPTURE(done.err);
        CHECK(done.code == code);
        CHECK(done.messages() == 1);
        CHECK_FALSE(fs::remove(output));
    };
    check(place.colorize({place / "missing.png", "-o", output}), 3);
    check(place.colorize({place / "no*match.png", "-o", output}), 3);
    check(place.colorize({place / "new\nline.png", "-o", output}), 3);
    fs::create_directories(place / "folder.png");
    check(place.colorize({place / "folder.png", "-o", output}), 3);
    check(run({"colorize", place.photo, "-o", output, "--weights", place / "folder.png"}), 4);
    check(run({"colorize", place.photo, "-o", output, "--weights", place / "missing.safetensors"}),
          4);
    check(place.colorize({"-", "-o", output}, "/dev/null"), 3);
    check(place.colorize({"-", "-o", output}, "/dev/zero"), 3);
    check(place.colorize({"/dev/zero", "-o", output}), 3);
    if (geteuid() == 0) {
        MESSAGE("an unreadable photo: not tried, root reads everything");
        return;
    }
    fs::permissions(place.photo, fs::perms::none);
    check(place.colorize({place.photo, "-o", output}), 3);
}
