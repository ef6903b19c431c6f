#include "apps/cli.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <istream>
#include <iterator>
#include <memory>
#include <numeric>
#include <string_view>

#include "apps/commands/commands.hpp"
#include "apps/exit_code.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr Command (*kCommands[])() = {
    colorize_command,    classify_command,    train_command,       evaluate_command,
    report_command,      gradcheck_command,   inspect_command,     bench_infer_command,
    bench_style_command, bench_train_command, bench_ops_command,   bench_loader_command,
    data_scan_command,   data_pack_command,   data_scenes_command, convert_command,
    style_command,       explain_command,     serve_command,       doctor_command,
    man_command,         completions_command,
};

// Examples come before the options: most readers need nothing else.
class ExamplesFirst : public CLI::Formatter {
  public:
    ExamplesFirst() { column_width(32); }
    std::string make_help(const CLI::App* app, std::string name,
                          CLI::AppFormatMode mode) const override {
        std::string sections = make_groups(app, mode);
        for (size_t at; (at = sections.find("\n\n\n")) != sections.npos;) sections.erase(at, 1);
        return app->get_description() + "\n\nExamples:\n" + app->get_footer() + "\n\n" +
               make_usage(app, name) + make_positionals(app) + sections;
    }
    // "--size N [224]", "--optimizer adadelta|adam|sgd [adadelta]"
    std::string make_option_opts(const CLI::Option* option) const override {
        const std::string text = option->get_option_text();
        return option->get_positional() || text.empty() ? "" : " " + text;
    }
};

// Edit distance with insertions, deletions and replacements (Wagner and Fischer 1974).
size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
    const auto nearest =
        std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
            return edit_distance(word, a) < edit_distance(word, b);
        });
    const bool near =
        nearest != known.end() && edit_distance(word, *nearest) <= 1 + word.size() / 3;
    return near ? "; did you mean " + *nearest + "?" : "";
}

// Reads what OptionsFile describes.
class OptionsReader {
  public:
    explicit OptionsReader(std::istream& file) : text_(std::istreambuf_iterator<char>(file), {}) {}

    std::vector<CLI::ConfigItem> all() {
        std::vector<CLI::ConfigItem> items;
        for (skip(" \t\r\n"); at_ < text_.size(); skip(" \t\r\n")) {
            if (next_is("#;")) {
                until("\n");
                continue;
            }
            std::string name = until("=#\n");
            name.resize(name.find_last_not_of(" \t\r") + 1);
            std::vector<std::string> words = {"true"};
            if (next_is("=")) words = values();
            skip(" \t\r");
            if (at_ < text_.size() && !next_is("#\n")) refuse("one name=value a line");
            auto item = std::find_if(items.begin(), items.end(),
                                     [&](const auto& earlier) { return earlier.name == name; });
            if (item == items.end()) {
                item = items.insert(items.end(), CLI::ConfigItem{});
                item->name = name;
            }
            item->inputs.insert(item->inputs.end(), words.begin(), words.end());
        }
        return items;
    }

  private:
    std::vector<std::string> values() {
        ++at_;  // the =
        skip(" \t\r");
        const bool list = next_is("[");
        if (list) ++at_;
        const char* const between = list ? " \t\r\n," : " \t\r,";
        std::vector<std::string> words;
        for (skip(between); !next_is(list ? "]" : "#\n"); skip(between)) {
            if (at_ == text_.size()) {
                if (list) refuse("a [ without its ]");
                break;
            }
            if (next_is("#"))
                until("\n");
            else if (next_is("\"'"))
                words.push_back(quoted());
            else
                words.push_back(until(list ? " \t\r\n,#]" : " \t\r\n,#"));
        }
        if (list)
            ++at_;
        else if (words.empty())
            words.push_back("");
        return words;
    }

    std::string quoted() {
        const size_t begin = at_;
        const char quote = text_[at_];
        std::string word;
        for (++at_; at_ < text_.size(); ++at_) {
            if (text_[at_] == quote && (++at_ == text_.size() || text_[at_] != quote)) {
                if (at_ < text_.size() && !next_is(" \t\r\n,#]")) break;
                return word;
            }
            word += text_[at_];
        }
        at_ = begin;
        refuse(std::string("a value in quotes ends with its quote; one within is doubled, ") +
               quote + quote);
    }

    bool next_is(const char* one_of) const {
        return at_ < text_.size() && std::string_view(one_of).find(text_[at_]) != std::string::npos;
    }
    void skip(const char* any_of) {
        at_ = std::min(text_.find_first_not_of(any_of, at_), text_.size());
    }
    std::string until(const char* any_of) {
        const size_t begin = at_;
        at_ = std::min(text_.find_first_of(any_of, at_), text_.size());
        return text_.substr(begin, at_ - begin);
    }
    [[noreturn]] void refuse(const std::string& rule) const {
        const auto end = text_.begin() + static_cast<std::ptrdiff_t>(at_);
        throw UsageError(format("the options file, line %ld: ",
                                long{1} + long{std::count(text_.begin(), end, '\n')}) +
                         rule);
    }

    std::string text_;
    size_t at_ = 0;
};

// Options in a file, one name=value a line. A value with more in it than letters, digits and .-+_
// stands in quotes, in which that quote is doubled and nothing else is special. Several values of
// an option: [a, b], or its name again. The parser library's own class cuts at a # in quotes.
class OptionsFile : public CLI::Config {
  public:
    // All options in effect; what was not given and has no default is left out.
    std::string to_config(const CLI::App* app, bool, bool, std::string) const override {
        std::string text;
        for (const CLI::Option* option : app->get_options()) {
            if (!option->get_configurable()) continue;
            std::vector<std::string> words = option->reduced_results();
            if (words.empty()) {
                const std::string by_default = option->get_default_str();
                const bool flag = option->get_expected_min() == 0;
                words.push_back(by_default.empty() && flag ? "false" : by_default);
            }
            if (words.size() == 1 && (words[0].empty() || words[0] == "[]")) continue;
            text += option->get_single_name() + "=" + (words.size() > 1 ? "[" : "");
            for (size_t i = 0; i < words.size(); ++i)
                text += (i > 0 ? ", " : "") + written(words[i]);
            text += words.size() > 1 ? "]\n" : "\n";
        }
        return text;
    }

    std::vector<CLI::ConfigItem> from_config(std::istream& file) const override {
        return OptionsReader(file).all();
    }

  private:
    static std::string written(const std::string& word) {
        const auto plain = [](char c) {
            return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                   std::string_view(".-+_").find(c) != std::string::npos;
        };
        if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
        std::string text = "\"";
        for (const char c : word) text += c == '"' ? "\"\"" : std::string(1, c);
        return text + "\"";
    }
};

template <class T>
CLI::Validator in_range(const Option::Range& range) {
    const auto check = [range](std::string& word) -> std::string {
        T value{};
        const bool number = CLI::detail::lexical_cast(word, value);
        const double x = static_cast<double>(value);
        if (number && (range.above ? x > range.least : x >= range.least) && x <= range.most &&
            std::isfinite(x))
            return "";
        const std::string least = format("%.10g", range.least);
        if (std::isfinite(range.most))
            return "Value " + word + " not in range " + least + format(" to %.10g", range.most);
        return "Value " + word + (range.above ? " not above " : " not at least ") + least;
    };
    return CLI::Validator(check, "");
}

// One option of the table, in the words of the parser library.
struct AddTo {
    CLI::App& app;
    const Option& option;

    std::string names() const {
        std::string text;
        for (const std::string& name : option.names) text += (text.empty() ? "" : ",") + name;
        return text;
    }
    CLI::Option* operator()(ShowHelp) const { return app.set_help_flag(names(), option.help); }
    CLI::Option* operator()(const ConfigFile& file) const {
        app.config_formatter(std::make_shared<OptionsFile>());
        app.final_callback([&app = app, given = file.given] { *given = app.config_to_str(true); });
        app.allow_config_extras(CLI::config_extras_mode::error);
        return app.set_config(names(), "", option.help);
    }
    CLI::Option* operator()(const Setter& set) const {
        const auto call = [set, name = option.names.back()](const std::string& word) {
            try {
                set(word);
            } catch (const UsageError& error) {
                throw CLI::ValidationError(name, error.what());
            }
        };
        return app.add_option_function<std::string>(names(), call, option.help);
    }
    CLI::Option* operator()(bool* value) const {
        return app.add_flag(names(), *value, option.help);
    }
    CLI::Option* operator()(std::vector<std::string>* value) const {
        CLI::Option* made = app.add_option(names(), *value, option.help);
        if (option.word_count > 1) made->expected(option.word_count);
        return made->allow_extra_args(option.positional());
    }
    template <class T>
    CLI::Option* operator()(T* value) const {
        return app.add_option(names(), *value, option.help);
    }
};

// Command::decided, once the words are parsed.
Json decided_by(const Command& command, const CLI::App& app) {
    Json decided{Json::Object{}};
    for (const Option& option : command.options()) {
        const std::string& name = option.names.back();
        if (option.decides)
            decided.set(name, option.value_in_effect(app.get_option(name)->results()));
    }
    return decided;
}

std::unique_ptr<CLI::App> parser_of(const Command& command) {
    auto app =
        std::make_unique<CLI::App>(command.text.description, "lumachrome " + command.text.name);
    app->formatter(std::make_shared<ExamplesFirst>());
    app->footer(command.text.examples);
    app->option_defaults()->always_capture_default();
    for (const Option& option : command.options()) {
        CLI::Option* made = std::visit(AddTo{*app, option}, option.target);
        made->group(option.section)->option_text(option.value_text());
        made->required(option.is_required)->configurable(option.configurable);
        if (!option.choices.empty()) made->check(CLI::IsMember(option.choices));
        if (option.range && option.type == Option::Type::integer)
            made->check(in_range<int64_t>(*option.range));
        else if (option.range)
            made->check(in_range<double>(*option.range));
    }
    for (const Option& option : command.options())
        for (const std::string& other : option.excluded)
            app->get_option(option.names.back())->excludes(app->get_option(other));
    return app;
}

Request text_request(std::string text) {
    return {{},
            [text = std::move(text)](Console&) {
                std::fputs(text.c_str(), stdout);
                return 0;
            },
            {}};
}

std::string overview(const std::string& group) {
    std::string text =
        "Gives black-and-white photos plausible colours (after \"Let there be Color!\", Iizuka et "
        "al. 2016).\n";
    if (group.empty())
        text +=
            "\nExamples:\n"
            "  lumachrome colorize grandma.jpg              writes grandma-color.png beside it\n"
            "  lumachrome colorize album/ -o coloured/      a folder of photos\n"
            "  lumachrome train photos/ --out run           trains a network of your own\n";
    text += "\nCommands:\n";
    for (const Command& command : all_commands())
        if (command.text.name.starts_with(group))
            text += format("  %-14s %s\n", command.text.name.c_str(), command.text.summary.c_str());
    text += "\nlumachrome COMMAND --help tells more; --version the version.\n";
    std::string codes = "Exit codes:";
    for (const ExitCode& exit : kExitCodes)
        codes += format("%s %d %s", &exit == kExitCodes ? "" : ",", exit.code, exit.meaning);
    return text + codes + ".\n";
}

// The command that `words` begin with, which are taken off; throws UsageError with the nearest one.
Command take_command(std::vector<std::string>& words) {
    const std::string pair = words.size() > 1 ? words[0] + " " + words[1] : words[0];
    std::vector<std::string> firsts, pairs;
    std::vector<Command> all = all_commands();
    for (Command& command : all) {
        const std::string& name = command.text.name;
        const bool two = name.find(' ') != name.npos;
        if (name != words[0] && name != pair) {
            (two && name.starts_with(words[0] + " ") ? pairs : firsts).push_back(name);
            continue;
        }
        words.erase(words.begin(), words.begin() + (two ? 2 : 1));
        return std::move(command);
    }
    if (!pairs.empty()) {
        std::string list;
        for (const std::string& name : pairs) list += (list.empty() ? "" : ", ") + name;
        throw UsageError("unknown command " + pair + did_you_mean(pair, pairs) +
                         "; there are: " + list);
    }
    throw UsageError("unknown command " + words[0] + did_you_mean(words[0], firsts));
}

std::string nearest_option(const CLI::App& app, const std::vector<std::string>& unknown) {
    std::vector<std::string> known;
    for (const CLI::Option* option : app.get_options())
        for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    for (const std::string& word : unknown)
        if (word.starts_with("--")) return did_you_mean(word.substr(0, word.find('=')), known);
    return "";
}

}  // namespace

std::vector<Command> all_commands() {
    std::vector<Command> commands;
    for (Command (*describe)() : kCommands) commands.push_back(describe());
    return commands;
}

Request parse(std::vector<std::string> words) {
    const auto is_help = [](const std::string& word) { return word == "-h" || word == "--help"; };
    if (words.size() > 1 && words[0] == "help") {  // as COMMAND --help
        words.erase(words.begin());
        words.push_back("--help");
    }
    if (words.empty() || is_help(words[0]) || words[0] == "help") return text_request(overview(""));
    if (words[0] == "--version") return text_request("lumachrome " LUMACHROME_VERSION "\n");
    if ((words[0] == "bench" || words[0] == "data") && (words.size() == 1 || is_help(words[1])))
        return text_request(overview(words[0]));

    const Command command = take_command(words);
    const std::unique_ptr<CLI::App> parser = parser_of(command);
    try {
        std::reverse(words.begin(), words.end());  // as the parser takes them
        parser->parse(words);
    } catch (const CLI::CallForHelp&) {
        return text_request(parser->help());
    } catch (const CLI::ConfigError& error) {
        const std::string text = error.what();  // "INI was not able to parse NAME"
        const std::string option = text.substr(text.rfind(' ') + 1);
        throw UsageError(command.text.name + ": the options file says " + option +
                         ", which is no option" + nearest_option(*parser, {"--" + option}));
    } catch (const CLI::ParseError& error) {
        throw UsageError(command.text.name + ": " + error.what() +
                         nearest_option(*parser, parser->remaining()));
    }
    *command.decided = decided_by(command, *parser);
    return {*command.console, command.run, *command.decided};
}

}  // namespace lumachrome
