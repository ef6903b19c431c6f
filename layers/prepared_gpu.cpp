// What conv2d_prepared_cuda.hpp and linear_prepared_cuda.hpp do on the CPU.
#include <algorithm>

#include "layers/conv2d_prepared_cuda.hpp"
#include "layers/linear_prepared_cuda.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

std::string count(int64_t photos) {
    return photos > 1 ? std::to_string(photos) + " of " : std::string();
}

}  // namespace

std::string PreparedConv2dGpuProblem::str() const {
    return count(N) + PreparedConv2dProblem::str() + ", " + name(in);
}

std::string PreparedLinearGpuProblem::str() const {
    return count(N) + std::to_string(I) + " -> " + std::to_string(O) +
           (activation ? std::string(", ") + name(*activation) : "") + ", " + name(weights);
}

Tensor columns_of_map(const Tensor& w, const Shape& map) {
    const int64_t O = w.shape()[0], C = map[3], pixels = map[1] * map[2];
    if (w.shape()[1] != C * pixels)
        throw ShapeError("columns_of_map: weights " + w.shape().str() + " for a map " + map.str());
    const Tensor result = Tensor::empty(w.shape());
    for (int64_t o = 0; o < O; ++o) {
        const float* in = w.data<float>() + o * C * pixels;
        float* out = result.data<float>() + o * C * pixels;
        for (int64_t c = 0; c < C; ++c)
            for (int64_t i = 0; i < pixels; ++i) out[i * C + c] = in[c * pixels + i];
    }
    return result;
}

Tensor fusion_as_linear(const Tensor& w, int64_t local_channels) {
    const int64_t K = w.shape()[0], R = w.shape()[1], C = w.shape()[3], G = C - local_channels;
    const Tensor result = Tensor::empty({kBorderCases * K, G});
    // Along one axis: the taps inside the image when the kernel hangs over the start (bit 0), over
    // the end (bit 1).
    const auto begin = [&](int64_t axis) { return axis & 1 ? R / 2 : 0; };
    const auto end = [&](int64_t axis) { return axis & 2 ? R / 2 + 1 : R; };
    for (int64_t c = 0; c < kBorderCases; ++c)
        for (int64_t k = 0; k < K; ++k)
            for (int64_t g = 0; g < G; ++g) {
                double sum = 0;
                for (int64_t r = begin(c / 4); r < end(c / 4); ++r)
                    for (int64_t s = begin(c % 4); s < end(c % 4); ++s)
                        sum += w.data<float>()[((k * R + r) * R + s) * C + local_channels + g];
                result.data<float>()[(c * K + k) * G + g] = static_cast<float>(sum);
            }
    return result;
}

Tensor for_border_cases(const Tensor& b) {
    const Tensor result = Tensor::empty({kBorderCases * b.numel()});
    for (int64_t c = 0; c < kBorderCases; ++c)
        std::copy_n(b.data<float>(), b.numel(), result.data<float>() + c * b.numel());
    return result;
}

}  // namespace lumachrome
