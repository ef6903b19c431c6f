// The recipes of train/recipes: every one still is what `train` takes.
#include <doctest/doctest.h>

#include <cstdlib>
#include <set>
#include <sstream>

#include "tests/apps/place.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

fs::path recipes() {
    const char* source = std::getenv("LUMACHROME_SOURCE");
    REQUIRE(source);
    return fs::path(source) / "train/recipes";
}

std::vector<std::string> all_recipes() {
    std::vector<std::string> paths;
    for (const auto& entry : fs::recursive_directory_iterator(recipes()))
        if (entry.path().extension() == ".ini") paths.push_back(entry.path().string());
    return paths;
}

std::set<std::string> options_of(const std::string& path) {
    std::set<std::string> options;
    std::istringstream text(contents(path));
    for (std::string line; std::getline(text, line);)
        if (!line.empty() && line[0] != '#') options.insert(line);
    return options;
}

}  // namespace

TEST_CASE("every recipe begins to train") {
    const TemporaryFolder here;
    int count = 0;
    for (const std::string& recipe : all_recipes()) {
        CAPTURE(recipe);
        const std::string out = here / std::to_string(count++);
        const Finished done = run({"train", "scenes:8:128", "--config", recipe, "--out", out,
                                   "--steps", "1", "--batch", "2", "--validation-steps", "100"});
        INFO(done.err);
        CHECK(done.code == 0);
        CHECK(fs::exists(out + "/model.safetensors"));
    }
    CHECK(count >= 2);
}

TEST_CASE("a misspelt option in a file is refused, with the nearest one") {
    const TemporaryFolder here;
    const std::string file = here / "recipe.ini";
    write_file_atomic(file, Bytes{'p', 'r', 'e', 's', 'e', 't', 't', '=', 'x', '\n'}, false);
    const Finished done =
        run({"train", "scenes:8", "--config", file, "--out", here / "run", "--steps", "1"});
    CHECK(done.code == 2);
    CHECK(done.messages() == 1);
    CHECK(done.err.find("did you mean --preset?") != done.err.npos);
}

TEST_CASE("an experiment differs from what it is compared with in one line") {
    for (const char* name : {"experiments", "larger"}) {
        const fs::path folder = recipes() / name;
        const std::set<std::string> full = options_of((folder / "full.ini").string());
        CHECK(full.size() > 5);
        int experiments = 0;
        for (const auto& entry : fs::directory_iterator(folder)) {
            if (entry.path().filename() == "full.ini") continue;
            CAPTURE(entry.path());
            std::set<std::string> own = options_of(entry.path().string());
            for (const std::string& option : full) CHECK(own.erase(option) == 1);
            CHECK(own.size() == 1);
            ++experiments;
        }
        CHECK(experiments > 0);
    }
}

TEST_CASE("a larger experiment is the small one at another size") {
    const auto but_size = [](const fs::path& path) {
        std::set<std::string> options = options_of(path.string());
        CHECK(std::erase_if(options, [](const auto& o) { return o.starts_with("size="); }) == 1);
        return options;
    };
    int count = 0;
    for (const auto& entry : fs::directory_iterator(recipes() / "larger")) {
        CAPTURE(entry.path());
        const fs::path small = recipes() / "experiments" / entry.path().filename();
        CHECK(but_size(entry.path()) == but_size(small));
        CHECK(options_of(entry.path().string()) != options_of(small.string()));
        ++count;
    }
    CHECK(count >= 2);
}
