// Every op with every implementation of the CUDA backend: against the executable definitions, run
// after run, and against the CPU. On a GPU where there is one, and always on the emulated one.
#include <doctest/doctest.h>

#include "layers/op_cases.hpp"
#include "support/device.hpp"
#include "tensor/choose.hpp"

using namespace lumachrome;

TEST_CASE("values and derivatives on the GPU agree with the executable definitions" *
          doctest::skip(support::no_gpu())) {
    for (const OpFamily& family : op_families(support::kGpu))
        for (const std::string& implementation : family.implementations) {
            const ForcedImplementations forced(family.name + ":" + implementation);
            for (const OpCase& c : family.cases)
                for (const GradCheck& check :
                     check_op(c, Exec{support::kGpu, 2}, implementation, 3)) {
                    CAPTURE(family.name);
                    CAPTURE(implementation);
                    CAPTURE(check.what);
                    CAPTURE(check.relative_error);
                    CHECK(check.passed());
                }
        }
}
