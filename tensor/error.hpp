// The errors that the library throws. Each class is one exit code of the command line; the text is
// one line that names the file or op, the rule, and the actual values; what a file gives for a name
// cannot change that.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace lumachrome {

inline std::string one_line(std::string text) {
    for (char& c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
    return text;
}

class Error : public std::runtime_error {
  public:
    explicit Error(std::string text) : std::runtime_error(one_line(std::move(text))) {}
};

class UsageError : public Error {
    using Error::Error;
};  // wrong request             (exit 2)
class InputError : public Error {
    using Error::Error;
};  // bad photo, list or folder (exit 3)
class ModelError : public Error {
    using Error::Error;
};  // bad weights or checkpoint (exit 4)
class ResourceError : public Error {
    using Error::Error;
};  // memory, disk or device    (exit 69)
class ShapeError : public Error {
    using Error::Error;
};  // op called with wrong shapes (exit 1)

}  // namespace lumachrome
