// Texts about all commands, made from their descriptions and from nothing else: the manual page and
// what shells complete.
#pragma once
#include <span>
#include <string>

#include "apps/option_table.hpp"

namespace lumachrome {

// For man(1), section 1.
std::string man_page(std::span<const Command> commands, const std::string& version);

// A script for one of the shells. Throws UsageError for another word.
inline constexpr const char* kShells[] = {"bash", "zsh", "fish"};
std::string completions(std::span<const Command> commands, const std::string& shell);

}  // namespace lumachrome
