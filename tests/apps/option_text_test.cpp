// Manual page and completions: nothing is missing, and a shell understands its script.
#include "apps/option_text.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "apps/cli.hpp"
#include "apps/process.hpp"
#include "tensor/error.hpp"

using namespace lumachrome;

namespace {

std::string without(std::string text, const std::string& part) {
    for (size_t at; (at = text.find(part)) != text.npos;) text.erase(at, part.size());
    return text;
}

// What bash offers after these words, the last of which is being typed.
std::string bash_offers(const std::string& completion, const std::string& words) {
    const TemporaryFolder folder;
    std::ofstream(folder / "try.bash")
        << completion << "COMP_WORDS=(lumachrome " << words
        << ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_lumachrome\necho \"${COMPREPLY[@]}\"\n";
    const std::string command =
        "bash '" + (folder / "try.bash") + "' > '" + (folder / "out") + "' 2>&1";
    CHECK(std::system(command.c_str()) == 0);
    return contents(folder.path / "out");
}

}  // namespace

TEST_CASE("the manual page names every command and option") {
    const std::vector<Command> commands = all_commands();
    const std::string page = without(man_page(commands, "1.2.3"), "\\");
    CHECK(page.starts_with(".TH LUMACHROME 1"));
    for (const Command& command : commands) {
        CHECK(page.find(".SS \"" + command.text.name + "\"") != page.npos);
        for (const Option& option : command.options()) {
            CAPTURE(option.names.back());
            CHECK(page.find("fB" + option.names.back() + "fR") != page.npos);
            CHECK(page.find(without(option.help, "\\")) != page.npos);
        }
    }
}

TEST_CASE("completions know commands, options and words") {
    const std::vector<Command> commands = all_commands();
    CHECK_THROWS_AS(completions(commands, "csh"), UsageError);
    for (const char* shell : kShells) {
        const std::string script = completions(commands, shell);
        for (const Command& command : commands)
            for (const Option& option : command.options())
                for (const std::string& name : option.names)
                    if (!option.positional())
                        CHECK(script.find(name.substr(name.rfind('-') + 1)) != script.npos);
    }
    const std::string script = completions(commands, "bash");
    CHECK(bash_offers(script, "colo") == "colorize\n");
    CHECK(bash_offers(script, "bench inf") == "infer\n");
    CHECK(bash_offers(script, "colorize --satur") == "--saturation\n");
    CHECK(bash_offers(script, "colorize --if-color ''") == "recolor skip error\n");
    CHECK(bash_offers(script, "bench infer --ste") == "--steps\n");
}
