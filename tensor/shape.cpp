#include "tensor/shape.hpp"

#include "tensor/error.hpp"

namespace lumachrome {

Shape::Shape(std::initializer_list<int64_t> extents) {
    if (extents.size() > kMaxRank)
        throw ShapeError("shape: rank " + std::to_string(extents.size()) + " exceeds 4");
    int64_t total = 1;
    for (int64_t extent : extents) {
        if (extent < 0 || __builtin_mul_overflow(total, extent, &total))
            throw ShapeError("shape: extent " + std::to_string(extent) +
                             " is negative or too large");
        extents_[rank_++] = extent;
    }
}

int64_t Shape::numel() const {
    int64_t total = 1;
    for (int axis = 0; axis < rank_; ++axis) total *= extents_[axis];
    return total;
}

std::string Shape::str() const {
    if (rank_ == 0) return "scalar";
    std::string text = std::to_string(extents_[0]);
    for (int axis = 1; axis < rank_; ++axis) text += "x" + std::to_string(extents_[axis]);
    return text;
}

}  // namespace lumachrome
