#include "apps/cli.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <numeric>
#include <sstream>

#include "apps/commands/commands.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kMost = 1'000'000'000;

// Examples come before the options: most readers need nothing else.
class ExamplesFirst : public CLI::Formatter {
  public:
    ExamplesFirst() { column_width(32); }
    std::string make_help(const CLI::App* app, std::string name,
                          CLI::AppFormatMode mode) const override {
        return app->get_description() + "\n\nExamples:\n" + app->get_footer() + "\n\n" +
               make_usage(app, name) + make_positionals(app) + make_groups(app, mode);
    }
    // "--size N [224]", "--optimizer adadelta|adam|sgd [adadelta]"
    std::string make_option_opts(const CLI::Option* option) const override {
        if (option->get_positional()) return "";
        if (!option->get_option_text().empty()) return " " + option->get_option_text();
        if (option->get_expected_min() == 0) return "";  // a flag
        const std::string type = option->get_type_name();
        const size_t brace = type.find('{');
        std::string text = type.starts_with("TEXT")    ? " NAME"
                           : type.starts_with("FLOAT") ? " X"
                                                       : " N";
        if (brace != type.npos) {
            text = " " + type.substr(brace + 1, type.find('}') - brace - 1);
            std::replace(text.begin(), text.end(), ',', '|');
        }
        const std::string value = option->get_default_str();
        return value.empty() || value == "[]" ? text : text + " [" + value + "]";
    }
};

// Edit distance with insertions, deletions and replacements (Wagner and Fischer 1974).
size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
    const auto nearest =
        std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
            return edit_distance(word, a) < edit_distance(word, b);
        });
    const bool near =
        nearest != known.end() && edit_distance(word, *nearest) <= 1 + word.size() / 3;
    return near ? "; did you mean " + *nearest + "?" : "";
}

// One command under construction: its parser, its options, and what to do with them.
struct Command {
    CLI::App app;
    Request request;

    Command(const std::string& name, const std::string& description, const std::string& examples)
        : app(description, "lumachrome " + name) {
        app.formatter(std::make_shared<ExamplesFirst>());
        app.footer(examples);
        app.set_help_flag("-h,--help", "This text");
        app.option_defaults()->always_capture_default();
        app.add_flag("--json", request.console.json, "One JSON object on stdout, nothing else")
            ->configurable(false);
        app.add_flag("-q,--quiet", request.console.quiet, "Errors only")->configurable(false);
        app.add_flag("-v,--verbose", request.console.verbose, "More messages")->configurable(false);
    }

    // Options that live until the command has run.
    template <class Options>
    std::shared_ptr<Options> options(int (*run)(const Options&, Console&)) {
        auto options = std::make_shared<Options>();
        app.add_option("--device", options->device, "auto, cpu, cuda or cuda:N");
        app.add_option("--threads", options->threads, "Threads; 0: as many as cores")
            ->check(CLI::Range(0, 1024));
        request.run = [options, run](Console& console) { return run(*options, console); };
        return options;
    }

    template <class T>
    void count(const std::string& name, T& value, const std::string& text, int64_t least = 1,
               int64_t most = kMost) {
        app.add_option(name, value, text)->check(CLI::Range(least, most));
    }
    void choice(const std::string& name, auto& value, const std::string& text,
                std::vector<std::string> words) {
        app.add_option(name, value, text)->check(CLI::IsMember(std::move(words)));
    }
    void weights(std::string& path) {
        app.add_option("--weights", path, "Checkpoint (.safetensors) instead of the default model");
    }
};

// "auto", "full" or the shorter side.
void add_size(CLI::App& app, ColorizeSettings& settings) {
    app.add_option_function<std::string>(
           "--size",
           [&settings](const std::string& text) {
               settings.full = text == "full";
               settings.size = 0;
               if (text == "auto" || text == "full") return;
               const char* end = text.data() + text.size();
               if (std::from_chars(text.data(), end, settings.size).ptr != end ||
                   settings.size < 8 || settings.size > 8192)
                   throw CLI::ValidationError("--size", text + " must be auto, full or 8..8192");
           },
           "Shorter side of what the network sees: N, auto (176 at most) or full")
        ->option_text("N|auto|full");
}

void add_path(CLI::App& app, bool& simple) {
    app.add_option_function<std::string>(
           "--path", [&simple](const std::string& text) { simple = text == "simple"; },
           "fast, or simple: the definitions' own loops, to check the fast ones against")
        ->check(CLI::IsMember({"fast", "simple"}))
        ->option_text("fast|simple");
}

void add_photos(Command& command, PhotoOptions& options) {
    command.app
        .add_option("INPUT", options.inputs, "Photos, folders, quoted patterns, - for stdin")
        ->required();
    command.app.add_flag("-r,--recursive", options.recursive, "Look into folders of folders");
    command.weights(options.weights);
    command.count("--max-pixels", options.max_pixels, "Refuse larger photos by their header");
}

void add_network(Command& command, NetworkOptions& options) {
    command.choice("--preset", options.preset, "Network: paper, compact or tiny",
                   {"paper", "compact", "tiny"});
    command.choice("--activation", options.activation, "Of the hidden layers", {"relu", "sigmoid"});
    command.app
        .add_option("--fusion-kernel", options.fusion_kernel,
                    "1 (the paper's formula) or 3 (the published weights)")
        ->check(CLI::IsMember({1, 3}));
    command.app.add_flag("--no-global", options.no_global,
                         "The paper's baseline: no global branch");
}

std::unique_ptr<Command> colorize() {
    auto command = std::make_unique<Command>(
        "colorize", "Colours photos; the photo's own luminance is kept at full resolution.",
        "  lumachrome colorize grandma.jpg                     writes grandma-color.png beside it\n"
        "  lumachrome colorize grandma.jpg -o colour.jpg       names the output\n"
        "  lumachrome colorize album/ -r -o coloured/          a folder of photos\n"
        "  lumachrome colorize - < in.png > out.png            in a pipe");
    auto options = command->options(run_colorize);
    CLI::App& app = command->app;
    add_photos(*command, *options);
    app.add_option("-o,--output", options->output,
                   "File, folder/ or - for stdout; else beside the photo");
    command->choice("--format", options->format, "png or jpeg; else by the output's name, or png",
                    {"png", "jpeg"});
    add_size(app, options->settings);
    app.add_option("--saturation", options->settings.saturation, "Factor on the predicted chroma")
        ->check(CLI::Range(0.0, 10.0));
    command->count("--quality", options->quality, "Of JPEG", 1, 100);
    add_path(app, options->settings.naive);
    auto* overwrite = app.add_flag("--overwrite", options->overwrite, "Replace existing outputs");
    app.add_flag("--skip-existing", options->skip_existing, "Pass over photos that have an output")
        ->excludes(overwrite);
    return command;
}

std::unique_ptr<Command> classify() {
    auto command = std::make_unique<Command>("classify", "Names the scene of photos.",
                                             "  lumachrome classify beach.jpg\n"
                                             "  lumachrome classify album/ --top 3 --json");
    auto options = command->options(run_classify);
    add_photos(*command, *options);
    command->count("--top", options->top, "Scenes to name", 1, 1000);
    return command;
}

// As a config file that --config reads back; what was not given and has no default is left out.
std::string given_options(const CLI::App& app) {
    std::istringstream lines(app.config_to_str(true, false));
    std::string kept;
    for (std::string line; std::getline(lines, line);)
        if (!line.ends_with("=\"\"") && !line.ends_with("=\"[]\"")) kept += line + "\n";
    return kept;
}

std::unique_ptr<Command> train() {
    auto command = std::make_unique<Command>(
        "train", "Trains a network. Ctrl-C saves and ends; --resume goes on bit for bit.",
        "  lumachrome train photos/ --out run                        a folder per scene\n"
        "  lumachrome train scenes:2000 --out run --preset tiny      nothing to download\n"
        "  lumachrome train --resume --config run/train.ini          goes on with its options\n"
        "  lumachrome train mine/ --init old.safetensors --out new   fine-tunes");
    auto options = command->options(run_train);
    CLI::App& app = command->app;
    app.add_option("--data,DATA", options->data,
                   "Folders of scenes, folders of tar shards, .tar, .txt lists, scenes:N")
        ->required();
    app.add_option("--out", options->out, "Folder of the run: checkpoints, log, options")
        ->required();
    app.add_flag("--resume", options->resume, "Go on with the run in --out")->configurable(false);
    app.add_option("--init", options->init, "Start from these weights; of no effect with --resume");
    add_network(*command, options->network);
    app.add_option("--dropout", options->network.dropout,
                   "Rate after the first two global features")
        ->check(CLI::Range(0.0, 0.95));
    app.add_option("--epochs", options->epochs, "Passes over the data; 11 when no limit is given")
        ->check(CLI::PositiveNumber);
    command->count("--steps", options->steps, "Steps in all, resumed ones included");
    app.add_option("--minutes", options->minutes, "Time of this process")
        ->check(CLI::PositiveNumber);
    command->count("--batch", options->batch, "Photos a step", 1, 65536);
    command->count("--size", options->size,
                   "Side of the training squares; else the global branch's", 8, 4096);
    app.add_option("--min-scale", options->min_scale,
                   "Smallest crop, as a share of the shorter side")
        ->check(CLI::Range(0.01, 1.0));
    command->choice("--optimizer", options->optimizer, "How gradients change weights",
                    {"adadelta", "adam", "sgd"});
    app.add_option("--learning-rate", options->learning_rate, "Else the optimizer's own default")
        ->check(CLI::PositiveNumber);
    command->choice("--schedule", options->schedule, "Of the learning rate",
                    {"constant", "cosine"});
    command->count("--warmup", options->warmup, "Steps of linear warm-up", 0);
    app.add_option("--alpha", options->alpha, "Weight of the scene loss; else 1/300")
        ->check(CLI::NonNegativeNumber);
    command->choice("--precision", options->precision, "bf16 needs a CUDA device", {"f32", "bf16"});
    app.add_option("--seed", options->seed, "Of weights, order, crops and dropout");
    command->count("--workers", options->workers, "Threads that prepare photos", 1, 256);
    app.add_option("--checkpoint-minutes", options->checkpoint_minutes, "Between checkpoints")
        ->check(CLI::PositiveNumber);
    app.add_option("--metadata", options->metadata,
                   "KEY=VALUE for the checkpoints, e.g. licence=...")
        ->allow_extra_args(false);
    app.set_config("--config", "", "Options from a file, one name=value a line")
        ->option_text("FILE");
    app.final_callback([&app, options] { options->resolved = given_options(app); });
    return command;
}

std::unique_ptr<Command> evaluate_command() {
    auto command = std::make_unique<Command>(
        "evaluate", "Measures a model on held-out colour photos, by a fixed protocol.",
        "  lumachrome evaluate val.tar\n"
        "  lumachrome evaluate photos/ --weights run/model.safetensors --limit 100 --json\n"
        "  lumachrome evaluate val.tar --samples sheet.png     a picture: gray, ours, truth");
    auto options = command->options(run_evaluate);
    CLI::App& app = command->app;
    app.add_option("DATA", options->data, "As for train")->required();
    command->weights(options->weights);
    add_size(app, options->settings);
    add_path(app, options->settings.naive);
    command->count("--limit", options->limit, "Only the first N photos; 0: all", 0);
    app.add_option("--seed", options->seed, "Of scenes:N");
    app.add_option("--samples", options->samples,
                   "Also write a picture of 24 photos: gray, ours, truth");
    app.add_flag("--overwrite", options->overwrite, "Replace the picture if it exists");
    app.add_option("--max-rmse-ab", options->max_rmse_ab, "Exit with 6 when the error is larger")
        ->check(CLI::NonNegativeNumber);
    return command;
}

std::unique_ptr<Command> gradcheck() {
    auto command = std::make_unique<Command>(
        "gradcheck", "Checks every derivative: by dual numbers and by finite differences.",
        "  lumachrome gradcheck\n"
        "  lumachrome gradcheck --op conv2d\n"
        "  lumachrome gradcheck --op batch_norm --explain      error against step size\n"
        "  lumachrome gradcheck --break all                    do the checks see known bugs?");
    auto options = command->options(run_gradcheck_command);
    command->app.add_option("--op", options->op, "Only this op family, or network");
    auto* bug =
        command->app.add_option("--break", options->bug, "Inject a known bug: a name, list or all");
    command->app.add_flag("--explain", options->explain, "Error against step size for one op")
        ->excludes(bug);
    return command;
}

std::unique_ptr<Command> inspect() {
    auto command = std::make_unique<Command>(
        "inspect", "Shows a network: layers, shapes, parameters, work, receptive field, metadata.",
        "  lumachrome inspect run/model.safetensors\n"
        "  lumachrome inspect --preset paper --size 480x640");
    auto options = command->options(run_inspect);
    CLI::App& app = command->app;
    auto* file = app.add_option("FILE", options->file, "A checkpoint");
    add_network(*command, options->network);
    for (const char* name : {"--preset", "--activation", "--fusion-kernel", "--no-global"})
        app.get_option(name)->excludes(file);
    command->count("--classes", options->classes, "Scenes of the class head", 1, 100'000);
    app.add_option_function<std::string>(
           "--size",
           [options = options.get()](const std::string& text) {
               const char *at = text.data(), *end = at + text.size();
               auto parsed = std::from_chars(at, end, options->height);
               options->width = options->height;
               if (parsed.ptr != end && *parsed.ptr == 'x')
                   parsed = std::from_chars(parsed.ptr + 1, end, options->width);
               const auto right = [](int64_t side) { return side >= 8 && side <= 65536; };
               if (parsed.ptr != end || !right(options->height) || !right(options->width))
                   throw CLI::ValidationError("--size", text + " must be N or HxW, 8..65536");
           },
           "Photo the figures are for; 224 unless told")
        ->option_text("N|HxW");
    return command;
}

std::unique_ptr<Command> bench(int (*run)(const BenchOptions&, Console&), const std::string& what) {
    const bool ops = what == "ops", training = what == "train";
    auto command = std::make_unique<Command>(
        "bench " + what,
        ops        ? "Times every op of the network at its real shapes, with every implementation."
        : training ? "Times a training step: forward, joint loss, backward, optimizer."
                   : "Times the network on one photo: one size per call, random weights.",
        ops        ? "  lumachrome bench ops --filter conv2d"
        : training ? "  lumachrome bench train --size 224 --batch 8"
                   : "  lumachrome bench infer --size 480 --preset paper --runs 5");
    auto options = command->options(run);
    command->choice("--preset", options->preset, "Network", {"paper", "compact", "tiny"});
    command->count("--size", options->size, "Side of the square photo", 8, 8192);
    command->count("--runs", options->runs, "Timed runs after the warm-up", 1, 10'000);
    if (training) {
        command->count("--batch", options->batch, "Photos a step", 2, 65536);
        command->choice("--optimizer", options->optimizer, "How gradients change weights",
                        {"adadelta", "adam", "sgd"});
    }
    if (ops)
        command->app.add_option("--filter", options->filter,
                                "Only problems that contain this text");
    if (!ops) add_path(command->app, options->simple_path);
    return command;
}

std::unique_ptr<Command> convert() {
    auto command = std::make_unique<Command>(
        "convert", "Writes a model with its weights in another number format.",
        "  lumachrome convert run/model.safetensors mine.safetensors      f16: half the size");
    auto options = command->options(run_convert);
    command->app.add_option("IN", options->in, "Model to read")->required();
    command->app.add_option("OUT", options->out, "Model to write")->required();
    command->choice("--dtype", options->dtype, "Of weights; biases and batch norm stay f32",
                    {"f16", "f32"});
    command->app.add_flag("--overwrite", options->overwrite, "Replace OUT if it exists");
    return command;
}

std::unique_ptr<Command> doctor() {
    auto command = std::make_unique<Command>(
        "doctor",
        "Says what this machine and this build offer, and where the default model comes from.",
        "  lumachrome doctor\n  lumachrome doctor --json");
    command->options(run_doctor);
    return command;
}

std::unique_ptr<Command> data_scan() {
    auto command = std::make_unique<Command>(
        "data scan", "Reports corrupt, near-gray and duplicate photos.",
        "  lumachrome data scan photos/\n  lumachrome data scan train.tar --json");
    auto options = command->options(run_data_scan);
    command->app.add_option("DATA", options->sources, "As for train")->required();
    return command;
}

std::unique_ptr<Command> data_scenes() {
    auto command =
        std::make_unique<Command>("data scenes", "Writes procedural photos, a folder per scene.",
                                  "  lumachrome data scenes made/ --count 200 --size 256");
    auto options = command->options(run_data_scenes);
    command->app.add_option("DIR", options->out, "Folder to fill")->required();
    command->count("--count", options->count, "Photos in all");
    command->count("--size", options->size, "Side", 16, 4096);
    command->app.add_option("--seed", options->seed, "Another seed, other photos");
    return command;
}

struct Entry {
    const char* name;
    const char* summary;
    std::unique_ptr<Command> (*build)();
};

constexpr Entry kCommands[] = {
    {"colorize", "photos in, colour photos out", colorize},
    {"classify", "the scene of photos", classify},
    {"train", "train or fine-tune a network", train},
    {"evaluate", "measure a model on held-out photos", evaluate_command},
    {"gradcheck", "check every derivative", gradcheck},
    {"inspect", "layers and metadata of a network", inspect},
    {"bench infer", "time the network on a photo", [] { return bench(run_bench_infer, "infer"); }},
    {"bench train", "time a training step", [] { return bench(run_bench_train, "train"); }},
    {"bench ops", "time every op", [] { return bench(run_bench_ops, "ops"); }},
    {"data scan", "find photos not worth training on", data_scan},
    {"data scenes", "write procedural photos", data_scenes},
    {"convert", "a model in another number format", convert},
    {"doctor", "this machine, this build, the default model", doctor},
};

Request text_request(std::string text) {
    return {{}, [text = std::move(text)](Console&) {
                std::fputs(text.c_str(), stdout);
                return 0;
            }};
}

std::string overview(const std::string& group) {
    std::string text =
        "Gives black-and-white photos plausible colours (after \"Let there be Color!\", Iizuka et "
        "al. 2016).\n"
        "\nExamples:\n"
        "  lumachrome colorize grandma.jpg              writes grandma-color.png beside it\n"
        "  lumachrome colorize album/ -o coloured/      a folder of photos\n"
        "  lumachrome train photos/ --out run           trains a network of your own\n"
        "\nCommands:\n";
    for (const Entry& entry : kCommands)
        if (std::string(entry.name).starts_with(group))
            text += format("  %-14s %s\n", entry.name, entry.summary);
    return text +
           "\nlumachrome COMMAND --help tells more; --version the version.\n"
           "Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad input, 4 bad model, 5 some of a "
           "batch\n"
           "failed, 6 a check failed, 69 device or memory unavailable, 75 stopped early, "
           "resumable.\n";
}

// The command that `words` begin with, which are taken off; throws UsageError with the nearest one.
const Entry& take_command(std::vector<std::string>& words) {
    const std::string pair = words.size() > 1 ? words[0] + " " + words[1] : words[0];
    std::vector<std::string> firsts, pairs;
    for (const Entry& entry : kCommands) {
        const std::string name = entry.name;
        const bool two = name.find(' ') != name.npos;
        if (name != words[0] && name != pair) {
            (two && name.starts_with(words[0] + " ") ? pairs : firsts).push_back(name);
            continue;
        }
        words.erase(words.begin(), words.begin() + (two ? 2 : 1));
        return entry;
    }
    if (!pairs.empty()) {
        std::string all;
        for (const std::string& name : pairs) all += (all.empty() ? "" : ", ") + name;
        throw UsageError("unknown command " + pair + did_you_mean(pair, pairs) +
                         " There are: " + all);
    }
    throw UsageError("unknown command " + words[0] + did_you_mean(words[0], firsts));
}

std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

std::string nearest_option(const CLI::App& app, const std::vector<std::string>& unknown) {
    std::vector<std::string> known;
    for (const CLI::Option* option : app.get_options())
        for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    for (const std::string& word : unknown)
        if (word.starts_with("--")) return did_you_mean(word.substr(0, word.find('=')), known);
    return "";
}

}  // namespace

Request parse(std::vector<std::string> words) {
    const auto is_help = [](const std::string& word) { return word == "-h" || word == "--help"; };
    if (words.empty() || is_help(words[0]) || words[0] == "help") return text_request(overview(""));
    if (words[0] == "--version") return text_request("lumachrome " LUMACHROME_VERSION "\n");
    if ((words[0] == "bench" || words[0] == "data") && (words.size() == 1 || is_help(words[1])))
        return text_request(overview(words[0]));

    const std::string named = words[0];
    const std::shared_ptr<Command> command = take_command(words).build();
    try {
        std::reverse(words.begin(), words.end());  // as the parser takes them
        command->app.parse(words);
    } catch (const CLI::CallForHelp&) {
        return text_request(command->app.help());
    } catch (const CLI::ParseError& error) {
        throw UsageError(named + ": " + one_line(error.what()) +
                         nearest_option(command->app, command->app.remaining()));
    }
    return command->request;
}

}  // namespace lumachrome
