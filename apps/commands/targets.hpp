// What can be said of the place of a result before the work.
#pragma once
#include <string>
#include <vector>

namespace lumachrome {

// Of the file that is to be written: throws UsageError where its folder does not exist,
// ResourceError where nothing can be written there.
void check_folder(const std::string& target);

// No target may be a file that results are made from, however either is spelled; "-" is no file.
// Throws UsageError.
void check_sources(const std::vector<std::string>& sources,
                   const std::vector<std::string>& targets);

}  // namespace lumachrome
