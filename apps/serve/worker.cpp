#include "apps/serve/worker.hpp"

#include <pthread.h>

#include <chrono>
#include <csignal>

namespace lumachrome {
namespace {

// Signals are for the thread that waits for connections: only there do they end the wait.
class SignalsElsewhere {
  public:
    SignalsElsewhere() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsElsewhere() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_;
};

}  // namespace

Worker::Worker(size_t waiting_most) : waiting_most_(waiting_most) {
    const SignalsElsewhere inherited;
    thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    arrived_.notify_one();
    thread_.join();
}

bool Worker::submit(std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        if (queue_.size() >= waiting_most_) return false;
        queue_.push_back(std::move(work));
    }
    arrived_.notify_one();
    return true;
}

size_t Worker::waiting() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
}

double Worker::busy_seconds() const {
    const std::lock_guard lock(mutex_);
    return busy_seconds_;
}

void Worker::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        arrived_.wait(lock, [this] { return ending_ || !queue_.empty(); });
        if (queue_.empty()) return;
        const std::function<void()> work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        const auto start = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        lock.lock();
        busy_seconds_ += taken.count();
    }
}

}  // namespace lumachrome
