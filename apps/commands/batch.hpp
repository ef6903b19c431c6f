// Colours photos, several at a time.
#pragma once
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "apps/commands/colorize.hpp"
#include "model/colorizer.hpp"

namespace lumachrome {

// Each photo is one thread's from its file to its result's. On the CPU the network runs for several
// photos at once, each on its share of the threads, because one photo on all of them would wait for
// the threads that decode and encode. A GPU, and a photo whose memory is limited, has one network.
class PhotoBatch {
  public:
    // `settings`: those of the options, with the styles.
    PhotoBatch(Colorizer& colorizer, const ColorizeOptions& options,
               const ColorizeSettings& settings, std::shared_future<std::string> weights_sha256,
               size_t photos);
    int at_a_time() const { return at_a_time_; }

    struct Times {  // milliseconds
        double decode = 0, encode = 0, total = 0;
    };
    // Called when the result is on the disk but for its name; see AtomicFile::sync.
    using Written = std::function<void(int64_t time)>;
    // Fills `record` as far as it comes. Nothing: the photo is in colour, and such are to be
    // skipped. Throws the errors of tensor/error.hpp, after which there is no output.
    std::optional<Colorization> color_file(const PhotoPath& photo, const Target& target,
                                           Json& record, Times& times, const Written& written);

  private:
    Colorization write_colored(const Image& photo, const Target& target, bool alone, Times& times,
                               const Written& written);
    class Network;  // one that is free, for as long as it is held

    Colorizer& whole_;  // with all threads
    const ColorizeOptions& options_;
    const ColorizeSettings& settings_;
    std::shared_future<std::string> weights_sha256_;
    int at_a_time_ = 1;
    std::vector<std::unique_ptr<Colorizer>> shares_;
    std::vector<Colorizer*> free_;
    std::mutex mutex_;
    std::condition_variable returned_;
    std::shared_mutex alone_;  // held by all; by a large photo alone
};

}  // namespace lumachrome
