// How batch norm cuts a map of M rows and C channels into threads, and how what blocks have summed
// over their rows is added up. Sums over rows are made in two kernels: every block writes one
// partial result per channel, then few blocks add these in the order of the blocks, in f64.
#pragma once
#include <algorithm>

#include "layers/batch_norm.hpp"
#include "tensor/cuda/pack.cuh"

namespace lumachrome::cuda {

constexpr int kBatchNormRows = 4;  // rows whose loads a thread starts before it uses the first

// Threads of a block lie over `columns` packs of neighbouring channels and `lanes` rows, columns
// first: a warp reads up to 512 bytes in a row, and where C is small, several whole rows. A tile is
// what a block does at once: lanes * kBatchNormRows rows. Block b takes the tiles b, b + gridDim.x,
// ...: all blocks together walk through memory in order, and a pass that goes the other way finds
// the last tiles of the pass before it in L2.
struct BatchNormTiles {
    int64_t M, C;
    int columns, lanes;
    int64_t tiles;

    __device__ int64_t tile_rows() const { return int64_t{lanes} * kBatchNormRows; }
    // A row that can be read in place of one behind the last: so all loads of a tile can start.
    __device__ int64_t inside(int64_t row) const { return row < M ? row : M - 1; }
    // Rows in the tiles of block b of `blocks`.
    __device__ int64_t rows_of(int64_t b, int64_t blocks) const {
        const int64_t count = (tiles - b + blocks - 1) / blocks;
        const bool has_last = (tiles - 1 - b) % blocks == 0;
        return count * tile_rows() - (has_last ? tiles * tile_rows() - M : 0);
    }
};

struct BatchNormLaunch {
    BatchNormTiles tiles;
    dim3 grid, block;
};
// One wave of blocks of 256 threads, `each` on a multiprocessor: four with four 16-byte loads per
// thread under way keep 64 KiB moving, more than a multiprocessor's share of the memory's latency
// times bandwidth, and even two come near it. More blocks would be more partial results.
inline BatchNormLaunch batch_norm_launch(Device device, const BatchNormProblem& p, int pack,
                                         int each) {
    const int64_t packs = ceil_div(p.C, pack);
    const int columns = static_cast<int>(std::min<int64_t>(packs, 32));
    const int lanes = static_cast<int>(std::min<int64_t>(p.M, kThreads / columns));
    const int64_t tiles = ceil_div(p.M, int64_t{lanes} * kBatchNormRows);
    const int64_t across = ceil_div(packs, columns);
    const int64_t wanted =
        ceil_div(int64_t{each} * properties(device.index).multiprocessors, across);
    return {
        {p.M, p.C, columns, lanes, tiles},
        dim3(static_cast<unsigned>(tiles < wanted ? tiles : wanted), static_cast<unsigned>(across)),
        dim3(static_cast<unsigned>(columns * lanes))};
}

// The place of a thread: its first row within a tile and its first channel.
struct BatchNormThread {
    int lane, column;
    int64_t channel;
    __device__ BatchNormThread(const BatchNormTiles& tiles, int pack)
        : lane(static_cast<int>(threadIdx.x) / tiles.columns),
          column(static_cast<int>(threadIdx.x) % tiles.columns),
          channel((int64_t{blockIdx.y} * tiles.columns + column) * pack) {}
};

// Adds what the lanes of a block hold for kValues quantities of kCount channels each, in the order
// of the lanes, and writes it: out[quantity * C + channel]. Dynamic shared memory:
// blockDim.x * kValues * kCount * sizeof(T).
template <int kValues, int kCount, class T>
__device__ void write_block_sums(const BatchNormTiles& tiles, const BatchNormThread& at,
                                 const T (&values)[kValues][kCount], T* out) {
    T* const shared = reinterpret_cast<T*>(dynamic_shared());
    const int channels = tiles.columns * kCount, row = channels * kValues;
#pragma unroll
    for (int k = 0; k < kValues; ++k)
#pragma unroll
        for (int i = 0; i < kCount; ++i)
            shared[at.lane * row + k * channels + at.column * kCount + i] = values[k][i];
    __syncthreads();
    for (int o = static_cast<int>(threadIdx.x); o < row; o += static_cast<int>(blockDim.x)) {
        const int64_t channel = int64_t{blockIdx.y} * channels + o % channels;
        if (channel >= tiles.C) continue;
        T sum = 0;
        for (int lane = 0; lane < tiles.lanes; ++lane) sum += shared[lane * row + o];
        out[o / channels * tiles.C + channel] = sum;
    }
}

// For kernels that add up the blocks' results: a row of 32 threads reads 32 neighbouring channels
// of one block; there are up to 32 such rows. Every thread of a column receives its sum.
inline dim3 combine_threads(unsigned blocks) {
    return dim3(32, std::min(blocks, 32u));
}
__device__ inline double column_sum(double value) {
    __shared__ double part[32][33];  // 33: a column then lies in 32 banks
    __syncthreads();                 // whoever still reads the parts of the call before
    part[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    double sum = 0;
    for (unsigned i = 0; i < blockDim.y; ++i) sum += part[i][threadIdx.x];
    return sum;
}

}  // namespace lumachrome::cuda
