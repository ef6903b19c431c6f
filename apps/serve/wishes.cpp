#include "apps/serve/wishes.hpp"

#include <functional>
#include <map>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr size_t kMostStyles = 16;

[[noreturn]] void refuse(const std::string& key, const std::string& rule) {
    throw UsageError("\"" + key + "\" must be " + rule);
}

int64_t whole(const Json& value, const std::string& key, int64_t least, int64_t most) {
    const bool fits = value.is_integer() && value.integer() >= least && value.integer() <= most;
    if (!fits)
        refuse(key, "a whole number, " + std::to_string(least) + ".." + std::to_string(most));
    return value.integer();
}

double number(const Json& value, const std::string& key, int most) {
    const double given = value.number();
    if (!(given >= 0 && given <= most)) refuse(key, "a number, 0.." + std::to_string(most));
    return given;
}

// The index of the word that the value is.
size_t choice(const Json& value, const std::string& key, const std::vector<std::string>& words) {
    for (size_t i = 0; i < words.size(); ++i)
        if (value.is_string() && value.string() == words[i]) return i;
    std::string rule = words[0];
    for (size_t i = 1; i < words.size(); ++i) rule += " or " + words[i];
    refuse(key, rule);
}

void set_size(Wishes& wishes, const Json& value) {
    if (!value.is_string()) {
        wishes.size = whole(value, "size", 8, 8192);
        return;
    }
    wishes.size = 0;
    wishes.full = choice(value, "size", {"auto", "full"}) == 1;
}

void set_class(Wishes& wishes, const Json& value) {
    if (value.is_integer())  // of a model whose classes have no names
        wishes.scene_class = std::to_string(value.integer());
    else if (value.dump() != "null")
        wishes.scene_class = value.string();
}

void set_styles(Wishes& wishes, const Json& value) {
    if (value.array().size() > kMostStyles)
        refuse("styles", "at most " + std::to_string(kMostStyles));
    for (const Json& style : value.array()) {
        for (const auto& [key, part] : style.object())
            if (key != "id" && key != "weight") refuse("styles", "a list of {\"id\", \"weight\"}");
        if (!is_id(style.at("id").string())) refuse("id", "of a photo or style");
        wishes.styles.push_back({style.at("id").string(), number(style.at("weight"), "weight", 1)});
    }
}

using Setter = void (*)(Wishes&, const Json&);
const std::map<std::string, Setter> kSetters = {
    {"size", set_size},
    {"saturation",
     [](Wishes& w, const Json& value) { w.saturation = number(value, "saturation", 10); }},
    {"styles", set_styles},
    {"class", set_class},
    {"max", [](Wishes& w, const Json& value) { w.longest = whole(value, "max", 0, 65500); }},
    {"format",
     [](Wishes& w, const Json& value) {
         w.format = choice(value, "format", {"jpeg", "png"}) == 0 ? Format::jpeg : Format::png;
     }},
    {"quality",
     [](Wishes& w, const Json& value) {
         w.quality = static_cast<int>(whole(value, "quality", 1, 100));
     }},
    {"variant",
     [](Wishes& w, const Json& value) {
         w.baseline = choice(value, "variant", {"color", "baseline"}) == 1;
     }},
};

Json value_of(const std::string& text) {
    if (const auto number = whole_number(text, 0, INT64_MAX)) return *number;
    if (const auto number = decimal_number(text, 0, 1e9)) return *number;
    return text;
}

}  // namespace

Wishes wishes_of(const Json& object) try {
    Wishes wishes;
    for (const auto& [key, value] : object.object()) {
        const auto setter = kSetters.find(key);
        if (setter == kSetters.end()) throw UsageError("there is no setting of that name");
        setter->second(wishes, value);
    }
    return wishes;
} catch (const InputError& error) {  // of the wrong type
    throw UsageError(error.what());
}

Wishes parse_wishes(const std::string& text) try {
    return wishes_of(text.empty() ? Json(Json::Object{}) : Json::parse(text));
} catch (const InputError& error) {
    throw UsageError(error.what());
}

Wishes wishes_of(const Query& query) {
    Json object(Json::Object{});
    for (const auto& [name, value] : query)
        object.set(name, name == "class" ? Json(value) : value_of(value));
    return wishes_of(object);
}

}  // namespace lumachrome
