// `train` and `report` from the command line: what they are told, keep and refuse.
#include <doctest/doctest.h>

#include "tensor/json.hpp"
#include "tests/apps/place.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

TEST_CASE("train.ini reads back whatever the words were") {
    const Place place;
    const std::string odd = R"(Roll #3; 'a' "b" [c], d\e = f)", photos = place / odd;
    REQUIRE(run({"data", "scenes", photos, "--count", "6", "--size", "32"}).code == 0);
    const std::vector<std::string> values = {R"(note=y='it''s' "q", #1; [x] \n\)",
                                             "#",
                                             "'=\"",
                                             "\"=''",
                                             "[k]=[a, b]",
                                             "; =  x  ",
                                             "k=",
                                             "l=two\nlines"};
    std::vector<std::string> words = {"train",   photos, "--preset", "tiny",
                                      "--size",  "32",   "--batch",  "2",
                                      "--steps", "1",    "--out",    place / "a b"};
    for (const std::string& value : values)
        if (value.find('=') != value.npos) words.insert(words.end(), {"--metadata", value});
    const Finished first = run(words);
    CAPTURE(first.err);
    REQUIRE(first.code == 0);
    const std::string ini = place / "a b/train.ini", before = contents(ini);
    const Finished resumed = run({"train", "--resume", "--config", ini});
    CAPTURE(resumed.err);
    CHECK(resumed.code == 0);
    CHECK(contents(ini) == before);
    const Metadata metadata = read_tensor_file(place / "a b/model.safetensors").metadata;
    CHECK(metadata.at("trained_on") == odd);  // not where it lies
    for (const std::string& value : values) {
        const size_t equals = value.find('=');
        if (equals == value.npos) continue;
        CAPTURE(value);
        CHECK(metadata.at(value.substr(0, equals)) == value.substr(equals + 1));
    }

    // As people write it, and as earlier versions did.
    const auto begins = [&](const std::string& text) {
        write_bytes(place / "by-hand.ini", Bytes(text.begin(), text.end()));
        return run({"train", "--config", place / "by-hand.ini"});
    };
    const std::string rest =
        "preset = tiny\r\n\n# all of it\n ; and this\nsize=32 # a side\nbatch='2'\nsteps=1\n"
        "sync-bn=false\ntensorboard\n";
    const auto made = [&](const std::string& name, const std::string& text) {
        const Finished done = begins(rest + "out=" + (place / name) + "\n" + text);
        CAPTURE(done.err);
        REQUIRE(done.code == 0);
        return read_tensor_file(place / (name + "/model.safetensors")).metadata;
    };
    Metadata by_hand = made("h1", "data=scenes:6:32\nmetadata=\"a=1, #2\"\nmetadata='b=\\'\n");
    CHECK(by_hand.at("a") == "1, #2");
    CHECK(by_hand.at("b") == "\\");
    by_hand = made("h2", "data=[scenes:6:32,\n  scenes:6:32]\nmetadata=[\"c=3\", 'd=\"4\"']");
    CHECK(by_hand.at("c") == "3");
    CHECK(by_hand.at("d") == "\"4\"");
    CHECK(by_hand.at("trained_on") == "scenes:6:32 scenes:6:32");
    for (const char* wrong : {"data=\"scenes:6:32\n", "data=[scenes:6:32\n",
                              "data='scenes:6:32'x\n", "data=[scenes:6:32] x\n"}) {
        CAPTURE(wrong);
        const Finished refused = begins(wrong + rest + "out=" + (place / "no") + "\n");
        CHECK(refused.code == 2);
        CHECK(refused.messages() == 1);
        CHECK(refused.err.find("the options file, line ") != std::string::npos);
    }
}

TEST_CASE("train --overfit takes its own schedule, and passes only what it has seen") {
    const Place place;
    const std::string out = place / "run";
    const std::vector<std::string> words = {
        "train",       "scenes:8:64", "--overfit",       "2",     "--preset",   "tiny",
        "--size",      "32",          "--steps",         "20",    "--out",      out,
        "--batch",     "9",           "--epochs",        "5",     "--patience", "3",
        "--optimizer", "adam",        "--learning-rate", "0.001", "--schedule", "cosine"};
    const Finished first = run(words);
    CHECK((first.code == 0 || first.code == 6));
    CHECK(first.err.find("--batch --epochs --patience do not count") != std::string::npos);
    const std::string log = contents(out + "/metrics.jsonl");
    const Json line = Json::parse(log.substr(0, log.find('\n')));
    CHECK(line.at("step").integer() == 20);
    CHECK(line.at("learning_rate").number() < 1e-4);  // at the end of the cosine

    const Finished again = run({"train", "--resume", "--config", out + "/train.ini"});
    CHECK(again.code == 6);
    CHECK(again.err.find("no step was left to take") != std::string::npos);

    const Finished few = run({"train", "scenes:6:64", "--preset", "tiny", "--size", "32", "--batch",
                              "2", "--steps", "1", "--patience", "2", "--out", place / "few"});
    CHECK(few.code == 0);
    CHECK(few.err.find("--patience does not count") != std::string::npos);
}

TEST_CASE("report of several runs: a page where it is named, figures without one") {
    const Place place;
    const auto folder = [&](const std::string& name) {
        fs::create_directories(place / name);
        std::ofstream(place / (name + "/metrics.jsonl"))
            << R"({"step":20,"epoch":1,"color_loss":0.5})"
            << "\n"
            << R"({"step":40,"epoch":1,"color_loss":0.25})"
            << "\n";
        return place / name;
    };
    const std::string a = folder("a"), b = folder("b"), figures = place / "figures";
    CHECK(run({"report", a, b}).code == 2);
    const Finished drawn = run({"report", a, b, "--figures", figures, "--json"});
    CAPTURE(drawn.err);
    CHECK(drawn.code == 0);
    const Json json = Json::parse(drawn.out);
    CHECK(json.find("report") == nullptr);
    CHECK(json.at("figures").array().size() > 0);
    CHECK(fs::exists(figures + "/colour-loss.svg"));
    CHECK_FALSE(fs::exists(a + "/report.html"));
    CHECK(run({"report", a, b, "--figures", figures, "--overwrite", "-o", place / "both.html"})
              .code == 0);
    CHECK(fs::exists(place / "both.html"));
}
