// The commands: what each can be asked, and the function that does it. Each returns an exit code
// and throws the errors of tensor/error.hpp.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/console.hpp"
#include "model/colorizer.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

struct RunOptions {  // of every command
    std::string device = "auto";
    int threads = 0;  // 0: all that this process may use
};
// Where to run. Throws UsageError for a malformed device, ResourceError for one that is not here.
Exec exec_for(const RunOptions& options, Console& console);

struct PhotoOptions : RunOptions {  // of the commands that read photos
    std::vector<std::string> inputs;
    bool recursive = false;
    std::string weights;  // empty: the default model
    int64_t max_pixels = 256'000'000;
};

struct ColorizeOptions : PhotoOptions {
    std::string output;  // empty: beside the input
    std::string format;  // png, jpeg; empty: by the output's name, else png
    ColorizeSettings settings;
    int quality = 95;
    bool overwrite = false, skip_existing = false;
};
int run_colorize(const ColorizeOptions& options, Console& console);

struct ClassifyOptions : PhotoOptions {
    int64_t top = 5;
};
int run_classify(const ClassifyOptions& options, Console& console);

struct NetworkOptions {  // what is not given comes from the preset or the checkpoint
    std::optional<std::string> preset, activation;
    std::optional<int64_t> fusion_kernel;
    bool no_global = false;
    std::optional<double> dropout;
};

struct TrainCommandOptions : RunOptions {
    std::vector<std::string> data;
    std::string out, init;
    bool resume = false;
    NetworkOptions network;
    std::optional<double> epochs;
    std::optional<int64_t> steps;
    std::optional<double> minutes;
    int64_t batch = 16;
    std::optional<int64_t> size;  // none: what the global branch sees
    double min_scale = 0.6;
    std::string optimizer = "adadelta";
    std::optional<double> learning_rate;
    std::string schedule = "constant";
    int64_t warmup = 0;
    std::optional<double> alpha;
    std::string precision = "f32";
    uint64_t seed = 1;
    int workers = 1;
    double checkpoint_minutes = 5;
    std::vector<std::string> metadata;  // KEY=VALUE
    std::string resolved;               // all of the above as a config file
};
int run_train(const TrainCommandOptions& options, Console& console);

struct EvaluateOptions : RunOptions {
    std::vector<std::string> data;
    std::string weights;
    ColorizeSettings settings;
    int64_t limit = 0;  // 0: all
    uint64_t seed = 2;  // of scenes:N; not train's default, whose photos are no test
    std::optional<double> max_rmse_ab;
    std::string samples;  // picture to write; empty: none
    bool overwrite = false;
};
int run_evaluate(const EvaluateOptions& options, Console& console);

struct GradcheckCommandOptions : RunOptions {
    std::string op;   // empty: all
    std::string bug;  // a name, "list", "all"; empty: none
    bool explain = false;
};
int run_gradcheck_command(const GradcheckCommandOptions& options, Console& console);

struct InspectOptions : RunOptions {
    std::string file;
    NetworkOptions network;
    std::optional<int64_t> classes;
    int64_t height = 224, width = 224;
};
int run_inspect(const InspectOptions& options, Console& console);

struct BenchOptions : RunOptions {
    std::string preset = "paper";
    int64_t size = 224, batch = 8, runs = 10;
    std::string optimizer = "adadelta";
    std::string filter;
    bool simple_path = false;
};
int run_bench_infer(const BenchOptions& options, Console& console);
int run_bench_train(const BenchOptions& options, Console& console);
int run_bench_ops(const BenchOptions& options, Console& console);

struct ConvertOptions : RunOptions {
    std::string in, out;
    std::string dtype = "f16";
    bool overwrite = false;
};
int run_convert(const ConvertOptions& options, Console& console);

int run_doctor(const RunOptions& options, Console& console);

struct DataOptions : RunOptions {
    std::vector<std::string> sources;  // scan
    std::string out;                   // scenes
    int64_t count = 100, size = 128;
    uint64_t seed = 1;
};
int run_data_scan(const DataOptions& options, Console& console);
int run_data_scenes(const DataOptions& options, Console& console);

}  // namespace lumachrome
