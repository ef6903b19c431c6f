// The program about itself, for packages and shells.
#include <cstdio>

#include "apps/cli.hpp"
#include "apps/commands/commands.hpp"
#include "apps/option_text.hpp"

namespace lumachrome {
namespace {

struct ManOptions {};
int run_man(const ManOptions&, Console&) {
    std::fputs(man_page(all_commands(), LUMACHROME_VERSION).c_str(), stdout);
    return 0;
}

struct CompletionsOptions {
    std::string shell;
};
int run_completions(const CompletionsOptions& options, Console&) {
    std::fputs(completions(all_commands(), options.shell).c_str(), stdout);
    return 0;
}

}  // namespace

Command man_command() {
    Command command({
        .name = "man",
        .summary = "the manual page",
        .description = "Writes the manual page, as man(1) reads it.",
        .examples = "  lumachrome man > lumachrome.1",
    });
    command.runs(run_man);
    return command;
}

Command completions_command() {
    Command command({
        .name = "completions",
        .summary = "what a shell completes",
        .description = "Writes a script for a shell to complete commands, options and their words.",
        .examples = "  lumachrome completions bash > "
                    "~/.local/share/bash-completion/completions/lumachrome\n"
                    "  lumachrome completions zsh > ~/.zfunc/_lumachrome\n"
                    "  lumachrome completions fish > ~/.config/fish/completions/lumachrome.fish",
    });
    CompletionsOptions& options = command.runs(run_completions);
    command.add("SHELL", options.shell, "bash, zsh or fish")
        .one_of({std::begin(kShells), std::end(kShells)})
        .required();
    return command;
}

}  // namespace lumachrome
