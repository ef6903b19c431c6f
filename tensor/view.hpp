// A typed window on contiguous memory with up to four axes, for executable definitions and naive
// kernels: x(n, h, w, c) as on paper.
#pragma once
#include "tensor/shape.hpp"

namespace lumachrome {

template <class T>
struct View {
    T* data = nullptr;
    Shape shape;

    T& operator()(int64_t i) const { return data[i]; }
    T& operator()(int64_t i, int64_t j) const { return data[i * shape[1] + j]; }
    T& operator()(int64_t n, int64_t h, int64_t w, int64_t c) const {
        return data[((n * shape[1] + h) * shape[2] + w) * shape[3] + c];
    }
    int64_t numel() const { return shape.numel(); }
};

}  // namespace lumachrome
