// The descriptions of the commands, as data: complete, without contradictions, and true.
#include "apps/option_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <stdexcept>

#include "apps/cli.hpp"
#include "tensor/error.hpp"

using namespace lumachrome;

namespace {

struct Wishes {
    std::vector<std::string> inputs;
    std::string mode = "fast";
    std::optional<double> rate;
    double share = 0.25;
    int64_t count = 3;
    bool loud = false;
};

int grant(const Wishes& wishes, Console&) {
    return static_cast<int>(wishes.count);
}

const Option& find(const OptionTable& table, const std::string& name) {
    for (const Option& option : table.options())
        if (std::count(option.names.begin(), option.names.end(), name)) return option;
    FAIL("no option " << name);
    throw std::logic_error(name);
}

// "  lumachrome colorize - < in.png > out.png      in a pipe" -> {"colorize", "-"}
std::vector<std::string> words_of_example(const std::string& line) {
    const std::string start = "  lumachrome ";
    REQUIRE(line.starts_with(start));
    std::string text = line.substr(start.size());
    text.resize(std::min({text.size(), text.find("  "), text.find(" <"), text.find(" >")}));
    std::istringstream in(text);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    return words;
}

}  // namespace

TEST_CASE("an option table can be read: names, types, defaults, limits, sections") {
    Command command({.name = "wish", .summary = "s", .description = "d", .examples = "e"});
    Wishes& wishes = command.runs(grant);
    command.add("INPUT", wishes.inputs, "Photos").required();
    command.section("How");
    command.add("-m,--mode", wishes.mode, "Way").one_of({"fast", "slow"}).excludes({"--loud"});
    command.add("--rate", wishes.rate, "Speed").positive();
    command.add("--share", wishes.share, "Part").within(0, 1);
    command.add("--count", wishes.count, "Pieces").at_least(1);
    command.add("--loud", wishes.loud, "Noise").not_configurable();

    const Option& input = find(command, "INPUT");
    CHECK(input.positional());
    CHECK(input.repeatable);
    CHECK(input.is_required);
    CHECK(input.section == "Options");
    const Option& mode = find(command, "-m");
    CHECK(mode.names == std::vector<std::string>{"-m", "--mode"});
    CHECK(mode.type == Option::Type::text);
    CHECK(mode.value_text() == "fast|slow [fast]");
    CHECK(mode.excluded == std::vector<std::string>{"--loud"});
    CHECK(mode.section == "How");
    CHECK_FALSE(mode.positional());
    const Option& rate = find(command, "--rate");
    CHECK(rate.type == Option::Type::number);
    CHECK(rate.value_text() == "X");
    CHECK(rate.range->above);
    CHECK(find(command, "--share").value_text() == "X [0.25]");
    const Option& count = find(command, "--count");
    CHECK(count.type == Option::Type::integer);
    CHECK(count.value_text() == "N [3]");
    CHECK(count.range->most == 1e9);
    const Option& loud = find(command, "--loud");
    CHECK(loud.type == Option::Type::flag);
    CHECK(loud.value_text().empty());
    CHECK_FALSE(loud.configurable);

    // What runs sees the values that the table points to, also after the command has moved.
    *std::get<int64_t*>(count.target) = 7;
    const Command moved = std::move(command);
    Console console;
    CHECK(moved.run(console) == 7);
}

TEST_CASE("every command describes itself completely and without contradictions") {
    std::set<std::string> commands;
    for (const Command& command : all_commands()) {
        const std::string& name = command.text.name;
        CAPTURE(name);
        CHECK(commands.insert(name).second);
        CHECK_FALSE(command.text.summary.empty());
        CHECK(command.text.description.ends_with('.'));
        CHECK(command.run != nullptr);

        std::set<std::string> names;
        for (const Option& option : command.options())
            for (const std::string& each : option.names) {
                CAPTURE(each);
                CHECK(names.insert(each).second);
                const auto wrong = [&](char c) {
                    return !(option.positional() && !each.starts_with('-')
                                 ? c >= 'A' && c <= 'Z'
                                 : c == '-' || (c >= 'a' && c <= 'z'));
                };
                CHECK(std::none_of(each.begin(), each.end(), wrong));
            }
        for (const Option& option : command.options()) {
            CAPTURE(option.names.front());
            CHECK(option.help.size() > 3);
            CHECK(option.help.find('\n') == std::string::npos);
            CHECK_FALSE(option.section.empty());
            CHECK((option.type == Option::Type::flag) == option.value_name.empty());
            for (const std::string& other : option.excluded) CHECK(names.contains(other));
            if (std::holds_alternative<ConfigFile>(option.target)) CHECK_FALSE(option.configurable);
            CHECK_FALSE((option.is_required && !option.default_text.empty()));
            if (option.default_text.empty()) continue;
            if (!option.choices.empty())
                CHECK(std::count(option.choices.begin(), option.choices.end(),
                                 option.default_text) == 1);
            if (option.range) {
                const double value = std::stod(option.default_text);
                CHECK(value >= option.range->least);
                CHECK(value <= option.range->most);
            }
        }
    }
    CHECK(commands.contains("train"));
}

TEST_CASE("what decides a result is every option that does not say otherwise, as it is in effect") {
    const auto decided = [](std::vector<std::string> words) {
        words.insert(words.begin(), "colorize");
        return parse(std::move(words)).decided.dump();
    };
    const std::string plain = decided({"photo.png"});
    const Json json = Json::parse(plain);
    CHECK(json.at("--size").string() == "auto");
    CHECK(json.at("--saturation").string() == "1");
    CHECK(json.find("--threads") == nullptr);
    CHECK(json.find("INPUT") == nullptr);
    // Said otherwise, or about other things.
    CHECK(decided({"other.png", "--saturation", "1.0", "--size", "auto", "--threads", "3",
                   "--overwrite", "-o", "out/", "--quiet"}) == plain);
    for (const std::vector<std::string>& more : {std::vector<std::string>{"--saturation", "1.0001"},
                                                 {"--size", "full"},
                                                 {"--strip-metadata"},
                                                 {"--quality", "90"},
                                                 {"--path", "simple"}}) {
        std::vector<std::string> words = {"photo.png"};
        words.insert(words.end(), more.begin(), more.end());
        CHECK(decided(words) != plain);
    }
}

TEST_CASE("the examples of every command are requests that it understands") {
    for (const Command& command : all_commands()) {
        std::istringstream lines(command.text.examples);
        for (std::string line; std::getline(lines, line);) {
            CAPTURE(line);
            CHECK(line.starts_with("  lumachrome " + command.text.name));
            const std::vector<std::string> words = words_of_example(line);
            if (std::count(words.begin(), words.end(), "--config")) continue;  // reads that file
            CHECK_NOTHROW(parse(words));
        }
    }
    CHECK_THROWS_AS(parse({"colorize", "photo.png", "--overwite"}), UsageError);
}
