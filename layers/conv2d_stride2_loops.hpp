// The innermost loops of conv2d_stride2_cpu.cpp, compiled once per instruction set.
//
// "Slots" are the values of the transformed tiles, each an array [channels/panel][tiles][panel]:
// slot i of channel panel c lies at slots + i * slot + c * chunk. Channels of the last panel that
// do not exist are written as zero.
#pragma once
#include <cstdint>

#include "tensor/isa.hpp"

namespace lumachrome {

// A square of pixels of a map (or of taps of a filter), part of which may lie outside of it.
template <class Float>
struct TileWindow {
    Float* at;         // its first pixel; only the part inside is touched
    int64_t row, col;  // elements from pixel to pixel
    int64_t row_begin, row_end, col_begin, col_end;  // the part inside
};

struct Stride2Loops {
    using ToSlots = void (*)(const TileWindow<const float>& from, int64_t channels, float* slots,
                             int64_t slot, int64_t chunk);
    // window = (window +) transformed slots (+ bias); bias may be null
    using FromSlots = void (*)(const float* slots, int64_t slot, int64_t chunk, int64_t channels,
                               const float* bias, bool add, const TileWindow<float>& to);
    ToSlots input;              // 5x5 of x -> 5x5
    FromSlots output;           // 3x3 -> 2x2 of y
    ToSlots grad_output;        // 2x2 of dy -> 3x3
    ToSlots turned_input;       // 3x3 of dy -> 4x4
    FromSlots turned_output;    // 5x5 -> 4x4 of dx
    ToSlots weights;            // 3x3 taps -> 4x4
    FromSlots weight_gradient;  // 4x4 -> 3x3 taps
    // The same as `weights` with output channels innermost: of up to a panel of them,
    // w [outputs,3,3,C], slot i of input channel c at slots + i * slot + c * panel.
    void (*panel_weights)(const float* w, int64_t C, int64_t outputs, float* slots, int64_t slot);
};
LUMACHROME_PER_ISA(Stride2Loops, stride2_loops)

}  // namespace lumachrome
