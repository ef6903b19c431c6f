#include "train/report/report.hpp"

#include <filesystem>

#include "apps/commands/commands.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

struct ReportOptions : RunOptions {
    std::vector<std::string> runs;
    std::string output, figures;
    bool overwrite = false;
};

int run_report(const ReportOptions& options, Console& console) {
    std::string output = options.output;  // empty: figures alone
    if (!output.empty())
        check_overwrite(output, options.overwrite);
    else if (options.runs.size() == 1)
        output = report_path(options.runs.front());
    else if (options.figures.empty())
        throw UsageError("report of several runs: name its file with -o FILE.html");
    Json::Object result;
    if (!output.empty()) result.emplace_back("report", output);
    if (!options.figures.empty()) {
        const std::vector<std::string> figures =
            write_figures(options.runs, options.figures, options.overwrite);
        console.note("wrote " + std::to_string(figures.size()) + " figures to " + options.figures);
        result.emplace_back("figures", Json::Array(figures.begin(), figures.end()));
    }
    if (!output.empty()) {
        write_report(options.runs, output);
        console.note("wrote " + output);
    }
    console.result(std::move(result));
    return 0;
}

}  // namespace

Command report_command() {
    Command command({
        .name = "report",
        .summary = "a page about a training run, or several side by side",
        .description = "Draws the curves of training runs, the first with its pictures.",
        .examples = "  lumachrome report run                          writes run/report.html anew\n"
                    "  lumachrome report run other -o compare.html    both in the same curves\n"
                    "  lumachrome report run other --figures figures  the curves for a text",
    });
    ReportOptions& options = command.runs(run_report);
    add_run_options(command, options);
    command.add("RUN", options.runs, "Folders of runs, at most 8").required();
    command.add("-o,--output", options.output, "File to write; else report.html in a single run");
    command.add("--figures", options.figures, "Folder for the curves as SVG files, too");
    command.add("--overwrite", options.overwrite, "Replace files of -o and --figures");
    return command;
}

}  // namespace lumachrome
