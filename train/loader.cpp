#include "train/loader.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "tensor/error.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

// A set with this many unusable photos in a row is not a set of colour photos.
constexpr int64_t kMaxReplacements = 500;

int64_t bytes_of(const Photo& photo) {
    return static_cast<int64_t>(sizeof(Photo) + photo.name.size() + photo.image.bytes.size());
}

}  // namespace

Loader::Loader(std::shared_ptr<const Dataset> dataset, AugmentSpec spec, int64_t batch,
               uint64_t seed, int workers, int64_t prefetch_batches, int64_t cache_bytes,
               Share share, Output output)
    : dataset_(std::move(dataset)),
      spec_(spec),
      batch_(batch),
      share_(share),
      seed_(seed),
      prefetch_(prefetch_batches),
      output_(output),
      cache_room_(cache_bytes) {
    check(spec);
    const int64_t size = dataset_->size();
    if (size < 1 || size > std::numeric_limits<int32_t>::max())
        throw UsageError("loader: cannot draw from a dataset of " + std::to_string(size) +
                         " photos");
    if (batch < 1 || workers < 1 || prefetch_batches < 1)
        throw UsageError("loader: batch " + std::to_string(batch) + ", workers " +
                         std::to_string(workers) + " and prefetch " +
                         std::to_string(prefetch_batches) + " must be at least 1");
    if (cache_bytes < 0)
        throw UsageError("loader: the cache cannot hold " + std::to_string(cache_bytes) + " bytes");
    if (share.size < 1 || share.rank < 0 || share.rank >= share.size)
        throw UsageError("loader: there is no process " + std::to_string(share.rank) + " of " +
                         std::to_string(share.size));
    if (batch % share.size != 0)
        throw UsageError("a batch of " + std::to_string(batch) + " cannot be divided among " +
                         std::to_string(share.size) + " processes; choose a multiple");
    cache_.resize(static_cast<size_t>(size));
    for (int i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
}

Loader::~Loader() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

Batch Loader::next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return made_.count(next_) > 0; });
    Made made = std::move(made_.extract(next_).mapped());
    ++next_;
    skipped_corrupt_ += made.corrupt, skipped_gray_ += made.gray;
    lock.unlock();
    changed_.notify_all();
    if (made.failure) std::rethrow_exception(made.failure);
    return std::move(made.batch);
}

void Loader::seek(int64_t step) {
    if (step < 0) throw UsageError("loader: cannot seek to step " + std::to_string(step));
    {
        const std::lock_guard lock(mutex_);
        next_ = claimed_ = step;
        made_.clear();
    }
    changed_.notify_all();
}

int64_t Loader::skipped_corrupt() const {
    const std::lock_guard lock(mutex_);
    return skipped_corrupt_;
}
int64_t Loader::skipped_gray() const {
    const std::lock_guard lock(mutex_);
    return skipped_gray_;
}

void Loader::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return stop_ || claimed_ < next_ + prefetch_; });
        if (stop_) return;
        const int64_t step = claimed_++;
        lock.unlock();
        Made made;
        try {
            made = make(step);
        } catch (...) {
            made.failure = std::current_exception();
        }
        lock.lock();
        // After a seek() a batch may be out of the window, or made twice with the same contents.
        if (step >= next_ && step < next_ + prefetch_) {
            made_.insert_or_assign(step, std::move(made));
            changed_.notify_all();
        }
    }
}

Loader::Made Loader::make(int64_t step) {
    Made made;
    Batch& batch = made.batch;
    const int64_t size = dataset_->size(), s = spec_.size;
    const int64_t samples = batch_ / share_.size;
    batch.step = step, batch.epoch = step * batch_ / size;
    batch.first = share_.rank * samples;
    const int64_t first = step * batch_ + batch.first;
    if (output_ == Output::samples) {
        batch.luma = Tensor::empty({samples, s, s, 1});
        batch.ab = Tensor::empty({samples, s / 2, s / 2, 2});
    }
    for (int64_t n = 0; n < samples && !stop_; ++n) {
        Draw drawn = draw((first + n) / size, (first + n) % size, 0, made);
        batch.labels.push_back(drawn.photo->label);
        if (output_ == Output::draws)
            batch.draws.push_back(std::move(drawn));
        else
            add_sample(std::move(drawn), n, made);
    }
    return made;
}

void Loader::add_sample(Draw drawn, int64_t n, Made& made) {
    for (;;) {
        const Sample sample = augment(*drawn.photo, spec_, drawn.crop);
        if (!sample.near_gray) {
            made.batch.luma.batch(n).copy_from(sample.luma);
            made.batch.ab.batch(n).copy_from(sample.ab);
            made.batch.labels.back() = sample.label;
            return;
        }
        ++made.gray;
        made.reason = drawn.photo->name + ": near gray";
        drawn = draw(drawn.epoch, drawn.place, drawn.attempt + 1, made);
    }
}

Draw Loader::redraw(const Draw& gray) {
    Made made;
    made.reason = gray.photo->name + ": near gray";
    const auto count = [&] {
        const std::lock_guard lock(mutex_);
        skipped_corrupt_ += made.corrupt, ++skipped_gray_;
    };
    try {
        Draw next = draw(gray.epoch, gray.place, gray.attempt + 1, made);
        count();
        return next;
    } catch (...) {
        count();
        throw;
    }
}

// The first photo from `attempt` on that can be read.
Draw Loader::draw(int64_t epoch, int64_t place, int64_t attempt, Made& made) {
    const std::shared_ptr<const Order> order = this->order(epoch);
    const int64_t size = dataset_->size(), tries = std::min(size, kMaxReplacements) + 1;
    for (int64_t i = attempt; i < tries; ++i) {
        const int64_t from = i == 0 ? place : (place + size / 2 + i - 1) % size;
        const int64_t index = (*order)[static_cast<size_t>(from)];
        try {
            std::shared_ptr<const Photo> photo = this->photo(index);
            // Keyed by the place, so a stand-in is not cropped as it is at its own place.
            const Crop crop = draw_crop(photo->image, spec_, seed_, static_cast<uint32_t>(epoch),
                                        static_cast<uint32_t>(place));
            return {std::move(photo), crop, index, epoch, place, i};
        } catch (const InputError& error) {
            ++made.corrupt;
            made.reason = error.what();
        }
    }
    throw InputError("no usable photo among " + std::to_string(tries) +
                     " tried, the last: " + made.reason);
}

std::shared_ptr<const Loader::Order> Loader::order(int64_t epoch) {
    const std::lock_guard lock(order_mutex_);
    std::shared_ptr<const Order>& known = orders_[epoch];
    if (!known) {
        Order order(static_cast<size_t>(dataset_->size()));
        std::iota(order.begin(), order.end(), 0u);
        Random random(seed_, Random::Purpose::shuffle, static_cast<uint32_t>(epoch));
        for (size_t left = order.size(); left > 1; --left)  // Fisher-Yates
            std::swap(order[left - 1],
                      order[static_cast<size_t>(random.below(static_cast<int64_t>(left)))]);
        known = std::make_shared<const Order>(std::move(order));
    }
    const std::shared_ptr<const Order> result = known;
    // Workers are at most a few batches apart: two epochs, unless the set is tiny.
    while (orders_.size() > 4)
        orders_.erase(orders_.begin()->first == epoch ? std::prev(orders_.end()) : orders_.begin());
    return result;
}

std::shared_ptr<const Photo> Loader::photo(int64_t index) {
    std::shared_ptr<const Photo>& kept = cache_[static_cast<size_t>(index)];
    {
        const std::lock_guard lock(cache_mutex_);
        if (kept) return kept;
    }
    auto photo = std::make_shared<const Photo>(working_copy(dataset_->read(index), spec_));
    const int64_t bytes = bytes_of(*photo);
    const std::lock_guard lock(cache_mutex_);
    if (!kept && bytes <= cache_room_) {
        cache_room_ -= bytes;
        kept = photo;
    }
    return photo;
}

void Loader::moved(const Draw& draw) {
    auto rest = std::make_shared<Photo>();
    static_cast<ImageHeader&>(rest->image) = draw.photo->image;
    rest->label = draw.photo->label;
    rest->name = draw.photo->name;
    const std::lock_guard lock(cache_mutex_);
    std::shared_ptr<const Photo>& kept = cache_[static_cast<size_t>(draw.index)];
    if (kept) cache_room_ += bytes_of(*kept);
    cache_room_ -= bytes_of(*rest);
    kept = std::move(rest);
}

}  // namespace lumachrome
