// The gradient checks of a GPU see the bugs that are injected, as those of the CPU do.
#include <doctest/doctest.h>

#include <algorithm>

#include "layers/op_cases.hpp"
#include "model/gradcheck_suite.hpp"
#include "support/device.hpp"
#include "tensor/choose.hpp"

using namespace lumachrome;

TEST_CASE("injected derivative bugs are seen on a GPU" * doctest::skip(support::no_gpu())) {
    const Exec exec{.device = support::kGpu, .threads = 2};
    for (const DerivativeBug& bug : derivative_bugs()) {
        const std::string name = bug.name;
        // The emulated GPU takes those of families with little work.
        const bool little = name.starts_with("activation.relu") ||
                            name == "fusion.no_border_cases" || name == "flatten.channels_last" ||
                            name == "mse_loss.half";
        if (support::emulated() && !little) continue;
        CAPTURE(name);
        CHECK(run_gradcheck(exec, {"", name}).failed > 0);
    }
}

TEST_CASE("the whole network's gradients are right on a GPU" *
          doctest::skip(support::no_gpu() || support::emulated())) {
    const GradcheckReport report =
        run_gradcheck(Exec{.device = support::kGpu, .threads = 2}, {"network", ""});
    CHECK(report.checks > 100);
    CHECK(report.failed == 0);
}
