#include "apps/option_text.hpp"

#include <map>
#include <sstream>

#include "apps/exit_code.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

std::string replaced(const std::string& text, const std::map<char, std::string>& by) {
    std::string result;
    for (const char c : text) {
        const auto found = by.find(c);
        result += found == by.end() ? std::string(1, c) : found->second;
    }
    return result;
}

// ---- the manual page: groff_man(7) -------------------------------------------------------------

// A dash is a minus sign that can be copied; a line may not begin as a request would.
std::string roff(const std::string& text) {
    const std::string safe = replaced(text, {{'\\', "\\e"}, {'-', "\\-"}});
    return safe.starts_with('.') || safe.starts_with('\'') ? "\\&" + safe : safe;
}

std::string roff_lines(const std::string& text) {
    std::istringstream lines(text);
    std::string result;
    for (std::string line; std::getline(lines, line);) result += roff(line) + "\n";
    return result;
}

std::string roff_option(const Option& option) {
    std::string names;
    for (const std::string& name : option.names)
        names += (names.empty() ? "" : ", ") + ("\\fB" + roff(name) + "\\fR");
    if (!option.positional() && !option.value_name.empty())
        names += " \\fI" + roff(option.value_name) + "\\fR";
    std::string help = option.help;
    if (!option.default_text.empty() && option.type != Option::Type::flag)
        help += " (" + option.default_text + ")";
    return ".TP\n" + names + "\n" + roff(help) + "\n";
}

std::string roff_command(const Command& command) {
    std::string text =
        ".SS \"" + command.text.name + "\"\n" + roff(command.text.description) + "\n";
    for (const Option& option : command.options()) text += roff_option(option);
    return text + ".P\n.EX\n" + roff_lines(command.text.examples) + ".EE\n";
}

// ---- completions -------------------------------------------------------------------------------

// The first words, and for those with a second word all of these: "bench" -> "infer", "ops".
struct Words {
    std::map<std::string, std::string> firsts;  // with a summary
    std::map<std::string, std::map<std::string, std::string>> seconds;
};
Words words_of(std::span<const Command> commands) {
    Words words;
    for (const Command& command : commands) {
        const std::string& name = command.text.name;
        const size_t space = name.find(' ');
        const std::string first = name.substr(0, space);
        words.firsts[first] = space == name.npos ? command.text.summary : first + " ...";
        if (space != name.npos) words.seconds[first][name.substr(space + 1)] = command.text.summary;
    }
    return words;
}

std::vector<std::string> names_of(const std::map<std::string, std::string>& words) {
    std::vector<std::string> names;
    for (const auto& [name, summary] : words) names.push_back(name);
    return names;
}

// In single quotes of any of the shells.
std::string quoted(const std::string& text) {
    return "'" + replaced(text, {{'\'', "'\\''"}}) + "'";
}

std::string bash(std::span<const Command> commands) {
    const Words words = words_of(commands);
    std::string text =
        "# bash completion of lumachrome\n"
        "_lumachrome() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    local command=${COMP_WORDS[1]} options=\n"
        "    COMPREPLY=()\n"
        "    if [ $COMP_CWORD = 1 ]; then\n"
        "        COMPREPLY=($(compgen -W " +
        quoted(joined(names_of(words.firsts))) + " -- \"$word\"))\n        return\n    fi\n";
    text += "    case $command in\n";
    for (const auto& [first, seconds] : words.seconds)
        text += "    " + first +
                ")\n        if [ $COMP_CWORD = 2 ]; then\n            COMPREPLY=($(compgen -W " +
                quoted(joined(names_of(seconds))) +
                " -- \"$word\"))\n            return\n        fi\n"
                "        command=\"$command ${COMP_WORDS[2]}\" ;;\n";
    text += "    esac\n    case \"$command $before\" in\n";
    for (const Command& command : commands) {
        for (const Option& option : command.options())
            if (!option.choices.empty())
                for (const std::string& name : option.names)
                    text += "    " + quoted(command.text.name + " " + name) +
                            ") COMPREPLY=($(compgen -W " + quoted(joined(option.choices)) +
                            " -- \"$word\")); return ;;\n";
    }
    text += "    esac\n    case $command in\n";
    for (const Command& command : commands) {
        std::vector<std::string> names;
        for (const Option& option : command.options())
            if (!option.positional())
                names.insert(names.end(), option.names.begin(), option.names.end());
        text += "    " + quoted(command.text.name) + ") options=" + quoted(joined(names)) + " ;;\n";
    }
    return text +
           "    esac\n"
           "    [[ $word = -* ]] && COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
           "}\n"
           "complete -o default -F _lumachrome lumachrome\n";
}

// Within [...] of _arguments brackets and colons have a meaning.
std::string zsh_help(const std::string& text) {
    return replaced(text, {{'[', "\\["}, {']', "\\]"}, {':', "\\:"}, {'\'', "'\\''"}});
}

std::string zsh_option(const Option& option) {
    std::string text;
    for (const std::string& name : option.names) {
        text += " \\\n            '" + std::string(option.repeatable ? "*" : "") + name + "[" +
                zsh_help(option.help) + "]";
        if (option.type != Option::Type::flag)
            text += ":" + zsh_help(option.value_name) + ":" +
                    (option.choices.empty() ? "_files" : "(" + joined(option.choices) + ")");
        text += "'";
    }
    return text;
}

std::string zsh_described(const std::map<std::string, std::string>& words) {
    std::string text;
    for (const auto& [name, summary] : words)
        text += " " + quoted(name + ":" + replaced(summary, {{':', "\\:"}}));
    return text;
}

std::string zsh(std::span<const Command> commands) {
    const Words words = words_of(commands);
    std::string text =
        "#compdef lumachrome\n"
        "_lumachrome() {\n"
        "    local -a names\n"
        "    if (( CURRENT == 2 )); then\n        names=(" +
        zsh_described(words.firsts) +
        ")\n        _describe command names\n        return\n    fi\n"
        "    local command=$words[2] first=3\n    case $command in\n";
    for (const auto& [name, seconds] : words.seconds)
        text += "    " + name + ")\n        if (( CURRENT == 3 )); then\n            names=(" +
                zsh_described(seconds) +
                ")\n            _describe command names\n            return\n        fi\n"
                "        command=\"$command $words[3]\" ;;\n";
    text += "    esac\n    case $command in\n";
    for (const Command& command : commands) {
        text += "    " + quoted(command.text.name) + ")\n        _arguments -s '*:file:_files'";
        for (const Option& option : command.options())
            if (!option.positional()) text += zsh_option(option);
        text += " ;;\n";
    }
    return text + "    esac\n}\n_lumachrome \"$@\"\n";
}

std::string fish(std::span<const Command> commands) {
    const auto line = [](const std::string& condition, const std::string& rest) {
        return "complete -c lumachrome -n " + quoted(condition) + " " + rest + "\n";
    };
    const auto described = [](const std::string& help) {
        return " -d '" + replaced(help, {{'\\', "\\\\"}, {'\'', "\\'"}}) + "'";
    };
    const Words words = words_of(commands);
    std::string text = "# fish completion of lumachrome\n";
    for (const auto& [name, summary] : words.firsts)
        text += line("__fish_use_subcommand", "-f -a " + name + described(summary));
    for (const auto& [first, seconds] : words.seconds)
        for (const auto& [name, summary] : seconds)
            text +=
                line("__fish_seen_subcommand_from " + first, "-f -a " + name + described(summary));
    for (const Command& command : commands) {
        std::string condition;
        std::istringstream parts(command.text.name);
        for (std::string part; parts >> part;)
            condition +=
                (condition.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + part);
        for (const Option& option : command.options()) {
            if (option.positional()) continue;
            std::string rest;
            for (const std::string& name : option.names)
                rest += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
            if (option.type != Option::Type::flag) rest += " -r";
            if (!option.choices.empty()) rest += " -f -a " + quoted(joined(option.choices));
            text += line(condition, rest.substr(1) + described(option.help));
        }
    }
    return text;
}

}  // namespace

std::string man_page(std::span<const Command> commands, const std::string& version) {
    std::string text =
        ".TH LUMACHROME 1 \"\" \"lumachrome " + version +
        "\" \"User Commands\"\n.SH NAME\nlumachrome \\- gives black\\-and\\-white photos plausible "
        "colours\n.SH SYNOPSIS\n\\fBlumachrome\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]...\n"
        ".SH DESCRIPTION\nThe colorization network of Iizuka, Simo\\-Serra and Ishikawa (2016), "
        "trained and run without any framework. A photo keeps its own luminance at full "
        "resolution; its colours are predicted.\n.SH COMMANDS\n";
    for (const Command& command : commands) text += roff_command(command);
    text += ".SH EXIT STATUS\n";
    for (const ExitCode& exit : kExitCodes)
        text += ".TP\n\\fB" + std::to_string(exit.code) + "\\fR\n" + roff(exit.meaning) + "\n";
    return text +
           ".SH ENVIRONMENT\n.TP\n\\fBLUMACHROME_WEIGHTS\\fR\nThe model instead of the default "
           "one.\n.TP\n\\fBNO_COLOR\\fR\nNo colours in messages.\n";
}

std::string completions(std::span<const Command> commands, const std::string& shell) {
    if (shell == "bash") return bash(commands);
    if (shell == "zsh") return zsh(commands);
    if (shell == "fish") return fish(commands);
    throw UsageError("completions: " + shell + " is none of bash, zsh, fish");
}

}  // namespace lumachrome
