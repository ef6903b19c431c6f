#include <signal.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "apps/commands/train_setup.hpp"
#include "apps/exit_code.hpp"
#include "apps/stop.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/distributed/launch.hpp"
#include "train/report/report.hpp"
#include "train/trainer.hpp"

namespace lumachrome {
namespace {

constexpr double kOverfitShare = 0.2;  // of the gray loss; below: learned by heart

std::string progress_text(const TrainReport& r) {
    std::string text = format("step %ld", long{r.step});
    if (r.total_steps > 0) text += format("/%ld", long{r.total_steps});
    text += format("  epoch %ld  %.1f images/s  color %.5f", long{r.epoch}, r.images_per_second,
                   r.color_loss);
    if (r.class_loss > 0) text += format("  class %.3f  top1 %.3f", r.class_loss, r.top1);
    if (r.seconds_left > 0) text += "  " + duration(r.seconds_left) + " left";
    return text;
}

std::string validation_text(int64_t step, const ValidationResult& v, bool best) {
    std::string text =
        format("step %ld  validation: color %.5f  rmse_ab %.2f (gray %.2f)  colorfulness %.0f %%",
               long{step}, v.color_loss, v.rmse_ab, v.gray_rmse_ab,
               100 * v.colorfulness / v.colorfulness_truth);
    if (!std::isnan(v.top1)) text += format("  top1 %.3f", v.top1);
    return text + (best ? "  best so far" : "");
}

double share_done(const TrainReport& r, const TrainOptions& options, double seconds_before) {
    double share = -1;
    if (options.max_steps > 0) share = double(r.step) / double(options.max_steps);
    if (options.max_seconds > 0)
        share = std::max(share, (r.seconds - seconds_before) / options.max_seconds);
    return share;
}

Json summary_of(const Trainer& trainer, bool finished, const std::string& run) {
    const TrainReport& last = trainer.last_report();
    // Null where this process took no step.
    const auto measured = [&](double value) { return last.step > 0 ? Json(value) : Json(); };
    Json summary;
    summary.set("step", trainer.progress().step);
    summary.set("epoch", last.epoch);
    summary.set("images_per_second", measured(last.images_per_second));
    summary.set("color_loss", measured(last.color_loss));
    summary.set("class_loss", measured(last.class_loss));
    summary.set("top1", measured(last.top1));
    summary.set("checkpoint", model_path(run));
    summary.set("seconds", trainer.progress().seconds);
    summary.set("skipped_corrupt", last.skipped_corrupt);
    summary.set("skipped_gray", last.skipped_gray);
    summary.set("finished", finished);
    if (const auto& v = trainer.last_validation())
        summary.set("validation", Json::Object{{"images", v->images},
                                               {"color_loss", v->color_loss},
                                               {"rmse_ab", v->rmse_ab},
                                               {"gray_rmse_ab", v->gray_rmse_ab},
                                               {"colorfulness", v->colorfulness},
                                               {"colorfulness_truth", v->colorfulness_truth},
                                               {"top1", v->top1}});
    if (trainer.progress().best_step > 0) summary.set("best_step", trainer.progress().best_step);
    return summary;
}

// The words this process was started with.
std::vector<std::string> own_arguments() {
    std::vector<std::string> words;
    std::ifstream in("/proc/self/cmdline", std::ios::binary);
    for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
    if (!words.empty()) words.erase(words.begin());
    return words;
}

int run_processes(int count, Console& console) {
    std::error_code error;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) throw ResourceError("--processes: cannot find this program: " + error.message());
    const Launched launched = launch_processes(count, program.string(), own_arguments());
    if (!launched.note.empty()) console.error(launched.note);
    return launched.code;
}

int run_train(const TrainCommandOptions& options, Console& console) {
    if (options.processes > 1 && started_processes() == 1)
        return run_processes(options.processes, console);
    stop_on_signals();  // before MPI, and before work that is worth saving
    const PeerGroup peers;
    if (peers.rank() != 0) console.options = {.quiet = true};  // one of them speaks for all
    const Exec exec = exec_for(options, console);
    Beginning begin = lumachrome::begin(options, console);
    TrainOptions train = train_options(options, begin.spec);
    double guessing = 0;
    if (options.overfit) {
        guessing = prepare_overfit(options, begin, train, console);
    } else {
        choose_validation(options, begin, train, console);
        set_limits(options, begin.data->size(), train);
    }
    const int64_t share = train.sync_batch_norm ? train.batch : train.batch / peers.count();
    if (share < 2 && begin.spec.batch_norm)
        throw UsageError(
            format("--batch %ld: batch norm needs at least 2 photos a step", long{train.batch}) +
            (peers.count() > 1 ? " and process; or --sync-bn" : ""));

    Trainer trainer(initial_network(options, begin), begin.data, train, exec, &peers);
    const std::string config = options.out + "/train.ini";
    // After a resume too, now that the run has accepted them: the next one goes on with these.
    if (peers.rank() == 0)
        write_file_atomic(
            config,
            {reinterpret_cast<const uint8_t*>(options.resolved.data()), options.resolved.size()},
            true);

    const double seconds_before = trainer.progress().seconds;
    if (peers.count() > 1)
        console.note(format("%d processes, each %ld photos of a batch on %d threads", peers.count(),
                            long{train.batch / peers.count()}, exec.threads));
    console.note(format("%s %s on %ld photos of %zu scenes, %ldx%ld pixels, batches of %ld, %s",
                        options.resume ? "resuming" : "training", begin.spec.preset.c_str(),
                        long{begin.data->size()}, begin.data->classes().size(),
                        long{train.augment.size}, long{train.augment.size}, long{train.batch},
                        options.optimizer.c_str()));
    TrainEvents events;
    events.progress = [&](const TrainReport& report) {
        console.progress(share_done(report, train, seconds_before), progress_text(report));
    };
    events.validated = [&](int64_t step, const ValidationResult& result, bool best) {
        console.note(validation_text(step, result, best));
    };
    events.warned = [&](const std::string& text) { console.error(text); };
    const TrainEnd end = trainer.run(stop_requested(), events);

    const TrainReport& last = trainer.last_report();
    console.result(summary_of(trainer, end != TrainEnd::stopped, options.out));
    if (last.step > 0) console.note(progress_text(last));
    if (end == TrainEnd::stopped) {
        console.note("stopped; to go on: lumachrome train --resume --config " + config);
        return kStoppedEarly;
    }
    if (end == TrainEnd::patience)
        console.note(format("validation has not improved since step %ld; %s holds that model",
                            long{trainer.progress().best_step}, best_path(options.out).c_str()));
    console.note("saved " + model_path(options.out) + "; the curves are in " +
                 report_path(options.out));
    if (!options.overfit) return kOk;
    if (last.step == 0) {
        console.note("no step was left to take, so nothing is known; --steps allows more");
        return kCheckFailed;
    }
    const bool learned = last.color_loss < kOverfitShare * guessing;
    console.note(format("color loss %.5f, %.1f %% of guessing: %s", last.color_loss,
                        100 * last.color_loss / guessing,
                        learned ? "the network learns"
                                : "the network does not learn; try another --learning-rate"));
    return learned ? kOk : kCheckFailed;
}

}  // namespace

Command train_command() {
    Command command({
        .name = "train",
        .summary = "train or fine-tune a network",
        .description = "Trains a network. Ctrl-C saves and ends; --resume goes on bit for bit.",
        .examples =
            "  lumachrome train photos/ --out run                        a folder per scene\n"
            "  lumachrome train scenes:2000 --out run --preset tiny      nothing to download\n"
            "  lumachrome train photos/ --out run --optimizer adam --schedule cosine --epochs 20\n"
            "  lumachrome train --resume --config run/train.ini          goes on with its options\n"
            "  lumachrome train mine/ --init old.safetensors --out new   fine-tunes",
    });
    TrainCommandOptions& options = command.runs(run_train);
    add_run_options(command, options);

    command.section("Data");
    command
        .add("--data,DATA", options.data,
             "Folders of scenes, folders of tar shards, .tar, .txt lists, scenes:N")
        .required();
    command.add("--size", options.size, "Side of the training squares; else the global branch's")
        .within(8, 4096);
    command.add("--min-scale", options.min_scale, "Smallest crop, as a share of the shorter side")
        .within(0.01, 1);
    command.add("--luma-jitter", options.luma_jitter, "Contrast and brightness vary by this share")
        .within(0, 0.9);
    command.add("--validation", options.validation,
                "Photos to validate on; else val.tar beside shards, or a few held out");
    command.add("--seed", options.seed, "Of weights, order, crops and dropout");
    command.add("--workers", options.workers, "Threads that prepare photos").within(1, 256);
    command.add("--cache-mib", options.cache_mib, "Memory for decoded photos").within(0, 1 << 20);

    command.section("Network");
    command.add("--init", options.init, "Start from these weights; of no effect with --resume");
    command.add("--freeze", options.freeze,
                "Stage that keeps its weights (repeat for more): low, mid, global, fusion, color, "
                "output, classifier");
    add_network_options(command, options.network);
    command.add("--dropout", options.network.dropout, "Rate after the first two global features")
        .within(0, 0.95);

    command.section("Optimisation");
    command.add("--batch", options.batch, "Photos a step").within(1, 65536);
    command.add("--optimizer", options.optimizer, "How gradients change weights")
        .one_of({"adadelta", "adam", "adamw", "sgd"});
    command.add("--learning-rate", options.learning_rate, "Else the optimizer's own default")
        .positive();
    command.add("--schedule", options.schedule, "Of the learning rate")
        .one_of({"constant", "cosine", "steps"});
    command.add("--warmup", options.warmup, "Steps of linear warm-up").at_least(0);
    command.add("--decay-steps", options.decay_steps, "Of --schedule steps: length of a stair")
        .at_least(1);
    command.add("--decay-factor", options.decay_factor, "Of --schedule steps: factor a stair")
        .within(0, 1);
    command.add("--weight-decay", options.weight_decay, "Decoupled; else 0, or 0.01 of adamw")
        .within(0, 1);
    command.add("--clip-norm", options.clip_norm, "Longest gradient, L2 norm; 0: any").at_least(0);
    command
        .add("--ema", options.ema,
             "Decay of a weight average that is used instead of the last weights, e.g. 0.999")
        .within(0, 0.999999);
    command.add("--alpha", options.alpha, "Weight of the scene loss; else 1/300").at_least(0);
    command
        .add("--chroma-weight", options.chroma_weight, "How much more strong colours count; 0: not")
        .at_least(0);
    add_precision_option(command, options);

    command.section("Limits");
    command.add("--epochs", options.epochs, "Passes over the data; 11 when no limit is given")
        .positive();
    command.add("--steps", options.steps, "Steps in all, resumed ones included").at_least(1);
    command.add("--minutes", options.minutes, "Time of this process").positive();
    command
        .add("--patience", options.patience,
             "End after so many validations without a better one; 0: never")
        .at_least(0);
    command
        .add("--overfit", options.overfit,
             "Check: learn N photos by heart, without cropping; exits with 6 if that fails")
        .within(1, 1024);

    command.section("Processes");
    command
        .add("--processes", options.processes,
             "Share every batch between N processes on this machine; needs Open MPI")
        .within(1, 1024);
    command.add("--sync-bn", options.sync_batch_norm,
                "Batch norm over all processes instead of each its own share");

    command.section("Run folder");
    command.add("--out", options.out, "Folder of the run: checkpoints, log, options").required();
    command.add("--resume", options.resume, "Go on with the run in --out").not_configurable();
    command.add("--checkpoint-minutes", options.checkpoint_minutes, "Between checkpoints")
        .positive();
    command.add("--checkpoint-steps", options.checkpoint_steps, "Also every so many steps; 0: no")
        .at_least(0);
    command.add("--keep", options.keep, "States of the last saves to keep").within(1, 1000);
    command.add("--validation-steps", options.validation_steps, "Between validations").at_least(1);
    command.add("--tensorboard", options.tensorboard, "Also write TensorBoard event files");
    command.add("--metadata", options.metadata, "KEY=VALUE for the checkpoints, e.g. licence=...");
    command.add_config_file("--config", options.resolved,
                            "Options from a file, one name=value a line");
    return command;
}

}  // namespace lumachrome
