// Every derivative of the project, checked: all ops with all their implementations, the joint loss,
// and the whole two-branch network with its options.
#pragma once
#include <string>
#include <vector>

#include "autograd/gradcheck.hpp"

namespace lumachrome {

struct GradcheckOptions {
    std::string op;   // only this one: an op family or "network"; empty: all
    std::string bug;  // inject this derivative bug (layers/op_cases.hpp); empty: none
};

struct OpVerdict {
    std::string name, implementation;
    int64_t checks = 0, failed = 0;
    double worst_relative_error = 0;  // relative to the tolerance's own scale, see gradcheck.hpp
};

struct GradcheckReport {
    int64_t checks = 0, failed = 0;
    double worst_relative_error = 0;
    std::vector<OpVerdict> ops;
    std::vector<GradCheck> failures;
};

// Throws UsageError for an unknown op or bug.
GradcheckReport run_gradcheck(const Exec& exec, const GradcheckOptions& options);

struct BugVerdict {
    std::string name, explanation;
    bool caught;
};
std::vector<BugVerdict> run_derivative_bugs(const Exec& exec);

}  // namespace lumachrome
