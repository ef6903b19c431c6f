// Four rows at a time share the loads of x; several sums of each hide the latency of the products.
#include "layers/dot_rows.hpp"
#include "tensor/isa/vector.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

using Cells [[gnu::vector_size(kRegisterBytes / 2), gnu::aligned(2), gnu::may_alias]] = int16_t;

[[gnu::always_inline]] inline Vector widen(const int16_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const Cells*>(from), Vector);
}

template <int64_t kRows>
void sums_of(const int16_t* w, int64_t stride, const float* x, int64_t length, float* sums) {
    constexpr int64_t kChains = kRegisters == 32 ? 4 : 2;
    static_assert(kDotRowsPadding % (kChains * kLanes) == 0);
    Vector sum[kRows][kChains] = {};
    for (int64_t i = 0; i < length; i += kChains * kLanes)
        for (int64_t c = 0; c < kChains; ++c) {
            const Vector value = load(x + i + c * kLanes);
            for (int64_t r = 0; r < kRows; ++r)
                sum[r][c] += widen(w + r * stride + i + c * kLanes) * value;
        }
    for (int64_t r = 0; r < kRows; ++r) {
        Vector all = sum[r][0];
        for (int64_t c = 1; c < kChains; ++c) all += sum[r][c];
        float total = 0;
        for (int64_t lane = 0; lane < kLanes; ++lane) total += all[lane];
        sums[r] = total;
    }
}

void sums(const int16_t* w, int64_t stride, const float* x, int64_t length, int64_t rows,
          float* to) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) sums_of<4>(w + r * stride, stride, x, length, to + r);
    for (; r < rows; ++r) sums_of<1>(w + r * stride, stride, x, length, to + r);
}

}  // namespace

extern const DotRows dot_rows;
const DotRows dot_rows{sums};

}  // namespace lumachrome::LUMACHROME_ISA
