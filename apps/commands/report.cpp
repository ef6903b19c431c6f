#include "train/report/report.hpp"

#include <filesystem>

#include "apps/commands/commands.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

struct ReportOptions : RunOptions {
    std::vector<std::string> runs;
    std::string output;
    bool overwrite = false;
};

int run_report(const ReportOptions& options, Console& console) {
    std::string output = options.output;
    if (output.empty()) {
        if (options.runs.size() > 1)
            throw UsageError("report of several runs: name its file with -o FILE.html");
        output = report_path(options.runs.front());
    } else {
        check_overwrite(output, options.overwrite);
    }
    write_report(options.runs, output);
    console.note("wrote " + output);
    console.result(Json::Object{{"report", output}});
    return 0;
}

}  // namespace

Command report_command() {
    Command command({
        .name = "report",
        .summary = "a page about a training run, or several side by side",
        .description = "Draws the curves of training runs, the first with its pictures.",
        .examples = "  lumachrome report run                          writes run/report.html anew\n"
                    "  lumachrome report run other -o compare.html    both in the same curves",
    });
    ReportOptions& options = command.runs(run_report);
    add_run_options(command, options);
    command.add("RUN", options.runs, "Folders of runs, at most 8").required();
    command.add("-o,--output", options.output, "File to write; else report.html in the run");
    command.add("--overwrite", options.overwrite, "Replace the file of -o if it exists");
    return command;
}

}  // namespace lumachrome
