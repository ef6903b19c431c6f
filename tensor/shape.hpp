// Shape of a tensor: up to four extents, outermost first. Photos and activations are N,H,W,C;
// convolution filters K,R,S,C; matrices rows,columns.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

namespace lumachrome {

class Shape {
  public:
    static constexpr int kMaxRank = 4;

    Shape() = default;
    Shape(std::initializer_list<int64_t> extents);  // throws ShapeError: rank, negative, overflow

    int rank() const { return rank_; }
    int64_t operator[](int axis) const { return extents_[axis]; }
    int64_t back() const { return rank_ == 0 ? 1 : extents_[rank_ - 1]; }
    int64_t numel() const;
    // Pixels of an activation, rows of a matrix: everything but the last axis.
    int64_t rows() const { return back() == 0 ? 0 : numel() / back(); }
    std::string str() const;  // "2x14x14x512"
    bool operator==(const Shape&) const = default;

  private:
    int rank_ = 0;
    int64_t extents_[kMaxRank] = {};
};

}  // namespace lumachrome
