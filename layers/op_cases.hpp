// Every op, described once with inputs to try it on: serves the gradcheck command, the op tests and
// the list of injected bugs.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "autograd/gradcheck.hpp"

namespace lumachrome {

struct OpFamily {
    std::string name;                          // of its implementation list
    std::vector<std::string> implementations;  // on the device, best first
    std::vector<OpCase> cases;
    std::vector<std::string> inexact = {};  // implementations that round even small integers
};
std::vector<OpFamily> op_families(Device device = {});

// A known derivative bug, injected to show that the checks see it.
struct DerivativeBug {
    const char* name;    // "conv2d.kernel_not_flipped"
    const char* family;  // the OpFamily it breaks
    const char* explanation;
    // Called after the right backward; spoils the gradients.
    void (*spoil)(const OpCase&, const Tensor& dout, const Saved&, std::span<const GradIn> din);
};
std::span<const DerivativeBug> derivative_bugs();

// The same cases with the bug inside; those it cannot touch are left out by the checks' verdict.
std::vector<OpCase> broken(const std::vector<OpCase>& cases, const DerivativeBug& bug);

}  // namespace lumachrome
