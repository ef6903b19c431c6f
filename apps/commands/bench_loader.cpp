// How fast batches come when nobody waits for them: decoding, cropping and colour conversion alone.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "apps/commands/commands.hpp"
#include "tensor/error.hpp"
#include "train/loader.hpp"

namespace lumachrome {
namespace {

struct BenchLoaderOptions : RunOptions {
    std::vector<std::string> data;
    int64_t size = 112, batch = 16, epochs = 1, limit = 0;  // photos an epoch; 0: all
    double min_scale = 0.6;
    int workers = 1;
    int64_t cache_mib = 2048;
    uint64_t seed = 1;
};

double current_rss_mib() {
    std::ifstream statm("/proc/self/statm");  // total and resident pages
    int64_t total = 0, resident = 0;
    statm >> total >> resident;
    return double(resident) * double(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

int run_bench_loader(const BenchLoaderOptions& options, Console& console) {
    auto data = open_dataset(options.data, options.seed);
    if (options.limit > 0 && options.limit < data->size())
        data = hold_out(data, options.limit).validation;
    const AugmentSpec spec{.size = options.size, .min_scale = options.min_scale};
    // Whole batches, so that an epoch is the same work each time but for its last few photos.
    const int64_t batches = std::max<int64_t>(1, data->size() / options.batch);
    using Clock = std::chrono::steady_clock;
    const auto seconds_since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const auto start = Clock::now();
    Loader loader(data, spec, options.batch, options.seed, options.workers, 4,
                  options.cache_mib << 20);
    Json::Array epochs;
    int64_t images = 0;
    for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
        const auto epoch_start = Clock::now();
        for (int64_t i = 0; i < batches; ++i) {
            images += static_cast<int64_t>(loader.next().labels.size());
            console.progress(double(images) / double(options.epochs * batches * options.batch),
                             format("%ld photos", long{images}));
        }
        const double rate = double(batches * options.batch) / seconds_since(epoch_start);
        epochs.push_back(Json::Object{{"images_per_second", rate}, {"rss_mib", current_rss_mib()}});
        console.print(
            format("epoch %ld: %.1f photos/s, %.1f MiB", long{epoch}, rate, current_rss_mib()));
    }
    const double seconds = seconds_since(start);
    Json json;
    json.set("images_per_second", double(images) / seconds);
    json.set("images", images);
    json.set("seconds", seconds);
    json.set("peak_rss_mib", peak_rss_mib());
    json.set("skipped_corrupt", loader.skipped_corrupt());
    json.set("skipped_gray", loader.skipped_gray());
    json.set("size", options.size);
    json.set("batch", options.batch);
    json.set("workers", options.workers);
    json.set("epochs", std::move(epochs));
    console.result(json);
    return 0;
}

}  // namespace

Command bench_loader_command() {
    Command command({
        .name = "bench loader",
        .summary = "time the making of batches",
        .description = "Measures the loader alone: reading, decoding, cropping.",
        .examples = "  lumachrome bench loader photos/ --size 112 --batch 16 --epochs 2",
    });
    BenchLoaderOptions& options = command.runs(run_bench_loader);
    add_run_options(command, options);
    command.add("DATA", options.data, "As for train").required();
    command.add("--size", options.size, "Side of the crops").within(8, 4096);
    command.add("--batch", options.batch, "Photos a batch").within(1, 65536);
    command.add("--workers", options.workers, "Threads that read and crop").within(1, 256);
    command.add("--epochs", options.epochs, "Passes over the data").at_least(1);
    command.add("--limit", options.limit, "Photos an epoch, spread evenly; 0: all").at_least(0);
    command.add("--min-scale", options.min_scale, "As for train").within(0.01, 1);
    command.add("--cache-mib", options.cache_mib, "Memory for decoded photos").within(0, 1 << 20);
    command.add("--seed", options.seed, "Of order and crops");
    return command;
}

}  // namespace lumachrome
