// Bytes decide: statistics read x once, forward reads x and writes y, the sums of backward read x
// and dy, its last pass reads both again and writes dx. What happens per channel is noise.
#include "layers/cuda/batch_norm.cuh"

namespace lumachrome {
namespace {

using cuda::BatchNormThread;
using cuda::BatchNormTiles;
using cuda::Wider;

constexpr int kRows = cuda::kBatchNormRows;
constexpr int kMomentsBlocks = 4;  // on a multiprocessor

// The activation and its slope times dy, both from z, what it is applied to: sigmoid's too, for y
// may have been rounded to bf16, and need not be read. The constants are the blocks of a pass that
// a multiprocessor's registers hold.
struct Plain {
    static constexpr int kForward = 4, kBackward = 3;
    template <class T>
    static __device__ T value(T z) {
        return z;
    }
    template <class T>
    static __device__ T slope(T dy, T) {
        return dy;
    }
};
struct Relu {
    static constexpr int kForward = 4, kBackward = 3;
    template <class T>
    static __device__ T value(T z) {
        return z < 0 ? T{0} : z;  // NaN passes, so that the loss shows it
    }
    template <class T>
    static __device__ T slope(T dy, T z) {
        return dy * T(z > 0);  // a product: NaN in dy passes where y is 0, too
    }
};
struct Sigmoid {
    static constexpr int kForward = 3, kBackward = 2;
    template <class T>
    static __device__ T value(T z) {
        return activate_reference(Activation::sigmoid, z);
    }
    template <class T>
    static __device__ T slope(T dy, T z) {
        const T y = value(z);
        return dy * y * (1 - y);
    }
};

// Sums of deviations, and of their squares, from a shift that lies among the block's own values:
// nothing cancels, however large the mean. The shift is the mean of the first rows of the block's
// first tile, the same for all its lanes, which read them from L1.
// partial [blocks][3][C]: shift, sum, sum of squares.
template <class T, int kCount>
__global__ void __launch_bounds__(cuda::kThreads, kMomentsBlocks)
    moments_kernel(const T* x, BatchNormTiles tiles, Wider<T>* partial) {
    const BatchNormThread at(tiles, kCount);
    const bool inside = at.channel < tiles.C;
    Wider<T> sums[2][kCount] = {}, shift[kCount] = {};
    if (inside) {
        const int64_t first = blockIdx.x * tiles.tile_rows();
        int rows = 0;
        for (; rows < kRows && first + rows < tiles.M; ++rows) {
            Wider<T> value[kCount];
            cuda::load<kCount>(x + (first + rows) * tiles.C + at.channel, value);
#pragma unroll
            for (int i = 0; i < kCount; ++i) shift[i] += value[i];
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) shift[i] /= static_cast<Wider<T>>(rows);
        for (int64_t tile = blockIdx.x; tile < tiles.tiles; tile += gridDim.x) {
            const int64_t row = tile * tiles.tile_rows() + at.lane;
            Wider<T> value[kRows][kCount];
#pragma unroll
            for (int j = 0; j < kRows; ++j) {
                const int64_t r = tiles.inside(row + int64_t{j} * tiles.lanes);
                cuda::load<kCount>(x + r * tiles.C + at.channel, value[j]);
            }
#pragma unroll
            for (int j = 0; j < kRows; ++j) {
                if (row + int64_t{j} * tiles.lanes >= tiles.M) continue;
#pragma unroll
                for (int i = 0; i < kCount; ++i) {
                    const Wider<T> centred = value[j][i] - shift[i];
                    sums[0][i] += centred;
                    sums[1][i] += centred * centred;
                }
            }
        }
    }
    Wider<T>* const out = partial + int64_t{blockIdx.x} * 3 * tiles.C;
    if (inside && at.lane == 0)
#pragma unroll
        for (int i = 0; i < kCount; ++i) out[at.channel + i] = shift[i];
    cuda::write_block_sums(tiles, at, sums, out + tiles.C);
}

// One column of 32 threads per channel. Deviations from the common mean are those from the block's
// own mean, and the block's rows times the squared distance of the two (Chan et al. 1979).
template <class P>
__global__ void __launch_bounds__(1024)
    combine_moments_kernel(const P* partial, BatchNormTiles tiles, int blocks, double* moments) {
    const int64_t c = int64_t{blockIdx.x} * 32 + threadIdx.x;
    const auto visit = [&](auto f) {
        double total = 0;
        for (int b = static_cast<int>(threadIdx.y); c < tiles.C && b < blocks;
             b += static_cast<int>(blockDim.y)) {
            const P* at = partial + int64_t{b} * 3 * tiles.C + c;
            total += f(static_cast<double>(tiles.rows_of(b, blocks)), double(at[0]),
                       double(at[tiles.C]), double(at[2 * tiles.C]));
        }
        return cuda::column_sum(total);
    };
    const double mean =
        visit([](double rows, double shift, double sum, double) { return rows * shift + sum; }) /
        static_cast<double>(tiles.M);
    const double deviations = visit([mean](double rows, double shift, double sum, double squares) {
        const double distance = shift + sum / rows - mean;
        return squares - sum * sum / rows + rows * distance * distance;
    });
    if (c >= tiles.C || threadIdx.y != 0) return;
    moments[c] = mean;
    moments[tiles.C + c] = deviations < 0 ? 0 : deviations;
}

template <class T>
__device__ T inverse_std_of(T variance) {
    return static_cast<T>(1 / std::sqrt(static_cast<double>(variance) + kBatchNormEpsilon));
}

// running_mean null: left alone.
template <class T, class R>
__global__ void finish_kernel(const double* moments, double rows, int64_t C, R* running_mean,
                              R* running_variance, T* mean, T* inverse_std) {
    const int64_t c = cuda::first_index();
    if (c >= C) return;
    const T m = static_cast<T>(moments[c]), v = static_cast<T>(moments[C + c] / rows);
    mean[c] = m;
    inverse_std[c] = inverse_std_of(v);
    if (!running_mean) return;
    const auto blend = [](R& running, double value) {
        running = static_cast<R>((1 - kBatchNormMomentum) * running + kBatchNormMomentum * value);
    };
    blend(running_mean[c], m);
    blend(running_variance[c], static_cast<double>(v) * rows / (rows - 1));
}

template <class T, class R>
__global__ void use_running_kernel(const R* running_mean, const R* running_variance, int64_t C,
                                   T* mean, T* inverse_std) {
    const int64_t c = cuda::first_index();
    if (c >= C) return;
    mean[c] = static_cast<T>(running_mean[c]);
    inverse_std[c] = inverse_std_of(static_cast<T>(running_variance[c]));
}

template <class G>
__global__ void parameter_gradients_kernel(const double* sums, int64_t C, G* dgamma,
                                           float beta_of_dgamma, G* dbeta, float beta_of_dbeta) {
    const int64_t c = cuda::first_index();
    if (c >= C) return;
    if (dgamma)
        dgamma[c] = static_cast<G>((beta_of_dgamma == 0 ? 0 : double(dgamma[c])) + sums[C + c]);
    if (dbeta) dbeta[c] = static_cast<G>((beta_of_dbeta == 0 ? 0 : double(dbeta[c])) + sums[c]);
}

// [C] each: what a thread keeps in registers of its channels.
template <class P>
struct Map {
    const P *mean, *inverse_std, *gamma, *beta;
};
template <class P, int kCount>
struct Channels {
    P mean[kCount], scale[kCount], shift[kCount];
    __device__ Channels(const Map<P>& map, int64_t channel) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            mean[i] = map.mean[channel + i];
            scale[i] = map.inverse_std[channel + i] * map.gamma[channel + i];
            shift[i] = map.beta[channel + i];
        }
    }
};

// From the last tile to the first: the last ones are still in L2.
template <class T, int kCount, class F>
__global__ void __launch_bounds__(cuda::kThreads, F::kForward)
    forward_kernel(const T* x, BatchNormTiles tiles, Map<Wider<T>> map, T* y) {
    const BatchNormThread at(tiles, kCount);
    if (at.channel >= tiles.C) return;
    const Channels<Wider<T>, kCount> channels(map, at.channel);
    for (int64_t tile = tiles.tiles - 1 - blockIdx.x; tile >= 0; tile -= gridDim.x) {
        const int64_t row = tile * tiles.tile_rows() + at.lane;
        Wider<T> value[kRows][kCount];
#pragma unroll
        for (int j = 0; j < kRows; ++j) {
            const int64_t r = tiles.inside(row + int64_t{j} * tiles.lanes);
            cuda::load<kCount>(x + r * tiles.C + at.channel, value[j]);
        }
#pragma unroll
        for (int j = 0; j < kRows; ++j) {
            const int64_t r = row + int64_t{j} * tiles.lanes;
            if (r >= tiles.M) continue;
#pragma unroll
            for (int i = 0; i < kCount; ++i)
                value[j][i] = F::value((value[j][i] - channels.mean[i]) * channels.scale[i] +
                                       channels.shift[i]);
            cuda::store<kCount>(y + r * tiles.C + at.channel, value[j]);
        }
    }
}

// Calls f(row offset, x - mean, dy f') for the two rows of half a tile: two tensors are read, so as
// many bytes are under way as with four rows of one.
template <class F, int kCount, class T, class Use>
__device__ __forceinline__ void slopes(const BatchNormTiles& tiles, int64_t row, int64_t channel,
                                       const Channels<Wider<T>, kCount>& channels, const T* x,
                                       const T* dy, const Use& use) {
    constexpr int kHalf = kRows / 2;
    Wider<T> value[kHalf][kCount], up[kHalf][kCount];
#pragma unroll
    for (int j = 0; j < kHalf; ++j) {
        const int64_t r = tiles.inside(row + int64_t{j} * tiles.lanes);
        cuda::load<kCount>(x + r * tiles.C + channel, value[j]);
        cuda::load<kCount>(dy + r * tiles.C + channel, up[j]);
    }
#pragma unroll
    for (int j = 0; j < kHalf; ++j) {
        const int64_t r = row + int64_t{j} * tiles.lanes;
        if (r >= tiles.M) continue;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            value[j][i] -= channels.mean[i];
            up[j][i] = F::slope(up[j][i], value[j][i] * channels.scale[i] + channels.shift[i]);
        }
        use(r * tiles.C + channel, value[j], up[j]);
    }
}

// partial [blocks][2][C]: sum dy f', sum dy f' (x - mean).
template <class T, int kCount, class F>
__global__ void __launch_bounds__(cuda::kThreads, F::kBackward)
    sums_kernel(const T* x, const T* dy, BatchNormTiles tiles, Map<Wider<T>> map,
                Wider<T>* partial) {
    const BatchNormThread at(tiles, kCount);
    Wider<T> sums[2][kCount] = {};
    if (at.channel < tiles.C) {
        const Channels<Wider<T>, kCount> channels(map, at.channel);
        for (int64_t tile = blockIdx.x; tile < tiles.tiles; tile += gridDim.x)
#pragma unroll 1
            for (int half = 0; half < 2; ++half) {
                const int64_t row =
                    tile * tiles.tile_rows() + int64_t{half} * (kRows / 2) * tiles.lanes + at.lane;
                slopes<F, kCount>(
                    tiles, row, at.channel, channels, x, dy,
                    [&](int64_t, const Wider<T>(&centred)[kCount], const Wider<T>(&grad)[kCount]) {
#pragma unroll
                        for (int i = 0; i < kCount; ++i) {
                            sums[0][i] += grad[i];
                            sums[1][i] += grad[i] * centred[i];
                        }
                    });
            }
    }
    cuda::write_block_sums(tiles, at, sums, partial + int64_t{blockIdx.x} * 2 * tiles.C);
}

// blockIdx.y: which of the two sums.
template <class P>
__global__ void __launch_bounds__(1024) combine_sums_kernel(const P* partial, int64_t C, int blocks,
                                                            const P* inverse_std, double* sums) {
    const int64_t c = int64_t{blockIdx.x} * 32 + threadIdx.x;
    double total = 0;
    for (int b = static_cast<int>(threadIdx.y); c < C && b < blocks;
         b += static_cast<int>(blockDim.y))
        total += partial[(int64_t{b} * 2 + blockIdx.y) * C + c];
    total = cuda::column_sum(total);
    if (c < C && threadIdx.y == 0)
        sums[blockIdx.y * C + c] = blockIdx.y == 0 ? total : total * inverse_std[c];
}

// dx = beta dx + scale dy f' + b (x - m) + d, with b and d per channel from the sums.
template <class T, int kCount, class F>
__global__ void __launch_bounds__(cuda::kThreads, F::kBackward)
    input_kernel(const T* x, const T* dy, BatchNormTiles tiles, Map<Wider<T>> map,
                 const double* sums, double rows, T* dx, float beta) {
    const BatchNormThread at(tiles, kCount);
    if (at.channel >= tiles.C) return;
    const Channels<Wider<T>, kCount> channels(map, at.channel);
    Wider<T> b[kCount] = {}, d[kCount] = {};
    if (sums)
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int64_t c = at.channel + i;
            const double scale = channels.scale[i] / rows;
            b[i] = static_cast<Wider<T>>(-scale * map.inverse_std[c] * sums[tiles.C + c]);
            d[i] = static_cast<Wider<T>>(-scale * sums[c]);
        }
    for (int64_t tile = tiles.tiles - 1 - blockIdx.x; tile >= 0; tile -= gridDim.x)
#pragma unroll 1
        for (int half = 0; half < 2; ++half) {
            const int64_t row =
                tile * tiles.tile_rows() + int64_t{half} * (kRows / 2) * tiles.lanes + at.lane;
            slopes<F, kCount>(tiles, row, at.channel, channels, x, dy,
                              [&](int64_t offset, const Wider<T>(&centred)[kCount],
                                  const Wider<T>(&grad)[kCount]) {
                                  Wider<T> value[kCount] = {};
                                  if (beta != 0) cuda::load<kCount>(dx + offset, value);
#pragma unroll
                                  for (int i = 0; i < kCount; ++i)
                                      value[i] +=
                                          channels.scale[i] * grad[i] + b[i] * centred[i] + d[i];
                                  cuda::store<kCount>(dx + offset, value);
                              });
        }
}

// f(type tag, channels of a thread as a constant)
template <class F, class... Tensors>
void dispatch(const BatchNormProblem& p, const F& f, const Tensor& x, const Tensors&... others) {
    cuda::dispatch_activations(x.dtype(), [&](auto t) {
        if (cuda::packs(p.C, x, others...))
            f(t, std::integral_constant<int, cuda::kPackOf<decltype(t)>>{});
        else
            f(t, std::integral_constant<int, 1>{});
    });
}
template <class F>
void dispatch_activation(const BatchNormMap& map, const F& f) {
    if (!map.activation) return f(Plain{});
    if (*map.activation == Activation::relu) return f(Relu{});
    f(Sigmoid{});
}

template <class P>
Map<P> device_map(const BatchNormMap& map) {
    return {map.mean.data<P>(), map.inverse_std.data<P>(), map.gamma.data<P>(), map.beta.data<P>()};
}
template <class T>
const T* data_or_null(const Tensor& t) {
    return t.defined() ? t.data<T>() : nullptr;
}
dim3 column_blocks(int64_t C, unsigned quantities = 1) {
    return dim3(static_cast<unsigned>(cuda::ceil_div(C, 32)), quantities);
}

int backward_blocks(const BatchNormMap& map) {
    int blocks = 0;
    dispatch_activation(map, [&](auto f) { blocks = f.kBackward; });
    return blocks;
}

void statistics(const Exec& exec, const BatchNormProblem& p, const Tensor& x,
                const Tensor& moments) {
    dispatch(
        p,
        [&](auto t, auto count) {
            using T = decltype(t);
            const auto l = cuda::batch_norm_launch(exec.device, p, count, kMomentsBlocks);
            const Tensor partial =
                Tensor::empty({l.grid.x, 3, p.C}, dtype_of<Wider<T>>(), exec.device);
            cuda::launch<moments_kernel<T, count>>(exec.device, l.grid, l.block,
                                                   l.block.x * 2 * count * sizeof(Wider<T>),
                                                   x.data<T>(), l.tiles, partial.data<Wider<T>>());
            cuda::launch<combine_moments_kernel<Wider<T>>>(
                exec.device, column_blocks(p.C), cuda::combine_threads(l.grid.x), 0,
                partial.data<Wider<T>>(), l.tiles, static_cast<int>(l.grid.x),
                moments.data<double>());
        },
        x);
}

void finish_statistics(const Exec& exec, const BatchNormProblem& p, const Tensor& moments,
                       double rows, const RunningStatistics* running, const BatchNormMap& map) {
    dispatch_float(map.mean.dtype(), [&](auto t) {
        dispatch_float(running ? running->mean.dtype() : DType::f32, [&](auto r) {
            using T = decltype(t);
            using R = decltype(r);
            cuda::launch<finish_kernel<T, R>>(exec.device, cuda::blocks_for(p.C), cuda::kThreads, 0,
                                              moments.data<double>(), rows, p.C,
                                              running ? running->mean.data<R>() : nullptr,
                                              running ? running->variance.data<R>() : nullptr,
                                              map.mean.data<T>(), map.inverse_std.data<T>());
        });
    });
}

void use_running(const Exec& exec, const BatchNormProblem& p, const RunningStatistics& running,
                 const BatchNormMap& map) {
    dispatch_float(map.mean.dtype(), [&](auto t) {
        dispatch_float(running.mean.dtype(), [&](auto r) {
            using T = decltype(t);
            using R = decltype(r);
            cuda::launch<use_running_kernel<T, R>>(
                exec.device, cuda::blocks_for(p.C), cuda::kThreads, 0, running.mean.data<R>(),
                running.variance.data<R>(), p.C, map.mean.data<T>(), map.inverse_std.data<T>());
        });
    });
}

void forward(const Exec& exec, const BatchNormProblem& p, const BatchNormMap& map, const Tensor& x,
             const Tensor& y) {
    dispatch(
        p,
        [&](auto t, auto count) {
            dispatch_activation(map, [&](auto f) {
                using T = decltype(t);
                const auto l = cuda::batch_norm_launch(exec.device, p, count, f.kForward);
                cuda::launch<forward_kernel<T, count, decltype(f)>>(
                    exec.device, l.grid, l.block, 0, x.data<T>(), l.tiles,
                    device_map<Wider<T>>(map), y.data<T>());
            });
        },
        x, y);
}

void backward_sums(const Exec& exec, const BatchNormProblem& p, const BatchNormMap& map,
                   const Tensor& x, const Tensor&, const Tensor& dy, const Tensor& sums) {
    dispatch(
        p,
        [&](auto t, auto count) {
            using T = decltype(t);
            using P = Wider<T>;
            const auto l = cuda::batch_norm_launch(exec.device, p, count, backward_blocks(map));
            const Tensor partial = Tensor::empty({l.grid.x, 2, p.C}, dtype_of<P>(), exec.device);
            dispatch_activation(map, [&](auto f) {
                cuda::launch<sums_kernel<T, count, decltype(f)>>(
                    exec.device, l.grid, l.block, l.block.x * 2 * count * sizeof(P), x.data<T>(),
                    dy.data<T>(), l.tiles, device_map<P>(map), partial.data<P>());
            });
            cuda::launch<combine_sums_kernel<P>>(exec.device, column_blocks(p.C, 2),
                                                 cuda::combine_threads(l.grid.x), 0,
                                                 partial.data<P>(), p.C, static_cast<int>(l.grid.x),
                                                 map.inverse_std.data<P>(), sums.data<double>());
        },
        x, dy);
}

void parameter_gradients(const Exec& exec, const BatchNormProblem& p, const Tensor& sums,
                         const GradIn& dgamma, const GradIn& dbeta) {
    dispatch_float((dgamma ? dgamma : dbeta).grad.dtype(), [&](auto t) {
        using G = decltype(t);
        const auto data = [](const GradIn& g) { return g ? g.grad.data<G>() : nullptr; };
        cuda::launch<parameter_gradients_kernel<G>>(
            exec.device, cuda::blocks_for(p.C), cuda::kThreads, 0, sums.data<double>(), p.C,
            data(dgamma), dgamma.beta, data(dbeta), dbeta.beta);
    });
}

void backward_input(const Exec& exec, const BatchNormProblem& p, const BatchNormMap& map,
                    const Tensor& x, const Tensor&, const Tensor& dy, const Tensor& sums,
                    double rows, const GradIn& dx) {
    dispatch(
        p,
        [&](auto t, auto count) {
            dispatch_activation(map, [&](auto f) {
                using T = decltype(t);
                const auto l = cuda::batch_norm_launch(exec.device, p, count, backward_blocks(map));
                cuda::launch<input_kernel<T, count, decltype(f)>>(
                    exec.device, l.grid, l.block, 0, x.data<T>(), dy.data<T>(), l.tiles,
                    device_map<Wider<T>>(map), data_or_null<double>(sums), rows, dx.grad.data<T>(),
                    dx.beta);
            });
        },
        x, dy, dx.grad);
}

constexpr BatchNormImpl kImplementations[] = {
    {"tiles",
     accepts_all,
     {statistics, finish_statistics, use_running, forward, backward_sums, parameter_gradients,
      backward_input}},
};

}  // namespace

std::span<const BatchNormImpl> batch_norm_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
