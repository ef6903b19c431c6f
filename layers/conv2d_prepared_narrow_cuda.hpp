// The first layer (one channel in) and the last (two out) for conv2d_prepared_cuda().
#pragma once
#include "layers/conv2d_prepared_cuda.hpp"

namespace lumachrome {

const char* reject_one_in(const PreparedConv2dGpuProblem& p);
const char* reject_two_out(const PreparedConv2dGpuProblem& p);
Tensor pack_narrow(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& w);
void run_one_in(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
                const Tensor& packed, const Tensor& bias, const Tensor& y);
void run_two_out(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
                 const Tensor& packed, const Tensor& bias, const Tensor& y);

}  // namespace lumachrome
