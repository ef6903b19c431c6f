#include "autograd/op.hpp"

#include "tensor/error.hpp"

namespace lumachrome {

void throw_shape_error(const std::string& op, const std::string& rule, std::span<const Shape> in) {
    std::string text = op + ": " + rule + "; inputs are";
    for (const Shape& shape : in) text += " " + shape.str();
    throw ShapeError(text);
}

}  // namespace lumachrome
