// Narrow convolutions of bf16 on tensor cores (narrow.cuh has the letters). Not for their speed in
// multiplying, of which little is needed, but to leave the other pipes to the moving of bytes: by
// multiply-adds these layers would need about as long for arithmetic as for memory.
//
// Each kernel is a product of small matrices whose fragments (ptx.cuh) are chosen so that a lane's
// part of a pixel of the wide side is 16 bytes in one piece: channels of a chunk are given to the
// rows or columns of fragments in that order. So the wide side goes between registers and memory
// without shared memory between. Weights are rounded to bf16, sums are f32. With lane = 4 g + t:
#pragma once
#include "layers/cuda/narrow.cuh"
#include "tensor/cuda/ptx.cuh"

namespace lumachrome::narrow {

constexpr int kChunk = 32;  // channels that a quad of lanes has: 8 each
constexpr int kMmaRows = 16, kMmaColumns = 32;
constexpr int kRowTiles = kMmaRows * kMmaColumns / 16;  // of 16 pixels side by side
using WideMmaTile = Tile<kMmaRows, kMmaColumns>;

// A pixel of the narrow side: one or two bf16.
template <class G>
using Cell = std::conditional_t<G::kF == 1, uint16_t, uint32_t>;
template <class G>
using MmaPatch = Patch<G, kMmaRows, kMmaColumns>;

template <class G>
__device__ __forceinline__ void load_cells(const G& g, const WideMmaTile& at, const bf16* map,
                                           Cell<G>* patch) {
    MmaPatch<G>::visit(g, at, map, [&](int i, const bf16* pixel) {
        patch[i] = pixel ? *reinterpret_cast<const Cell<G>*>(pixel) : Cell<G>(0);
    });
}
template <class G>
__device__ __forceinline__ int tap_offset(int tap) {
    return tap / 3 * MmaPatch<G>::kWide + tap % 3;
}
__device__ __forceinline__ uint32_t pair_of(uint32_t low, uint32_t high) {
    return low | high << 16;
}

// Wide from narrow: [16 pixels, k = columns] x [k, 8 channels], k = kColumn filled up to 16 or 32.
// A block has 16x32 pixels. Column c of the product's tile `part` is channel 8 (c / 2) + 2 part +
// c % 2 of the chunk: a lane then holds channels 8t..8t+7 of pixels g and g + 8. In shared memory:
// the weights as bf16 [D][k], rows an odd number of banks long, and the patch.
template <class G>
constexpr int kSteps = G::kF;  // products of k = 16
template <class G>
constexpr int kWeightRow = 16 * kSteps<G> + 2;

template <class G>
__global__ void __launch_bounds__(kThreads)
    wide_mma_kernel(G g, const bf16* map, const float* w, const float* b, bf16* wide, bool add) {
    auto* const weights = reinterpret_cast<uint16_t*>(cuda::dynamic_shared());
    auto* const patch = reinterpret_cast<Cell<G>*>(weights + g.D * kWeightRow<G>);
    const WideMmaTile at(blockIdx.x, g.P, g.Q);
    for (int i = static_cast<int>(threadIdx.x); i < g.D * kWeightRow<G>; i += kThreads) {
        const int j = i % kWeightRow<G>, d = i / kWeightRow<G>;
        weights[i] = bf16(j < G::kColumn ? w[g.weight(j, d)] : 0.0f).bits;
    }
    load_cells(g, at, map, patch);
    __syncthreads();

    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int group = lane / 4, t = lane % 4;
    const int near = tap_offset<G>(G::kF == 1 ? 2 * t : t);
    const int far = tap_offset<G>(G::kF == 1 ? 2 * t + 1 : t + 4), last = tap_offset<G>(8);
    for (int chunk = 0; chunk < g.D; chunk += kChunk) {
        uint32_t factors[4][kSteps<G>][2];
#pragma unroll
        for (int part = 0; part < 4; ++part)
#pragma unroll
            for (int step = 0; step < kSteps<G>; ++step)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int d = chunk + 8 * (group / 2) + 2 * part + group % 2;
                    factors[part][step][half] = *reinterpret_cast<const uint32_t*>(
                        weights + d * kWeightRow<G> + step * 16 + half * 8 + 2 * t);
                }
        float start[8];
#pragma unroll
        for (int c = 0; c < 8; ++c) start[c] = b ? b[chunk + 8 * t + c] : 0.0f;

        for (int tile = warp; tile < kRowTiles; tile += kWarps) {
            const int row = tile / (kMmaColumns / 16), column = tile % (kMmaColumns / 16) * 16;
            const int p = at.row + row, q = at.column + column;
            if (p >= g.P || q >= g.Q) continue;
            const Cell<G>* const first =
                patch + (row * MmaPatch<G>::kWide + column + group) * G::kStride;
            const Cell<G>* const second = first + 8 * G::kStride;
            float sums[4][4];
#pragma unroll
            for (int part = 0; part < 4; ++part)
#pragma unroll
                for (int i = 0; i < 4; ++i) sums[part][i] = start[2 * part + i % 2];
            uint32_t seen[4];
            if constexpr (G::kF == 1) {  // taps 2t, 2t+1, and the ninth
                seen[0] = pair_of(first[near], first[far]);
                seen[1] = pair_of(second[near], second[far]);
                seen[2] = t == 0 ? first[last] : 0;
                seen[3] = t == 0 ? second[last] : 0;
            } else {  // taps t and t+4
                seen[0] = first[near];
                seen[1] = second[near];
                seen[2] = first[far];
                seen[3] = second[far];
            }
#pragma unroll
            for (int part = 0; part < 4; ++part) cuda::mma_bf16(sums[part], seen, factors[part][0]);
            if constexpr (G::kF == 2) {  // the ninth tap
                seen[0] = t == 0 ? first[last] : 0;
                seen[1] = t == 0 ? second[last] : 0;
                seen[2] = seen[3] = 0;
#pragma unroll
                for (int part = 0; part < 4; ++part)
                    cuda::mma_bf16(sums[part], seen, factors[part][1]);
            }
            bf16* const to =
                wide + ((int64_t{at.n} * g.P + p) * g.Q + q + group) * g.D + chunk + 8 * t;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                if (q + group + 8 * half >= g.Q) continue;
                cuda::Values<bf16, 8> out;
#pragma unroll
                for (int c = 0; c < 8; ++c) out.at[c] = sums[c / 2][2 * half + c % 2];
                cuda::store_or_add<8>(to + int64_t{8 * half} * g.D, out, add);
            }
        }
    }
}

// Narrow from wide: [16 pixels, k = channels] x [k, columns], the columns filled up to 16 or 24. A
// block has 16x32 narrow pixels and goes over the wide ones that see them. Channels 8t..8t+7 of a
// chunk are a lane's part of two products of k = 16, for pixels as for weights. In shared memory:
// the weights as bf16 [columns][D], rows half of all banks longer than a multiple of them, and the
// products [pixels][kColumn], which the narrow pixels then collect.
template <class G>
constexpr int kParts = (G::kColumn + 7) / 8;
__host__ __device__ constexpr int padded_channels(int D) {
    return D / kChunk % 2 == 0 ? D + kChunk : D;
}

template <class G>
__global__ void __launch_bounds__(kThreads)
    narrow_mma_kernel(G g, const bf16* wide, const float* w, const float* b, bf16* map, bool add) {
    using Collect = Collected<G, kMmaRows, kMmaColumns>;
    const int row = padded_channels(g.D);
    auto* const weights = reinterpret_cast<uint16_t*>(cuda::dynamic_shared());
    auto* const sums = reinterpret_cast<float*>(weights + kParts<G> * 8 * row);
    const Tile<kMmaRows, kMmaColumns> at(blockIdx.x, g.H, g.W);
    for (int i = static_cast<int>(threadIdx.x); i < kParts<G> * 8 * g.D; i += kThreads) {
        const int j = i / g.D, d = i % g.D;
        weights[j * row + d] = bf16(j < G::kColumn ? w[g.weight(j, d)] : 0.0f).bits;
    }
    __syncthreads();

    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int group = lane / 4, t = lane % 4;
    constexpr int kTiles = (Collect::kPixels + 15) / 16;
#pragma unroll 2
    for (int tile = warp; tile < kTiles; tile += kWarps) {
        const int pixel[2] = {tile * 16 + group, tile * 16 + group + 8};
        const int64_t from[2] = {Collect::source(g, at, pixel[0]),
                                 Collect::source(g, at, pixel[1])};
        float product[kParts<G>][4] = {};
        for (int chunk = 8 * t; chunk < g.D; chunk += kChunk) {
            std::array<uint32_t, 4> v[2] = {};
#pragma unroll
            for (int half = 0; half < 2; ++half)
                if (from[half] >= 0)
                    v[half] = std::bit_cast<std::array<uint32_t, 4>>(
                        *reinterpret_cast<const uint4*>(wide + from[half] * g.D + chunk));
#pragma unroll
            for (int part = 0; part < kParts<G>; ++part) {
                const auto factors = std::bit_cast<std::array<uint32_t, 4>>(
                    *reinterpret_cast<const uint4*>(weights + (part * 8 + group) * row + chunk));
#pragma unroll
                for (int step = 0; step < 2; ++step)
                    cuda::mma_bf16(
                        product[part],
                        {v[0][2 * step], v[1][2 * step], v[0][2 * step + 1], v[1][2 * step + 1]},
                        {factors[2 * step], factors[2 * step + 1]});
            }
        }
#pragma unroll
        for (int part = 0; part < kParts<G>; ++part)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int j = part * 8 + 2 * t + i % 2, to = pixel[i / 2];
                if (j < G::kColumn && to < Collect::kPixels)
                    sums[to * G::kColumn + j] = product[part][i];
            }
    }
    __syncthreads();
    Collect::store(g, at, sums, b, map, add);
}

// Gradient of the weights: [16 columns, k = pixels] x [k, 8 channels], for 16 pixels of a row at a
// time. A warp has a chunk of 8 * kLaneChannels channels and keeps all its sums in registers: one
// or two tiles of columns by kLaneChannels tiles of channels. A lane reads channels
// kLaneChannels * g.. of pixels 2t, 2t+1, 2t+8, 2t+9; the n-th of each is its part of the n-th
// tile. The warps of a block add up in order, into partial [blocks][kColumn][D].
template <class G>
constexpr int kColumnTiles = (G::kColumn + 15) / 16;

template <class G, int kLaneChannels>
__global__ void __launch_bounds__(kThreads, 2)
    weight_mma_kernel(G g, const bf16* map, const bf16* wide, float* partial, unsigned tiles) {
    constexpr int kWords = kLaneChannels / 2, kWarpChannels = 8 * kLaneChannels;
    using Access = cuda::AccessOf<4 * kWords>;
    auto* const total = reinterpret_cast<float*>(cuda::dynamic_shared());  // [kColumn][D]
    auto* const patch = reinterpret_cast<Cell<G>*>(total + G::kColumn * g.D);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int group = lane / 4, t = lane % 4;
    const int chunks = g.D / kWarpChannels, teams = kWarps / chunks;
    const int chunk = warp % chunks * kWarpChannels, team = warp / chunks;
    // Rows g and g + 8 of the tiles of columns, as places in a patch of bf16; negative: none.
    int place[kColumnTiles<G>][2];
#pragma unroll
    for (int m = 0; m < kColumnTiles<G>; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int j = m * 16 + half * 8 + group;
            place[m][half] = j < G::kColumn ? tap_offset<G>(j / G::kF) * G::kF + j % G::kF : -1;
        }
    float sums[kColumnTiles<G>][kLaneChannels][4] = {};
    for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const WideMmaTile at(tile, g.P, g.Q);
        __syncthreads();
        load_cells(g, at, map, patch);
        __syncthreads();
        if (team >= teams) continue;
#pragma unroll 2
        for (int k = team; k < kRowTiles; k += teams) {
            const int row = k / (kMmaColumns / 16), column = k % (kMmaColumns / 16) * 16;
            const int p = at.row + row, q = at.column + column;
            if (p >= g.P || q >= g.Q) continue;
            const bf16* const from =
                wide + ((int64_t{at.n} * g.P + p) * g.Q + q) * g.D + chunk + group * kLaneChannels;
            std::array<uint32_t, kWords> v[4] = {};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int pixel = 2 * t + i % 2 + i / 2 * 8;
                if (q + pixel < g.Q)
                    v[i] = std::bit_cast<std::array<uint32_t, kWords>>(
                        *reinterpret_cast<const Access*>(from + int64_t{pixel} * g.D));
            }
            const auto* const cells = reinterpret_cast<const uint16_t*>(
                patch + (row * MmaPatch<G>::kWide + column + 2 * t) * G::kStride);
#pragma unroll
            for (int m = 0; m < kColumnTiles<G>; ++m) {
                uint32_t seen[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    constexpr int kPixel = G::kStride * G::kF;  // from one pixel to the next
                    const int at_pixel = place[m][i % 2] + i / 2 * 8 * kPixel;
                    seen[i] = place[m][i % 2] < 0
                                  ? 0
                                  : pair_of(cells[at_pixel], cells[at_pixel + kPixel]);
                }
#pragma unroll
                for (int n = 0; n < kLaneChannels; ++n) {
                    uint32_t of_channel[2];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const uint32_t a = v[2 * half][n / 2], b = v[2 * half + 1][n / 2];
                        of_channel[half] =
                            n % 2 ? (a >> 16) | (b & 0xffff0000u) : (a & 0xffffu) | (b << 16);
                    }
                    cuda::mma_bf16(sums[m][n], seen, of_channel);
                }
            }
        }
    }
    for (int turn = 0; turn < teams; ++turn) {
        if (team == turn)
#pragma unroll
            for (int m = 0; m < kColumnTiles<G>; ++m)
#pragma unroll
                for (int n = 0; n < kLaneChannels; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const int j = m * 16 + group + i / 2 * 8;
                        if (j >= G::kColumn) continue;
                        float& to = total[j * g.D + chunk + (2 * t + i % 2) * kLaneChannels + n];
                        to = turn == 0 ? sums[m][n][i] : to + sums[m][n][i];
                    }
        __syncthreads();
    }
    const int count = G::kColumn * g.D;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
        partial[int64_t{blockIdx.x} * count + i] = total[i];
}

// --- launches

template <class G>
void launch_wide_mma(const Exec& exec, const G& g, const Tensor& map, const Tensor& w,
                     const Tensor& b, const Tensor& wide, bool add) {
    const size_t bytes = g.D * kWeightRow<G> * 2 + MmaPatch<G>::kPixels * sizeof(Cell<G>);
    cuda::launch<wide_mma_kernel<G>>(
        exec.device, dim3(static_cast<unsigned>(WideMmaTile::count(g.N, g.P, g.Q))), kThreads,
        bytes, g, map.data<bf16>(), w.data<float>(), b.defined() ? b.data<float>() : nullptr,
        wide.data<bf16>(), add);
}

template <class G>
void launch_narrow_mma(const Exec& exec, const G& g, const Tensor& wide, const Tensor& w,
                       const Tensor& b, const Tensor& map, bool add) {
    using Collect = Collected<G, kMmaRows, kMmaColumns>;
    const size_t bytes =
        kParts<G> * 8 * padded_channels(g.D) * 2 + Collect::kPixels * G::kColumn * sizeof(float);
    cuda::launch<narrow_mma_kernel<G>>(
        exec.device, dim3(static_cast<unsigned>(WideMmaTile::count(g.N, g.H, g.W))), kThreads,
        bytes, g, wide.data<bf16>(), w.data<float>(), b.defined() ? b.data<float>() : nullptr,
        map.data<bf16>(), add);
}

// One block for each row of `partial`.
template <class G>
void launch_weight_mma(const Exec& exec, const G& g, const Tensor& map, const Tensor& wide,
                       const Tensor& partial, int64_t tiles) {
    const auto run = [&]<int kLaneChannels>(std::integral_constant<int, kLaneChannels>) {
        const size_t bytes =
            G::kColumn * g.D * sizeof(float) + MmaPatch<G>::kPixels * sizeof(Cell<G>);
        cuda::launch<weight_mma_kernel<G, kLaneChannels>>(
            exec.device, dim3(static_cast<unsigned>(partial.shape()[0])), kThreads, bytes, g,
            map.data<bf16>(), wide.data<bf16>(), partial.data<float>(),
            static_cast<unsigned>(tiles));
    };
    if (g.D % 64 == 0)
        run(std::integral_constant<int, 8>());
    else
        run(std::integral_constant<int, 4>());
}

}  // namespace lumachrome::narrow
