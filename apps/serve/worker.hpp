// One thread for all that takes long, and a short queue before it. Work of one photo at a time
// keeps memory bounded, and the network has all cores for itself.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace lumachrome {

class Worker {
  public:
    explicit Worker(size_t waiting_most);
    ~Worker();  // after the work in hand and in the queue
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    // False when the queue is full. `work` does not throw.
    bool submit(std::function<void()> work);
    size_t waiting() const;
    double busy_seconds() const;  // of work that is done

  private:
    void run();
    const size_t waiting_most_;
    mutable std::mutex mutex_;
    std::condition_variable arrived_;
    std::deque<std::function<void()>> queue_;
    bool ending_ = false;
    double busy_seconds_ = 0;
    std::thread thread_;
};

}  // namespace lumachrome
