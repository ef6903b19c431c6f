#include "image/color_float.hpp"
#include "image/resize_axis.hpp"
#include "tensor/cuda/launch.cuh"
#include "train/device_samples.hpp"

namespace lumachrome::cuda {
namespace {

// One axis of the square that is cut out of a photo.
__device__ AxisPixel along(int64_t side, int64_t size, int64_t index) {
    return {side, 0, static_cast<double>(side), size, index};
}

// Pixel (y, x) of the square, mirrored or not.
template <class T>
__device__ const T* pixel_of(const SampleSource& s, int64_t y, int64_t x) {
    const int64_t column = s.crop.left + (s.crop.mirror ? s.crop.side - 1 - x : x);
    return reinterpret_cast<const T*>(s.pixels) +
           ((s.crop.top + y) * s.width + column) * s.channels;
}

template <class T>
__device__ float luma_at(const SampleSource& s, int64_t size, int64_t oy, int64_t ox) {
    const AxisPixel rows = along(s.crop.side, size, oy), columns = along(s.crop.side, size, ox);
    float sum = 0;
    for (int64_t j = 0; j < columns.count; ++j) {
        float column = 0;
        for (int64_t i = 0; i < rows.count; ++i)
            column += rows.weight(i) *
                      luma_of(pixel_of<T>(s, rows.first + i, columns.first + j), s.channels);
        sum += columns.weight(j) * column;
    }
    if (!s.crop.jitter) return sum;
    const float changed = (sum - 0.5f) * s.crop.contrast + s.crop.brightness;
    return min(max(changed, 0.0f), 1.0f);
}

template <class T>
__device__ float2 target_at(const SampleSource& s, const float* linear, int64_t size, float scale,
                            int64_t oy, int64_t ox) {
    float a = 0, b = 0;
    if (s.channels >= 3) {
        const AxisPixel rows = along(s.crop.side, size, oy), columns = along(s.crop.side, size, ox);
        for (int64_t j = 0; j < columns.count; ++j) {
            float column_a = 0, column_b = 0;
            for (int64_t i = 0; i < rows.count; ++i) {
                const T* p = pixel_of<T>(s, rows.first + i, columns.first + j);
                const Chroma chroma = chroma_of(linear[p[0]], linear[p[1]], linear[p[2]]);
                const float weight = rows.weight(i);
                column_a += weight * chroma.a, column_b += weight * chroma.b;
            }
            const float weight = columns.weight(j);
            a += weight * column_a, b += weight * column_b;
        }
    }
    const auto in_range = [scale](float lab) {
        return min(max(lab, -scale), scale) / (2 * scale) + 0.5f;
    };
    return {in_range(a), in_range(b)};
}

// luma [N,S,S], ab [N,S/2,S/2] pairs. blockIdx.y is the sample; its threads take the S S pixels of
// luma, then those of ab. Every pixel by itself: a source pixel is converted again by each output
// pixel that it is part of, at most four, and photos of a few hundred kB stay in L2.
__global__ void make_kernel(const SampleSource* sources, int64_t size, float ab_scale,
                            const float* linear_8, const float* linear_16, float* luma,
                            float2* ab) {
    const SampleSource s = sources[blockIdx.y];
    const int64_t half = size / 2, grays = size * size, colours = half * half;
    luma += blockIdx.y * grays;
    ab += blockIdx.y * colours;
    for (int64_t i = first_index(); i < grays; i += index_step())
        luma[i] = s.bits == 8 ? luma_at<uint8_t>(s, size, i / size, i % size)
                              : luma_at<uint16_t>(s, size, i / size, i % size);
    for (int64_t i = first_index(); i < colours; i += index_step())
        ab[i] = s.bits == 8 ? target_at<uint8_t>(s, linear_8, half, ab_scale, i / half, i % half)
                            : target_at<uint16_t>(s, linear_16, half, ab_scale, i / half, i % half);
}

// A block per sample: sums and squares of a and b in Lab units, each thread its share, then halves
// onto halves, so the order is fixed.
__global__ void near_gray_kernel(const float2* ab, int64_t pixels, double scale,
                                 int32_t* near_gray) {
    __shared__ double sums[4][kThreads];
    ab += blockIdx.x * pixels;
    double a = 0, b = 0, a2 = 0, b2 = 0;
    for (int64_t i = threadIdx.x; i < pixels; i += kThreads) {
        const float2 at = ab[i];
        const double lab_a = (at.x - 0.5) * 2 * scale, lab_b = (at.y - 0.5) * 2 * scale;
        a += lab_a, a2 += lab_a * lab_a, b += lab_b, b2 += lab_b * lab_b;
    }
    sums[0][threadIdx.x] = a, sums[1][threadIdx.x] = a2;
    sums[2][threadIdx.x] = b, sums[3][threadIdx.x] = b2;
    for (unsigned left = kThreads / 2; left > 0; left /= 2) {
        __syncthreads();
        if (threadIdx.x < left)
            for (int k = 0; k < 4; ++k) sums[k][threadIdx.x] += sums[k][threadIdx.x + left];
    }
    if (threadIdx.x != 0) return;
    double spread = 0;
    for (int c = 0; c < 2; ++c) {
        const double mean = sums[2 * c][0] / double(pixels);
        spread += sqrt(max(0.0, sums[2 * c + 1][0] / double(pixels) - mean * mean));
    }
    near_gray[blockIdx.x] = spread < kNearGray;
}

// luma [N,S,S], out [N,G,G]; a thread per output pixel.
template <class T>
__global__ void network_input_kernel(const float* luma, int64_t size, double mean, T* out,
                                     int64_t out_size, int64_t count) {
    for (int64_t i = first_index(); i < count; i += index_step()) {
        const int64_t n = i / (out_size * out_size), at = i % (out_size * out_size);
        const float* photo = luma + n * size * size;
        float value = 0;
        if (size == out_size) {
            value = photo[at];
        } else {
            const AxisPixel rows = along(size, out_size, at / out_size),
                            columns = along(size, out_size, at % out_size);
            for (int64_t j = 0; j < columns.count; ++j) {
                float column = 0;
                for (int64_t k = 0; k < rows.count; ++k)
                    column += rows.weight(k) * photo[(rows.first + k) * size + columns.first + j];
                value += columns.weight(j) * column;
            }
        }
        out[i] = static_cast<T>(static_cast<Wider<T>>(value) - static_cast<Wider<T>>(mean));
    }
}

Tensor table(const std::vector<float>& values, Device device) {
    const auto count = static_cast<int64_t>(values.size());
    const Tensor here = Tensor::empty({count});
    std::copy(values.begin(), values.end(), here.data<float>());
    return here.to(device);
}

}  // namespace

LinearTables::LinearTables(Device device)
    : of_8_bits(table(linear_table<uint8_t>(), device)),
      of_16_bits(table(linear_table<uint16_t>(), device)) {}

void make_samples(Device device, const SampleSource* sources, const AugmentSpec& spec,
                  const LinearTables& tables, const Tensor& luma, const Tensor& ab,
                  int32_t* near_gray) {
    const auto samples = static_cast<unsigned>(luma.shape()[0]);
    dim3 grid = blocks_for(spec.size * spec.size);
    grid.y = samples;
    auto* const pairs = reinterpret_cast<float2*>(ab.data<float>());
    launch<make_kernel>(
        device, grid, kThreads, 0, sources, spec.size, static_cast<float>(spec.ab_scale),
        static_cast<const float*>(tables.of_8_bits.data<float>()),
        static_cast<const float*>(tables.of_16_bits.data<float>()), luma.data<float>(), pairs);
    launch<near_gray_kernel>(device, samples, kThreads, 0, static_cast<const float2*>(pairs),
                             spec.size * spec.size / 4, spec.ab_scale, near_gray);
}

void network_input(Device device, const Tensor& luma, double mean, const Tensor& out) {
    dispatch_activations(out.dtype(), [&](auto t) {
        using T = decltype(t);
        launch<network_input_kernel<T>>(device, blocks_for(out.numel()), kThreads, 0,
                                        static_cast<const float*>(luma.data<float>()),
                                        luma.shape()[1], mean, out.data<T>(), out.shape()[1],
                                        out.numel());
    });
}

}  // namespace lumachrome::cuda
