#include "apps/option_table.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>
#include <type_traits>

namespace lumachrome {
namespace {

constexpr double kMostWhole = 1e9, kUnlimited = std::numeric_limits<double>::infinity();

template <class T>
constexpr bool is_optional = false;
template <class T>
constexpr bool is_optional<std::optional<T>> = true;

template <class T>
constexpr Option::Type type_of() {
    if constexpr (is_optional<T>)
        return type_of<typename T::value_type>();
    else if constexpr (std::is_same_v<T, bool>)
        return Option::Type::flag;
    else if constexpr (std::is_integral_v<T>)
        return Option::Type::integer;
    else if constexpr (std::is_floating_point_v<T>)
        return Option::Type::number;
    else
        return Option::Type::text;
}

template <class T>
std::string text_of(const T& value) {
    if constexpr (is_optional<T>)
        return value ? text_of(*value) : "";
    else if constexpr (std::is_same_v<T, bool>)
        return value ? "yes" : "";
    else if constexpr (std::is_same_v<T, std::vector<std::string>>)
        return joined(value);
    else if constexpr (std::is_same_v<T, std::string>)
        return value;
    else {
        char text[32];  // the shortest that reads back the same
        return {text, std::to_chars(text, text + sizeof text, value).ptr};
    }
}

struct Describe {  // what the place that is filled says about the option
    Option& option;

    void operator()(ShowHelp) const { option.type = Option::Type::flag; }
    void operator()(const ConfigFile&) const { option.shown_as("FILE").not_configurable(); }
    void operator()(const Setter&) const {}
    template <class T>
    void operator()(T* value) const {
        option.type = type_of<T>();
        option.default_text = text_of(*value);
        option.repeatable = std::is_same_v<T, std::vector<std::string>>;
    }
};

}  // namespace

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
    return text;
}

bool Option::positional() const {
    for (const std::string& name : names)
        if (!name.starts_with('-')) return true;
    return false;
}

std::string Option::value_text() const {
    return default_text.empty() || type == Type::flag ? value_name
                                                      : value_name + " [" + default_text + "]";
}

std::string Option::value_in_effect(const std::vector<std::string>& words) const {
    const auto value = [&](const auto& held) -> std::string {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::vector<std::string>*>) {
            std::vector<std::string> kept = *held;
            if (kept_as) std::transform(kept.begin(), kept.end(), kept.begin(), kept_as);
            return joined(kept);
        } else if constexpr (std::is_pointer_v<Held>) {
            return text_of(*held);
        } else {
            return words.empty() ? default_text : joined(words);
        }
    };
    return std::visit(value, target);
}

Option& Option::within(double least, double most) {
    range = {least, most};
    return *this;
}

Option& Option::at_least(double least) {
    return within(least, type == Type::integer ? kMostWhole : kUnlimited);
}

Option& Option::positive() {
    range = {0, kUnlimited, true};
    return *this;
}

Option& Option::one_of(std::vector<std::string> words) {
    choices = std::move(words);
    value_name.clear();
    for (const std::string& word : choices) value_name += (value_name.empty() ? "" : "|") + word;
    return *this;
}

Option& Option::shown_as(std::string name) {
    value_name = std::move(name);
    return *this;
}

Option& Option::excludes(std::vector<std::string> others) {
    excluded = std::move(others);
    return *this;
}

Option& Option::takes(int count) {
    word_count = count;
    repeatable = false;
    return *this;
}

Option& Option::required() {
    is_required = true;
    return *this;
}

Option& Option::not_configurable() {
    configurable = false;
    return *this;
}

Option& Option::by_default(std::string text) {
    default_text = std::move(text);
    return *this;
}

Option& Option::same_result() {
    decides = false;
    return *this;
}

Option& Option::keeps(std::function<std::string(const std::string& word)> as) {
    kept_as = std::move(as);
    return *this;
}

Option& OptionTable::add_target(const std::string& names, OptionTarget target,
                                const std::string& help) {
    Option& option = options_.emplace_back();
    std::istringstream list(names);
    for (std::string name; std::getline(list, name, ',');) option.names.push_back(name);
    option.help = help;
    option.section = section_;
    option.type = Option::Type::text;
    option.target = std::move(target);
    std::visit(Describe{option}, option.target);
    if (option.value_name.empty() && option.type != Option::Type::flag)
        option.value_name = option.type == Option::Type::integer  ? "N"
                            : option.type == Option::Type::number ? "X"
                                                                  : "NAME";
    return option;
}

Command::Command(CommandText about) : text(std::move(about)) {
    const auto about_talk = [](Option& option) { option.not_configurable().same_result(); };
    about_talk(add_target("-h,--help", ShowHelp{}, "This text"));
    about_talk(add("--json", console->json, "One JSON object on stdout, nothing else"));
    about_talk(add("-q,--quiet", console->quiet, "Errors only"));
    about_talk(add("-v,--verbose", console->verbose, "More messages"));
}

}  // namespace lumachrome
