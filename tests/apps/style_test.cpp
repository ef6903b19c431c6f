// Styles and explanations from the command line.
#include <doctest/doctest.h>

#include "tensor/json.hpp"
#include "tests/apps/place.hpp"

using namespace lumachrome;

namespace {

Finished with_weights(const Place& place, std::vector<std::string> words) {
    words.insert(words.begin() + 1, {"--weights", place.weights});
    return run(std::move(words));
}

}  // namespace

TEST_CASE("a style by its photo and by its file colours alike") {
    const Place place;
    const std::string file = place.here / "other.any";  // told by its content, not its name
    REQUIRE(with_weights(place, {"style", place.other, "-o", file}).code == 0);
    CHECK(with_weights(place, {"style", place.other, "-o", file}).code == 2);  // exists already
    const auto colored = [&](const std::string& name, const std::vector<std::string>& wishes) {
        std::vector<std::string> words{place.photo, "-o", place.here / name};
        words.insert(words.end(), wishes.begin(), wishes.end());
        const Finished done = place.colorize(words);
        INFO(done.err);
        REQUIRE(done.code == 0);
        return read_image(place.here / name).bytes;
    };
    const auto plain = colored("plain.png", {}),
               styled = colored("a.png", {"--style", place.other});
    CHECK(plain != styled);
    CHECK(colored("b.png", {"--style", file}) == styled);
    CHECK(colored("c.png", {"--style", file + ":0"}) == plain);
    CHECK(colored("d.png", {"--style", place.other + ":0.5"}) != styled);
    CHECK(colored("e.png", {"--class", "sea"}) != plain);
}

TEST_CASE("what is no style, and no scene, is refused in one line before any photo") {
    const Place place;
    const std::string output = place.here / "x.png", other_weights = place.here / "w.safetensors",
                      file = place.here / "a.style";
    REQUIRE(with_weights(place, {"style", place.other, "-o", file}).code == 0);
    const auto refused = [&](const std::vector<std::string>& wishes, int code) {
        std::vector<std::string> words{place.photo, place.other, "-o", place.here / "out/"};
        words.insert(words.end(), wishes.begin(), wishes.end());
        const Finished done = place.colorize(words);
        CAPTURE(done.err);
        CHECK(done.code == code);
        CHECK(done.messages() == 1);
    };
    refused({"--style", place.here / "none.jpg"}, 3);
    refused({"--style", place.weights}, 4);  // a network, no style
    refused({"--style", place.other + ":2"}, 2);
    refused({"--class", "moon"}, 2);
    Place::write_network(other_weights, 2);
    const Finished done =
        run({"colorize", "--weights", other_weights, place.photo, "-o", output, "--style", file});
    CHECK(done.code == 4);
    CHECK(done.err.find("other weights") != done.err.npos);
}

TEST_CASE("a network without a global branch refuses styles once, not for every photo") {
    const Place place;
    const std::string local = place.here / "local.safetensors";
    Spec spec = preset("tiny");
    spec.use_global = false;
    ColorNet net(spec, 1);
    write_tensor_file(local, model_file(net, {}), true);
    const auto refused = [&](const Finished& done) {
        CAPTURE(done.err);
        CHECK(done.code == 4);
        CHECK(done.messages() == 1);
        CHECK(done.err.find(local) != done.err.npos);
    };
    const std::string file = place.here / "a.style";
    refused(run({"style", "--weights", local, place.photo, place.other, "-o", file}));
    REQUIRE(with_weights(place, {"style", place.other, "-o", file}).code == 0);
    refused(run({"colorize", "--weights", local, place.photo, place.other, "-o",
                 place.here / "out/", "--style", file}));
}

TEST_CASE("no result replaces the photo that it is made from, however its name is spelled") {
    const Place place;
    const std::string before = contents(place.photo), again = place.here / "./photo.png";
    const auto refused = [&](const Finished& done) {
        CAPTURE(done.err);
        CHECK(done.code == 2);
        CHECK(done.messages() == 1);
        CHECK(done.err.find("would replace the photo") != done.err.npos);
        CHECK(contents(place.photo) == before);
    };
    refused(with_weights(place, {"explain", place.photo, "-o", again, "--overwrite"}));
    refused(with_weights(place, {"style", place.other, place.photo, "-o", again, "--overwrite"}));
    refused(place.colorize({place.photo, "-o", again, "--overwrite"}));
}

TEST_CASE("explain writes one page that fetches nothing") {
    const Place place;
    const std::string page = place.here / "page.html";
    const Finished done = with_weights(place, {"explain", place.photo, "-o", page, "--json"});
    INFO(done.err);
    REQUIRE(done.code == 0);
    CHECK(Json::parse(done.out).at("report").string() == page);
    const std::string html = contents(page);
    CHECK(html.find("<!DOCTYPE html>") == 0);
    for (const char* part : {"forest", "Global against local", "color.4", "default-src 'none'"})
        CHECK(html.find(part) != html.npos);
    CHECK(html.find("://") == html.npos);
    CHECK(with_weights(place, {"explain", place.photo, "-o", page}).code == 2);  // exists already
    CHECK(with_weights(place, {"explain", place.here / "none.jpg", "-o", place.here / "y"}).code ==
          3);
}
