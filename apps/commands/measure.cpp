#include "apps/commands/measure.hpp"

#include <algorithm>
#include <chrono>

#include "model/spec.hpp"
#include "tensor/error.hpp"
#include "tensor/gemm_tile.hpp"
#include "tensor/random.hpp"

namespace lumachrome {

double milliseconds(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

Times measure(int64_t runs, const std::function<void()>& work) {
    work();
    std::vector<double> times;
    for (int64_t i = 0; i < runs; ++i) times.push_back(milliseconds(work));
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back()};
}

Ceiling measure_ceiling(const Exec& exec) {
    const GemmTile& tile = gemm_tile();
    constexpr int64_t kDepth = 128, kRepeats = 400, kTasks = 16;
    const int64_t a_floats = tile.max_rows * kDepth, b_floats = kDepth * tile.panel,
                  c_floats = tile.max_rows * tile.panel;
    const Tensor work = Tensor::full({kTasks, a_floats + b_floats + c_floats}, 1e-3);
    const auto products = [&] {
        parallel_for(exec, kTasks, [&](int64_t task) {
            float* a = work.batch(task).data<float>();
            for (int64_t i = 0; i < kRepeats; ++i)
                tile.multiply(a, tile.panel, tile.max_rows * tile.panel, a + a_floats,
                              a + a_floats + b_floats, tile.panel, tile.max_rows, kDepth, false);
        });
    };
    const Tensor from = Tensor::full({64, 1 << 18}, 1), to = Tensor::full({64, 1 << 18}, 0);
    const auto copy = [&] {
        parallel_for(exec, 64, [&](int64_t i) { to.batch(i).copy_from(from.batch(i)); });
    };
    const double flops = 2.0 * kTasks * kRepeats * kDepth * double(tile.max_rows * tile.panel);
    return {flops / measure(5, products).min / 1e6,
            2.0 * double(from.bytes()) / measure(5, copy).min / 1e6};
}

Tensor random_tensor(const Shape& shape, uint32_t stream, double low, double high) {
    Random random(kBenchSeed, Random::Purpose::test, stream);
    const Tensor t = Tensor::empty(shape);
    for (int64_t i = 0; i < t.numel(); ++i)
        t.data<float>()[i] = static_cast<float>(random.uniform(low, high));
    return t;
}

void check_size(int64_t size) {
    if (size % kStride != 0)
        throw UsageError(format("--size %ld: must be a multiple of 8", long{size}));
}

void add_bench_options(Command& command, BenchOptions& options) {
    add_run_options(command, options);
    command.add("--preset", options.preset, "Network").one_of({"paper", "compact", "tiny"});
    command.add("--size", options.size, "Side of the square photo").within(8, 8192);
    command.add("--runs", options.runs, "Timed runs after the warm-up").within(1, 10'000);
}

}  // namespace lumachrome
