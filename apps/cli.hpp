// From words to a command that is ready to run. cli.cpp is the one file that knows the parser
// library.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/option_table.hpp"

namespace lumachrome {

struct Request {
    ConsoleOptions console;
    std::function<int(Console&)> run;  // returns the exit code
    Json decided = {};                 // Command::decided
};

// `words` without the program's name. Help and version are requests like any other. Throws
// UsageError, with the nearest command or option when one was mistyped.
Request parse(std::vector<std::string> words);

// In the order of the help text.
std::vector<Command> all_commands();

}  // namespace lumachrome
