// What the bench commands share: options, a stopwatch, random inputs.
#pragma once
#include <algorithm>
#include <functional>

#include "apps/commands/commands.hpp"
#include "tensor/tensor.hpp"

namespace lumachrome {

struct BenchOptions : RunOptions {
    std::string preset = "paper";
    int64_t size = 224, runs = 10;
};
void add_bench_options(Command& command, BenchOptions& options);
void check_size(int64_t size);  // throws UsageError unless it is a multiple of 8

inline constexpr uint64_t kBenchSeed = 1;

struct Times {  // milliseconds
    double median, min, max;
};
double milliseconds(const std::function<void()>& work);
// One warm-up, then so many runs.
Times measure(int64_t runs, const std::function<void()>& work);
// What this machine reaches now, with these threads: products in registers, bytes copied.
struct Ceiling {
    double gflops, gigabytes_per_second;
    // Milliseconds below which so many multiplications, with an addition each, and bytes cannot be.
    double floor(double products, double bytes) const {
        return std::max(2 * products / gflops, bytes / gigabytes_per_second) / 1e6;
    }
};
Ceiling measure_ceiling(const Exec& exec);
Tensor random_tensor(const Shape& shape, uint32_t stream, double low = 0, double high = 1);

}  // namespace lumachrome
