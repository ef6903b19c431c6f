// The commands, and what several of them can be asked. Each is described and done in a file of its
// own; it returns an exit code and throws the errors of tensor/error.hpp.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/option_table.hpp"
#include "model/colorizer.hpp"
#include "model/spec.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

Command bench_infer_command();
Command bench_loader_command();
Command bench_ops_command();
Command bench_style_command();
Command bench_train_command();
Command classify_command();
Command colorize_command();
Command completions_command();
Command convert_command();
Command data_pack_command();
Command data_scan_command();
Command data_scenes_command();
Command doctor_command();
Command evaluate_command();
Command explain_command();
Command gradcheck_command();
Command inspect_command();
Command man_command();
Command report_command();
Command serve_command();
Command style_command();
Command train_command();

struct RunOptions {  // of every command
    std::string device = "auto";
    int threads = 0;  // 0: all that this process may use
    std::string precision = "auto";
};
void add_run_options(OptionTable& table, RunOptions& options);
// For the commands that compute with the network on any device.
void add_precision_option(OptionTable& table, RunOptions& options);
void check_device(const std::string& name);  // its form; throws UsageError
// Where to run, and how exactly. Throws UsageError for a malformed device, ResourceError for one
// that is not here or cannot compute with that precision.
Exec exec_for(const RunOptions& options, Console& console);
const char* precision_name(const Exec& exec);  // f32, tf32, bf16

struct PhotoOptions : RunOptions {  // of the commands that read photos
    std::vector<std::string> inputs;
    bool recursive = false;
    std::string weights;  // empty: the default model
    int64_t max_pixels = 256'000'000;
};
void add_photo_options(OptionTable& table, PhotoOptions& options);

struct NetworkOptions {  // what is not given comes from the preset or the checkpoint
    std::optional<std::string> preset, activation;
    std::optional<int64_t> fusion_kernel;
    bool no_global = false;
    std::optional<double> dropout;
};
void add_network_options(OptionTable& table, NetworkOptions& options);  // dropout: train's own
// Of a network that begins anew: compact unless told; without their dropout.
Spec fresh_spec(const NetworkOptions& options);

void add_weights_option(OptionTable& table, std::string& path);
void add_size_option(OptionTable& table, ColorizeSettings& settings);
void add_chroma_options(OptionTable& table, ColorizeSettings& settings);
void add_path_option(OptionTable& table, bool& simple);
// What contradicts itself whatever the photo is; for before the first one. Throws UsageError.
void check_settings(const ColorizeSettings& settings);

}  // namespace lumachrome
