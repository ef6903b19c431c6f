// Protocol buffers' wire format, as far as ONNX needs it: a message is its fields one after
// another, each a key (number and form) with a varint, four bytes, or bytes of a given length.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace lumachrome {

class Message {
  public:
    Message& integer(int field, int64_t value) {
        key(field, 0);
        varint(static_cast<uint64_t>(value));
        return *this;
    }
    Message& real(int field, float value) {
        key(field, 5);
        char bytes[4];
        std::memcpy(bytes, &value, sizeof bytes);
        bytes_.append(bytes, sizeof bytes);
        return *this;
    }
    Message& text(int field, std::string_view value) {
        length(field, value.size());
        bytes_ += value;
        return *this;
    }
    Message& message(int field, const Message& value) { return text(field, value.bytes_); }
    // The start of a field whose so many bytes the caller writes behind this message.
    Message& length(int field, size_t bytes) {
        key(field, 2);
        varint(bytes);
        return *this;
    }
    Message& raw(std::string_view bytes) {
        bytes_ += bytes;
        return *this;
    }
    const std::string& bytes() const { return bytes_; }

  private:
    void key(int field, int form) { varint(static_cast<uint64_t>(field) << 3 | uint64_t(form)); }
    void varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
        bytes_ += static_cast<char>(value);
    }
    std::string bytes_;
};

}  // namespace lumachrome
