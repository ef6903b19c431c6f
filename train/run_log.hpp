// The log of a run: metrics.jsonl, one JSON object a line. Training lines hold averages since the
// line before; validation lines have a key `validation`. A line of the end of a run, which a run
// that goes on would not have written, is marked `final` and goes away with a resume.
#pragma once
#include <string>

#include "tensor/json.hpp"

namespace lumachrome {

std::string metrics_path(const std::string& run);

class RunLog {
  public:
    // Keeps what an earlier process logged up to `step`: what came later happens again. Holds a
    // lock, so that two processes never write into one run: throws UsageError.
    RunLog(std::string run, int64_t step);
    ~RunLog();
    RunLog(const RunLog&) = delete;
    RunLog& operator=(const RunLog&) = delete;

    // Throws ResourceError when the disk refuses; the line is then tried again with the next one,
    // and the file never holds half a line because of it.
    void add(const Json& line);
    void sync();  // to the disk, before a checkpoint that relies on it

  private:
    void write();
    std::string path_, pending_;
    int fd_ = -1;
};

}  // namespace lumachrome
