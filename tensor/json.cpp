#include "tensor/json.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tensor/error.hpp"

namespace lumachrome {

Json::Json() = default;
Json::Json(const Json&) = default;
Json::Json(Json&&) noexcept = default;
Json& Json::operator=(const Json&) = default;
Json& Json::operator=(Json&&) noexcept = default;
Json::~Json() = default;

// The event interface lets duplicate keys, depth and number forms be refused while parsing, before
// anything is built from them.
class JsonBuilder : public nlohmann::json_sax<nlohmann::json> {
  public:
    Json root;

    bool null() override { return add(Json()); }
    bool boolean(bool value) override { return add(Json(value)); }
    bool number_integer(number_integer_t value) override { return add(Json(int64_t{value})); }
    bool number_unsigned(number_unsigned_t value) override {
        if (value > uint64_t{INT64_MAX}) return fail("an integer exceeds 2^63 - 1");
        return add(Json(static_cast<int64_t>(value)));
    }
    bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
    bool string(string_t& value) override { return add(Json(std::move(value))); }
    bool binary(binary_t&) override { return fail("binary data"); }
    bool start_object(std::size_t) override { return open(Json(Json::Object{})); }
    bool end_object() override { return close(); }
    bool start_array(std::size_t) override { return open(Json(Json::Array{})); }
    bool end_array() override { return close(); }
    bool key(string_t& value) override {
        if (!stack_.back().keys.insert(value).second) return fail("key \"" + value + "\" twice");
        stack_.back().key = value;
        return true;
    }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception&) override {
        return fail("not valid JSON at byte " + std::to_string(position));
    }
    std::string error = "not valid JSON";

  private:
    static constexpr size_t kMaxDepth = 8;
    struct Level {
        Json value;
        std::string key;
        std::set<std::string> keys;
    };
    bool fail(std::string reason) {
        error = std::move(reason);
        return false;
    }
    bool open(Json value) {
        if (stack_.size() == kMaxDepth) return fail("JSON nested deeper than 8");
        stack_.push_back({std::move(value), {}, {}});
        return true;
    }
    bool close() {
        Json done = std::move(stack_.back().value);
        stack_.pop_back();
        return add(std::move(done));
    }
    bool add(Json value);
    std::vector<Level> stack_;
};

struct JsonConverter {
    static Json::Array* array(Json& json) { return std::get_if<Json::Array>(&json.value_); }
    static Json::Object* object(Json& json) { return std::get_if<Json::Object>(&json.value_); }
    static nlohmann::ordered_json convert(const Json& json) {
        return std::visit(
            [](const auto& value) -> nlohmann::ordered_json {
                using V = std::decay_t<decltype(value)>;
                if constexpr (std::is_same_v<V, Json::Array>) {
                    auto out = nlohmann::ordered_json::array();
                    for (const Json& item : value) out.push_back(convert(item));
                    return out;
                } else if constexpr (std::is_same_v<V, Json::Object>) {
                    auto out = nlohmann::ordered_json::object();
                    for (const auto& [key, item] : value) out[key] = convert(item);
                    return out;
                } else if constexpr (std::is_same_v<V, double>) {
                    if (!std::isfinite(value)) return nullptr;  // JSON has no NaN
                    return value;
                } else {
                    return value;
                }
            },
            json.value_);
    }
};

bool JsonBuilder::add(Json value) {
    if (stack_.empty()) {
        root = std::move(value);
    } else if (auto* array = JsonConverter::array(stack_.back().value)) {
        array->push_back(std::move(value));
    } else {
        JsonConverter::object(stack_.back().value)
            ->emplace_back(stack_.back().key, std::move(value));
    }
    return true;
}

Json Json::parse(std::string_view text) {
    JsonBuilder builder;
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder))
        throw InputError(builder.error);
    return std::move(builder.root);
}

std::string Json::dump(int indent) const {
    return JsonConverter::convert(*this).dump(indent, ' ', false,
                                              nlohmann::ordered_json::error_handler_t::replace);
}

template <class T>
const T& Json::typed(const char* wanted) const {
    if (const T* value = std::get_if<T>(&value_)) return *value;
    const std::string found = is_array()    ? "an array"
                              : is_object() ? "an object"
                                            : dump().substr(0, 40);
    throw InputError(std::string("JSON: ") + wanted + " is needed, found " + found);
}
template const Json::Object& Json::typed(const char*) const;
template const Json::Array& Json::typed(const char*) const;
template const std::string& Json::typed(const char*) const;
template const int64_t& Json::typed(const char*) const;
template const bool& Json::typed(const char*) const;

double Json::number() const {
    if (const auto* value = std::get_if<int64_t>(&value_)) return static_cast<double>(*value);
    if (const auto* value = std::get_if<double>(&value_)) return *value;
    throw InputError("JSON: a number is needed, found another value");
}

const Json* Json::find(std::string_view key) const {
    for (const auto& [name, value] : object())
        if (name == key) return &value;
    return nullptr;
}

const Json& Json::at(std::string_view key) const {
    if (const Json* value = find(key)) return *value;
    throw InputError("JSON: key \"" + std::string(key) + "\" is missing");
}

void Json::set(std::string key, Json value) {
    if (std::holds_alternative<std::nullptr_t>(value_)) value_ = Object{};
    auto& entries = std::get<Object>(value_);
    for (auto& [name, old] : entries)
        if (name == key) {
            old = std::move(value);
            return;
        }
    entries.emplace_back(std::move(key), std::move(value));
}

}  // namespace lumachrome
