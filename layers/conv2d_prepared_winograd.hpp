// Winograd's F(4x4,3x3) and F(6x6,3x3) with weights transformed once: 36 products for 16 outputs,
// or 64 for 36, where the definition has 144 or 324. layers/conv2d_winograd.hpp has the equations.
#pragma once
#include "layers/conv2d_prepared.hpp"

namespace lumachrome {

const char* prepared_winograd_reject(const PreparedConv2dProblem& p);
// kOut: 4 or 6.
template <int64_t kOut>
const char* prepared_winograd_avoid(const PreparedConv2dProblem& p);
template <int64_t kOut>
int64_t prepared_winograd_row_step(const PreparedConv2dProblem& p);
template <int64_t kOut>
Tensor prepared_winograd_pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w);
template <int64_t kOut>
void prepared_winograd_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                           const float* bias, const RowBand& x, const RowBand& y);

template <int64_t kOut>
inline constexpr PreparedConv2dImpl kPreparedWinograd{
    kOut == 4 ? "winograd4" : "winograd6",
    prepared_winograd_reject,
    {prepared_winograd_row_step<kOut>, prepared_winograd_pack<kOut>, prepared_winograd_run<kOut>,
     double((kOut + 2) * (kOut + 2)) / (9 * kOut * kOut)},
    {prepared_winograd_avoid<kOut>, false}};

}  // namespace lumachrome
