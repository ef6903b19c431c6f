// Batches without end, made ahead of time by worker threads. Last stop of the data walk
// (dataset.hpp).
//
// The order of an epoch is a permutation keyed by (seed, epoch); batches are cut from the endless
// row of epochs, so a batch may hold the end of one and the beginning of the next. A corrupt or
// near-gray photo gives its place to the photo half an epoch further on in the same permutation, or
// the next usable one after that: far enough for a batch hardly ever to hold a photo twice, and no
// place depends on what happened at another. So a batch is a function of (dataset, seed, step)
// alone, whatever the number of workers, and seek() needs no history.
//
// Several processes cut each batch into equal parts, one after the other in order of rank: what
// they hold together is the batch that a single process would hold, bit for bit.
#pragma once
#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tensor/tensor.hpp"
#include "train/augment.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

// Process `rank` of `size` processes that train together.
struct Share {
    int64_t rank = 0, size = 1;
};

// A sample that is decided and not made yet.
struct Draw {
    std::shared_ptr<const Photo> photo;  // without pixels once Loader::moved was told of it
    Crop crop;
    int64_t index = 0;             // in the dataset
    int64_t epoch = 0, place = 0;  // whose sample it is
    int64_t attempt = 0;           // 0: the photo of that place, above: stand-ins
};

// N samples: the batch, or the share of it.
struct Batch {
    Tensor luma;                   // [N,S,S,1] f32, 0..1
    Tensor ab;                     // [N,S/2,S/2,2] f32, 0..1 (augment.hpp)
    std::vector<int64_t> labels;   // N class indices, -1 unlabeled
    int64_t first = 0;             // place of the first sample in the whole batch
    int64_t epoch = 0;             // of the first sample of the whole batch, from 0
    int64_t step = 0;              // from 0
    std::vector<Draw> draws = {};  // of a Loader with Output::draws, instead of luma and ab
};

class Loader {
  public:
    // draws: photos are read and crops drawn; samples are made elsewhere (device_loader.hpp), who
    // then also says which are near gray.
    enum class Output { samples, draws };

    // `batch` counts the samples of all processes. Holds at most prefetch_batches ready or in work.
    // Decoded photos, as working_copy() leaves them, are kept as long as they fit into cache_bytes
    // together: decoding repeats every epoch. What is kept changes the time, never a sample.
    // Throws UsageError for an empty dataset, a bad spec, a count below 1, a negative cache, or a
    // batch that does not divide by the number of processes.
    Loader(std::shared_ptr<const Dataset> dataset, AugmentSpec spec, int64_t batch, uint64_t seed,
           int workers, int64_t prefetch_batches = 4, int64_t cache_bytes = int64_t{2} << 30,
           Share share = {}, Output output = Output::samples);
    ~Loader();  // waits for the photos in work, not for whole batches
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    // Waits for the next batch. Throws what its worker met, and the call after goes on behind it;
    // InputError when hundreds of photos in a row are unusable.
    Batch next();

    // Goes on as if `step` batches had been taken. The counters stay.
    void seek(int64_t step);

    // Who makes samples of draws: the stand-in for one that is near gray, which is counted. From
    // any thread; throws as next() does.
    Draw redraw(const Draw& gray);
    // Somebody else has the pixels of this photo from here on: it is not read again.
    void moved(const Draw& draw);

    // Photos passed over in this process's part of the batches taken so far; a photo counts each
    // time it is met.
    int64_t skipped_corrupt() const;
    int64_t skipped_gray() const;

  private:
    using Order = std::vector<uint32_t>;
    struct Made {
        Batch batch;
        int64_t corrupt = 0, gray = 0;
        std::string reason;  // why the last photo was passed over
        std::exception_ptr failure;
    };

    void work();
    Made make(int64_t step);
    Draw draw(int64_t epoch, int64_t place, int64_t attempt, Made& made);
    void add_sample(Draw draw, int64_t n, Made& made);
    std::shared_ptr<const Order> order(int64_t epoch);
    std::shared_ptr<const Photo> photo(int64_t index);

    const std::shared_ptr<const Dataset> dataset_;
    const AugmentSpec spec_;
    const int64_t batch_;
    const Share share_;
    const uint64_t seed_;
    const int64_t prefetch_;
    const Output output_;

    // Guards all below. `changed_` tells of a batch made, taken, or the end.
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    int64_t next_ = 0, claimed_ = 0;  // the step next() waits for; the step a free worker takes
    std::map<int64_t, Made> made_;
    int64_t skipped_corrupt_ = 0, skipped_gray_ = 0;
    std::atomic<bool> stop_ = false;

    std::mutex order_mutex_;
    std::map<int64_t, std::shared_ptr<const Order>> orders_;  // the epochs in work

    std::mutex cache_mutex_;
    int64_t cache_room_;
    std::vector<std::shared_ptr<const Photo>> cache_;

    std::vector<std::thread> workers_;  // last: they use everything above
};

}  // namespace lumachrome
