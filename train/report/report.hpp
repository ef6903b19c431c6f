// A training run as one page for the eye: key figures, what the network makes of the same photos
// step after step, curves, scenes, layers, options. The file stands alone: pictures are inside,
// nothing is fetched, and without its small script (values under the pointer) it reads the same.
// Whatever comes from files is escaped.
#pragma once
#include <string>
#include <vector>

namespace lumachrome {

std::string report_path(const std::string& run);  // report.html in the run folder

// Reads metrics.jsonl, samples/ and train.ini of the run and writes report_path(run), in place of
// an older one. Throws InputError when the folder holds no metrics.jsonl or a damaged one,
// ResourceError when the disk says no.
void write_report(const std::string& run);

// The same of several runs, at most 8, as the file `out`: the page of the first, with the curves of
// all and a table of their figures. Throws UsageError for no run or too many.
void write_report(const std::vector<std::string>& runs, const std::string& out);

// The page's charts as SVG files for a text or slides: colour-loss.svg, colour-error.svg, ... in
// the folder, which is made. Returns their paths. Throws as write_report does, and UsageError when
// one exists and `overwrite` is false.
std::vector<std::string> write_figures(const std::vector<std::string>& runs,
                                       const std::string& folder, bool overwrite);

}  // namespace lumachrome
