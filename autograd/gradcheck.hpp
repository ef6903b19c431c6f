// Checks of derivatives, for any op and for whole tapes.
//
//  dual     J v by dual numbers through the executable definition against J^T dy by the backward
//           under test: <dy, J v> = <J^T dy, v>. Exact: no step size, no kink trouble, any dtype.
//  finite   central differences of the forward under test in double. Classic, and independent of
//           the definition, but blind near kinks and limited by the step.
//
// Errors are relative to the sum of the magnitudes of the terms of the inner product, so
// cancellation cannot excuse a wrong gradient.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autograd/tape.hpp"

namespace lumachrome {

// An op with inputs to try it on. Values are kept in f64 and cast to the dtype under test.
struct OpCase {
    std::string description;  // "3x3 stride 2, 1x7x5x3 -> 4"
    std::shared_ptr<const Op> op;
    std::vector<Tensor> inputs;
    std::vector<bool> differentiable;  // by input
    bool smooth = true;                // no kink within reach of a finite difference
    // Inputs from this one on are parameters: f32 where the others are bf16.
    size_t first_parameter = SIZE_MAX;
    bool bf16 = true;  // takes bf16 on a GPU
};

struct GradCheck {
    std::string op, implementation, what;  // what: "3x3 stride 2: dual f32 x0 element 3"
    double relative_error = 0, tolerance = 0;
    bool passed() const { return relative_error <= tolerance; }  // false for NaN
};

// Tolerances, each a multiple of the dtype's rounding: sums here have at most a few thousand terms,
// and are kept in f32 where the values are bf16 (which rounds by 2^-9; four roundings).
inline constexpr double kDualToleranceF32 = 1e-5, kDualToleranceF64 = 1e-11,
                        kDualToleranceBf16 = 1.6e-2;
inline constexpr double kFiniteTolerance = 1e-7;

// All checks of one case with the currently chosen implementation: value against the definition,
// dual and finite checks along random directions and single elements of every input, accumulation
// (beta = 1), NaN-filled outputs (beta = 0), skipped gradients.
std::vector<GradCheck> check_op(const OpCase& op_case, const Exec& exec,
                                const std::string& implementation, uint64_t seed);

// A whole network: `build` records it on the tape from its leaves and returns the scalar root. The
// parameters are perturbed and restored. Directions are random; `finite_tolerance` 0 skips the
// difference quotients.
std::vector<GradCheck> check_network(
    const std::string& name, const Exec& exec, const std::function<Var(Tape&)>& build,
    const std::vector<std::pair<std::string, Parameter*>>& parameters, int directions,
    double dual_tolerance, double finite_tolerance, uint64_t seed);

}  // namespace lumachrome
