// The parts of the report page that are tables and bars, as HTML. Each is empty when there is
// nothing to show.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "train/report/run_history.hpp"

namespace lumachrome {

inline constexpr size_t kMostName = 200;  // bytes shown of a name that comes from a file

struct LoggedRun {
    std::string path, name;
    RunHistory log;
};

// Last and best figures, a row each; runs[i] has curve colour i.
std::string comparison_table(const std::vector<LoggedRun>& runs);
// Last against best validation, and what the figures mean.
std::string validation_table(const RunHistory& log);
// Accuracy of each scene class, best first.
std::string scene_bars(std::vector<RunHistory::Class> classes);
std::string layer_table(const std::vector<RunHistory::Layer>& rows);
// train.ini of the run.
std::string option_list(const std::string& run);

}  // namespace lumachrome
