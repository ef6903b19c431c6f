// The photos that people work on: in memory alone, under names nobody can guess, and not for long.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lumachrome {

std::string random_id();  // 32 hexadecimal digits, 128 bits of the system's randomness

// Things of type T by id, the least recently used given up first. Threads may share one.
template <class T>
class LruCache {
  public:
    using Clock = std::chrono::steady_clock;
    struct Limits {
        size_t things = 64;
        int64_t bytes = int64_t{512} << 20;
        Clock::duration unused = std::chrono::minutes(30);
    };
    explicit LruCache(const Limits& limits, std::function<Clock::time_point()> now = Clock::now)
        : limits_(limits), now_(std::move(now)) {}

    // Returns its id. Older things go until there is room. `bytes` is its size in memory.
    std::string add(T thing, int64_t bytes) {
        const std::lock_guard lock(mutex_);
        std::string id = random_id();
        entries_.push_front({id, std::make_shared<T>(std::move(thing)), bytes, now_()});
        places_[id] = entries_.begin();
        bytes_ += bytes;
        while (entries_.size() > 1 && (entries_.size() > limits_.things || bytes_ > limits_.bytes))
            drop(std::prev(entries_.end()));
        return id;
    }
    // Null when there is none, or none any more. Who holds it keeps it alive.
    std::shared_ptr<T> find(const std::string& id) {
        const std::lock_guard lock(mutex_);
        drop_unused();
        const auto place = places_.find(id);
        if (place == places_.end()) return nullptr;
        entries_.splice(entries_.begin(), entries_, place->second);
        place->second->used = now_();
        return place->second->thing;
    }
    bool forget(const std::string& id) {
        const std::lock_guard lock(mutex_);
        const auto place = places_.find(id);
        if (place == places_.end()) return false;
        drop(place->second);
        return true;
    }
    void forget_unused() {
        const std::lock_guard lock(mutex_);
        drop_unused();
    }
    size_t count() const {
        const std::lock_guard lock(mutex_);
        return entries_.size();
    }
    int64_t bytes() const {
        const std::lock_guard lock(mutex_);
        return bytes_;
    }

  private:
    struct Entry {
        std::string id;
        std::shared_ptr<T> thing;
        int64_t bytes;
        Clock::time_point used;
    };
    using Place = typename std::list<Entry>::iterator;

    void drop(Place place) {
        bytes_ -= place->bytes;
        places_.erase(place->id);
        entries_.erase(place);
    }
    void drop_unused() {
        while (!entries_.empty() && now_() - entries_.back().used > limits_.unused)
            drop(std::prev(entries_.end()));
    }

    const Limits limits_;
    const std::function<Clock::time_point()> now_;
    mutable std::mutex mutex_;
    std::list<Entry> entries_;  // last used first
    std::map<std::string, Place> places_;
    int64_t bytes_ = 0;
};

}  // namespace lumachrome
