// A command describes itself here, as data: the parser (cli.cpp) and every text about options are
// made from it, and from nothing else.
//
//   Command command({.name = "convert", .summary = "a model in another number format", ...});
//   ConvertOptions& options = command.runs(run_convert);
//   command.add("IN", options.in, "Model to read").required();
//   command.add("--dtype", options.dtype, "Of weights").one_of({"f16", "f32"});
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "apps/console.hpp"

namespace lumachrome {

// What the command line fills. A setter takes the word itself and throws UsageError for a bad one.
struct ShowHelp {};
struct ConfigFile {
    std::string* given;  // afterwards all options in effect, as a file that is read back
};
using Setter = std::function<void(const std::string& word)>;
using OptionTarget =
    std::variant<ShowHelp, ConfigFile, Setter, bool*, int*, int64_t*, uint64_t*, double*,
                 std::string*, std::vector<std::string>*, std::optional<int64_t>*,
                 std::optional<double>*, std::optional<std::string>*>;

struct Option {
    enum class Type { flag, integer, number, text };
    struct Range {
        double least, most;  // inclusive; most is infinite when there is no limit
        bool above = false;  // least itself is outside
    };

    std::vector<std::string> names;  // "-o", "--output"; without a dash: positional, "INPUT"
    std::string help;
    std::string section;  // its heading in the help text
    Type type;
    bool repeatable = false;   // a list; a positional takes all words that are left
    int word_count = 1;        // of a list, given at once: "--compare A B"
    std::string default_text;  // empty: none
    std::vector<std::string> choices;
    std::optional<Range> range;
    std::string value_name;             // shown for the value: "N", "png|jpeg"; empty for flags
    std::vector<std::string> excluded;  // names of options that contradict this one
    bool is_required = false;
    bool configurable = true;  // may stand in a config file
    bool decides = true;       // what the results hold; see Command::decided
    // Of a list: what Command::decided keeps of a word, if not the word itself.
    std::function<std::string(const std::string& word)> kept_as;
    OptionTarget target;

    bool positional() const;
    std::string value_text() const;  // "N [224]"
    // What the target holds now, as it is kept; of a setter, which cannot be asked, the words it
    // was given.
    std::string value_in_effect(const std::vector<std::string>& words) const;

    Option& within(double least, double most);
    Option& at_least(double least);  // whole numbers: and at most a billion
    Option& positive();
    Option& one_of(std::vector<std::string> words);
    Option& shown_as(std::string name);
    Option& excludes(std::vector<std::string> others);
    Option& takes(int count);  // of a list: so many words, once
    Option& required();
    Option& not_configurable();
    Option& by_default(std::string text);  // of a setter, whose value cannot be read
    Option& same_result();                 // whatever its value
    Option& keeps(std::function<std::string(const std::string& word)> as);
};

std::string joined(const std::vector<std::string>& words);  // "a b c"

class OptionTable {
  public:
    // `names` with commas between, as "-o,--output" or "--data,DATA". The value at hand is the
    // default. What add returns stays valid as long as the table.
    template <class T>
    Option& add(const std::string& names, T& value, const std::string& help) {
        return add_target(names, &value, help);
    }
    Option& add(const std::string& names, Setter set, const std::string& help) {
        return add_target(names, std::move(set), help);
    }
    Option& add_config_file(const std::string& names, std::string& given, const std::string& help) {
        return add_target(names, ConfigFile{&given}, help);
    }
    // The heading of what is added from here on.
    void section(const std::string& heading) { section_ = heading; }

    const std::deque<Option>& options() const { return options_; }

  protected:
    Option& add_target(const std::string& names, OptionTarget target, const std::string& help);

  private:
    std::deque<Option> options_;  // a deque: references stay valid while it grows
    std::string section_ = "Options";
};

struct CommandText {
    std::string name;         // "train", "bench ops"
    std::string summary;      // beside its name in the list of commands
    std::string description;  // the first line of its help text
    std::string examples;     // lines of "  lumachrome NAME ..."
};

class Command : public OptionTable {
  public:
    CommandText text;
    std::shared_ptr<ConsoleOptions> console = std::make_shared<ConsoleOptions>();
    std::function<int(Console&)> run;  // returns the exit code
    // Afterwards {"option": "value in effect"} of all options but those of same_result(), for
    // commands that remember how a result was made.
    std::shared_ptr<Json> decided = std::make_shared<Json>();

    explicit Command(CommandText about);

    // What the command does, and the values it does it with, which live as long as `run`.
    template <class Values>
    Values& runs(int (*function)(const Values&, Console&)) {
        auto values = std::make_shared<Values>();
        run = [values, function](Console& out) { return function(*values, out); };
        return *values;
    }
};

}  // namespace lumachrome
