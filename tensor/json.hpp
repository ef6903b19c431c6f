// A small JSON value for file headers, checkpoint metadata, logs and --json output. Strict on
// reading: duplicate keys, depth over 8 and trailing bytes are errors. Keys keep their order.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace lumachrome {

class Json {
  public:
    using Array = std::vector<Json>;
    using Object = std::vector<std::pair<std::string, Json>>;

    Json();  // null
    Json(const Json&);
    Json(Json&&) noexcept;
    Json& operator=(const Json&);
    Json& operator=(Json&&) noexcept;
    ~Json();
    Json(bool value) : value_(value) {}
    Json(int value) : value_(int64_t{value}) {}
    Json(int64_t value) : value_(value) {}
    Json(double value) : value_(value) {}
    Json(std::string value) : value_(std::move(value)) {}
    Json(const char* value) : value_(std::string(value)) {}
    Json(Array value) : value_(std::move(value)) {}
    Json(Object value) : value_(std::move(value)) {}

    // Throws InputError: what is wrong and where; never crashes on hostile text.
    static Json parse(std::string_view text);
    std::string dump(int indent = -1) const;  // -1: one line

    bool is_object() const { return std::holds_alternative<Object>(value_); }
    bool is_array() const { return std::holds_alternative<Array>(value_); }
    bool is_string() const { return std::holds_alternative<std::string>(value_); }
    bool is_integer() const { return std::holds_alternative<int64_t>(value_); }
    // Throw InputError when the value has another type.
    const Object& object() const { return typed<Object>("an object"); }
    const Array& array() const { return typed<Array>("an array"); }
    const std::string& string() const { return typed<std::string>("a string"); }
    int64_t integer() const { return typed<int64_t>("an integer"); }
    bool boolean() const { return typed<bool>("a boolean"); }
    double number() const;
    const Json* find(std::string_view key) const;  // null when absent
    const Json& at(std::string_view key) const;    // throws InputError when absent
    void set(std::string key, Json value);         // appends or replaces

  private:
    template <class T>
    const T& typed(const char* wanted) const;
    std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_ =
        nullptr;
    friend struct JsonConverter;
};

}  // namespace lumachrome
