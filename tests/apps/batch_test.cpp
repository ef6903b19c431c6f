// Batches: what is done is not done again, nothing is replaced unasked, every bad photo has its
// line.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <map>
#include <thread>

#include "tensor/json.hpp"
#include "tests/apps/place.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

constexpr const char* kManifest = ".lumachrome-manifest.jsonl";

// An album of so many photos, 10.png and on.
struct AlbumPlace : Place {
    std::string album = here / "album", out = here / "out";

    explicit AlbumPlace(int photos) {
        fs::create_directories(album);
        for (int i = 0; i < photos; ++i)
            write_image(photo_path(i), striped(30 + 3 * i, 40 - i), true);
    }
    std::string photo_path(int i) const { return album + "/" + std::to_string(10 + i) + ".png"; }
    std::string output(int i) const { return out + "/" + std::to_string(10 + i) + "-color.png"; }
    std::vector<std::string> batch(std::vector<std::string> more = {}) const {
        std::vector<std::string> words = {album, "-o", out + "/", "--json"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    Process on_two_threads() const {
        std::vector<std::string> words = batch({"--threads", "2", "--weights", weights});
        words.insert(words.begin(), "colorize");
        return Process(words);
    }
    Json report(const std::vector<std::string>& more = {}, int code = 0) const {
        const Finished done = colorize(batch(more));
        CAPTURE(done.err);
        CHECK(done.code == code);
        return Json::parse(done.out);
    }
};

// Which file bears each name, and since when.
using Identities = std::map<std::string, std::pair<ino_t, fs::file_time_type>>;
Identities identities(const std::string& folder) {
    Identities found;
    for (const auto& entry : fs::directory_iterator(folder)) {
        struct stat info {};
        ::stat(entry.path().c_str(), &info);
        if (entry.path().filename() != kManifest)
            found[entry.path().filename().string()] = {info.st_ino, entry.last_write_time()};
    }
    return found;
}

void check_counts(const Json& report, int64_t done, int64_t skipped, int64_t failed) {
    CHECK(report.at("done").integer() == done);
    CHECK(report.at("skipped").integer() == skipped);
    CHECK(report.at("failed").integer() == failed);
    CHECK(report.at("seconds").number() >= 0);
}

void append(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::app) << text;
}

double luma(const uint8_t* p) {
    return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
}

}  // namespace

TEST_CASE("the same batch again passes over what is done and does the rest") {
    const AlbumPlace place(4);
    check_counts(place.report(), 4, 0, 0);
    const Identities first = identities(place.out);
    REQUIRE(first.size() == 4);

    const Finished again = place.colorize(place.batch());
    CHECK(again.code == 0);
    CHECK(again.err.find("4 of 4 photos done already") != std::string::npos);
    CHECK(again.err.find("0 coloured, 4 skipped") != std::string::npos);
    const Json report = Json::parse(again.out);
    check_counts(report, 0, 4, 0);
    for (const Json& image : report.at("images").array()) {
        CHECK(image.at("skipped").boolean());
        CHECK(image.at("reason").string() == "done already");
    }
    CHECK(identities(place.out) == first);
    check_counts(place.report({"--overwrite"}), 0, 4, 0);  // would come out the same
    CHECK(identities(place.out) == first);

    fs::remove(place.output(2));  // unwanted, or lost
    check_counts(place.report(), 1, 3, 0);
    write_image(place.photo_path(4), striped(20, 20), true);
    check_counts(place.report(), 1, 4, 0);
    // Somebody's own work on a result stays his.
    append(place.output(1), "retouched");
    check_counts(place.report({"--overwrite"}), 0, 5, 0);
    CHECK(contents(place.output(1)).ends_with("retouched"));
    // The folder as a whole may move.
    fs::rename(place.out, place / "moved");
    const Finished moved = place.colorize({place.album, "-o", place / "moved", "--json"});
    check_counts(Json::parse(moved.out), 0, 5, 0);
}

TEST_CASE("what would come out differently is named and stays, unless it may be replaced") {
    const AlbumPlace place(3);
    place.report();
    const Identities first = identities(place.out);
    const auto refused = [&](const std::vector<std::string>& more, int64_t failed,
                             const std::string& reason) {
        const Finished done = place.colorize(place.batch(more));
        CAPTURE(done.err);
        CHECK(done.code == 5);
        CHECK(done.err.find("exists already, " + reason + "; --overwrite replaces it") !=
              std::string::npos);
        check_counts(Json::parse(done.out), 0, 3 - failed, failed);
        CHECK(identities(place.out) == first);
    };
    refused({"--saturation", "0.5"}, 3, "made with --saturation 1");
    refused({"--size", "24", "--strip-metadata"}, 3, "made with --size auto --strip-metadata off");
    Place::write_network(place.weights, 2);
    refused({}, 3, "made with another model");
    Place::write_network(place.weights, 1);
    write_image(place.photo_path(1), striped(50, 20), true);
    refused({}, 1, "made from another 11.png, or before it changed");
    // Said in another way, or without a say in the pixels.
    check_counts(
        place.report({"--saturation", "1.0", "--size", "auto", "--max-pixels", "99999"}, 5), 0, 2,
        1);
    check_counts(place.report({"--overwrite"}), 1, 2, 0);
    check_counts(place.report({"--saturation", "0.5", "--overwrite"}), 3, 0, 0);
    check_counts(place.report({"--saturation", ".5"}), 0, 3, 0);

    // Another album into the same folder.
    fs::create_directories(place / "second");
    fs::copy(place.photo_path(0), place / "second/10.jpg");
    const Finished other = place.colorize({place / "second", "-o", place.out + "/"});
    CHECK(other.code == 2);
    CHECK(other.err.find("made from another photo, 10.png") != std::string::npos);
}

TEST_CASE("a style is its content, whatever the name of its file") {
    const AlbumPlace place(2);
    const std::string mood = place / "a.style";
    const auto keep = [&](const std::string& photo) {
        return run({"style", "--weights", place.weights, photo, "-o", mood, "--overwrite"}).code;
    };
    REQUIRE(keep(place.other) == 0);
    check_counts(place.report({"--style", mood}), 2, 0, 0);
    REQUIRE(keep(place.other) == 0);
    check_counts(place.report({"--style", mood}), 0, 2, 0);
    REQUIRE(keep(place.photo) == 0);
    const Finished done = place.colorize(place.batch({"--style", mood}));
    CHECK(done.code == 5);
    CHECK(done.err.find("made with --style " + mood + " (sha256 ") != std::string::npos);
    check_counts(place.report({"--style", mood, "--overwrite"}), 2, 0, 0);
    check_counts(place.report({"--style", mood}), 0, 2, 0);
}

TEST_CASE("a manifest that is torn, foreign or gone costs no photo") {
    const AlbumPlace place(3);
    place.report();
    const std::string manifest = place.out + "/" + kManifest, whole = contents(manifest);
    CHECK(std::count(whole.begin(), whole.end(), '\n') == 3);
    const auto with_manifest = [&](const std::string& text) { std::ofstream(manifest) << text; };
    with_manifest(whole.substr(0, whole.size() - 20));  // torn: the last photo is unknown
    check_counts(place.report({}, 5), 0, 2, 1);
    check_counts(place.report({"--overwrite"}), 1, 2, 0);
    check_counts(place.report(), 0, 3, 0);  // the new line began on a line of its own
    with_manifest("not JSON\n[]\n{\"output\":7}\n\xff\xfe\n" + whole);
    check_counts(place.report(), 0, 3, 0);
    with_manifest("");
    const Finished unknown = place.colorize(place.batch());
    CHECK(unknown.code == 5);
    CHECK(unknown.err.find("exists already; --overwrite") != std::string::npos);
    check_counts(place.report({"--skip-existing"}), 0, 3, 0);
    fs::remove(manifest);
    fs::create_directory(manifest);
    const Finished blocked = place.colorize(place.batch());
    CHECK(blocked.code == 3);
    CHECK(blocked.messages() == 1);
}

TEST_CASE("names that are no UTF-8 are remembered too") {
    const AlbumPlace place(0);
    for (const char* name : {"gro\xdfmutter.png", "gro\xdcmutter.png", "\xc3\xa4.png"})
        fs::copy(place.photo, place.album + "/" + name);
    check_counts(place.report(), 3, 0, 0);
    check_counts(place.report(), 0, 3, 0);
}

TEST_CASE("killed at any moment, a batch goes on where it was and leaves nothing behind") {
    constexpr int kPhotos = 24, kMostKills = 12;
    const AlbumPlace place(kPhotos);
    for (int i = 0; i < kPhotos; ++i) write_image(place.photo_path(i), striped(500 + i, 400), true);
    size_t finished = 0;
    for (int kills = 0; kills < kMostKills && finished < kPhotos; ++kills) {
        const Process process = place.on_two_threads();
        // Once it has done something.
        for (int wait = 0; wait < 1000 && contents(process.files.path / "err").empty(); ++wait)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::this_thread::sleep_for(std::chrono::milliseconds(7 * kills));
        kill(process.id, SIGKILL);
        process.wait();
        finished = 0;
        for (int i = 0; i < kPhotos; ++i) finished += fs::exists(place.output(i));
    }
    CHECK(finished > 0);
    const Identities before = identities(place.out);
    check_counts(place.report(), kPhotos - int64_t(finished), int64_t(finished), 0);
    const Identities after = identities(place.out);
    CHECK(after.size() == kPhotos);  // and no temporary file
    for (const auto& [name, identity] : before)
        if (after.contains(name)) CHECK(after.at(name) == identity);
}

TEST_CASE("a box of hostile and odd photos: each good one comes out, each bad one has its line") {
    const AlbumPlace place(0);
    std::map<std::string, bool> good;
    const auto put = [&](const Hostile& file, bool is_good) {
        const std::string name = std::to_string(100 + good.size()) + "-" + file.name;
        write_bytes(place.album + "/" + name, file.bytes);
        good[name] = is_good;
    };
    for (const Hostile& file : hostile_photos()) put(file, false);
    for (const Hostile& file : odd_photos()) put(file, true);
    fs::create_directory(place.album + "/folder.jpg");
    good["folder.jpg"] = false;
    const Finished done = place.on_two_threads().wait();
    CHECK(done.code == 5);
    const Json report = Json::parse(done.out);
    const auto& images = report.at("images").array();
    REQUIRE(images.size() == good.size());
    for (const Json& image : images) {
        const std::string path = image.at("input").string();
        CAPTURE(path);
        const std::string output = image.at("output").string();
        std::istringstream lines(done.err);
        int named = 0;
        for (std::string line; std::getline(lines, line);)
            named += line.starts_with("lumachrome: " + path + ": ");
        CHECK(named == (good.at(fs::path(path).filename().string()) ? 0 : 1));
        CHECK((image.find("error") != nullptr) == (named == 1));
        CHECK(fs::exists(output) == (named == 0));
        if (named == 1) continue;
        const Image before = read_image(path), after = read_image(output);
        REQUIRE(after.width == before.width);
        REQUIRE(after.height == before.height);
        double worst = 0;
        for (size_t i = 0; i < size_t(before.width * before.height); ++i) {
            const double was = before.gray() ? before.bytes[i * size_t(before.channels)]
                                             : luma(&before.bytes[i * size_t(before.channels)]);
            worst =
                std::max(worst, std::abs(std::round(luma(&after.bytes[3 * i])) - std::round(was)));
        }
        CHECK(worst <= 1);
    }
    const Identities first = identities(place.out);
    check_counts(place.report({}, 5), 0, report.at("done").integer(),
                 report.at("failed").integer());
    CHECK(identities(place.out) == first);
}

TEST_CASE("folders without photos, and numbers in words") {
    const AlbumPlace place(1);
    fs::create_directories(place / "empty");
    const Finished alone = place.colorize({place / "empty"});
    CHECK(alone.code == 3);
    CHECK(alone.messages() == 1);
    const Finished done = place.colorize({place / "empty", place.album, "-o", place.out + "/"});
    CAPTURE(done.err);
    CHECK(done.code == 0);
    CHECK(done.err.find("empty: the folder holds no photo") != std::string::npos);
    CHECK(fs::exists(place.output(0)));
    const Finished again = place.colorize({place.album, "-o", place.out + "/"});
    CHECK(again.err.find("1 of 1 photo done already") != std::string::npos);
    CHECK(place.colorize(place.batch({"-q"})).err.empty());
}
