#include "train/distributed/peer_group.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

namespace lumachrome {

uint64_t hash_of(std::span<const Tensor> tensors) {
    // FNV-1a over 8-byte words; the shift brings high bits down, where the next product spreads
    // them.
    uint64_t hash = 0xcbf29ce484222325;
    for (const Tensor& anywhere : tensors) {
        const Tensor tensor = anywhere.to(Device{});
        const std::byte* bytes = tensor.raw();
        for (int64_t left = tensor.bytes(); left > 0; left -= 8, bytes += 8) {
            uint64_t word = 0;
            std::memcpy(&word, bytes, static_cast<size_t>(std::min<int64_t>(left, 8)));
            hash = (hash ^ word) * 0x100000001b3;
            hash ^= hash >> 32;
        }
    }
    return hash;
}

// Opens the communicator, works through the queue, and closes it.
struct PeerGroup::Thread {
    struct Job {
        Work work;
        std::promise<void> done;
    };

    explicit Thread(const Open& open) {
        std::promise<void> opened;
        thread = std::thread([&] { serve(open, opened); });
        try {
            opened.get_future().get();
        } catch (...) {
            thread.join();
            throw;
        }
    }
    ~Thread() {
        {
            const std::lock_guard lock(mutex);
            leaving = true;
        }
        changed.notify_one();
        thread.join();
    }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;

    std::future<void> submit(Work work) {
        Job job{std::move(work), {}};
        std::future<void> done = job.done.get_future();
        {
            const std::lock_guard lock(mutex);
            jobs.push_back(std::move(job));
        }
        changed.notify_one();
        return done;
    }

    void serve(const Open& open, std::promise<void>& opened) {
        try {
            communicator = open();
        } catch (...) {
            opened.set_exception(std::current_exception());
            return;
        }
        opened.set_value();  // `open` and `opened` are gone from here on
        std::exception_ptr failure;
        for (;;) {
            std::unique_lock lock(mutex);
            changed.wait(lock, [&] { return leaving || !jobs.empty(); });
            if (jobs.empty()) break;
            Job job = std::move(jobs.front());
            jobs.pop_front();
            lock.unlock();
            // After a failure the ranks no longer agree on what comes next.
            if (!failure) try {
                    job.work(*communicator);
                } catch (...) {
                    failure = std::current_exception();
                }
            job.work = nullptr;  // gives its tensors back before the waiting thread goes on
            if (failure)
                job.done.set_exception(failure);
            else
                job.done.set_value();
        }
        communicator.reset();
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> jobs;
    bool leaving = false;
    std::unique_ptr<Communicator> communicator;
    std::thread thread;
};

PeerGroup::PeerGroup(const Open& open) : exceptions_(std::uncaught_exceptions()) {
    thread_ = std::make_unique<Thread>(open);
    rank_ = thread_->communicator->rank();
    count_ = thread_->communicator->size();
    if (count_ > 1) return;
    thread_.reset();
    alone_ = self_communicator();
}

PeerGroup::~PeerGroup() {
    if (thread_ && std::uncaught_exceptions() > exceptions_) thread_->communicator->abort();
}

std::future<void> PeerGroup::submit(Work work) const {
    if (thread_) return thread_->submit(std::move(work));
    std::packaged_task<void(Communicator&)> task(std::move(work));
    task(*alone_);
    return task.get_future();
}

void PeerGroup::run(const Work& work) const {
    submit(work).get();
}

void PeerGroup::sum(std::span<double> values) const {
    run([&](Communicator& c) { c.all_reduce_sum(values); });
}

std::vector<double> PeerGroup::sum_scalars(std::vector<double> values) const {
    sum(values);
    return values;
}

double PeerGroup::share_of(double mine) const {
    double total = mine;
    sum({&total, 1});
    return total > 0 ? mine * count_ / total : 0;
}

void PeerGroup::mean(std::span<const Tensor> tensors) const {
    if (count_ == 1) return;
    std::vector<double> values;
    for (const Tensor& tensor : tensors) {
        const Tensor here = tensor.to(Device{});
        for (int64_t i = 0; i < here.numel(); ++i) values.push_back(here.item(i));
    }
    sum(values);
    const double* value = values.data();
    for (const Tensor& tensor : tensors) {
        const Tensor wide = Tensor::empty(tensor.shape(), DType::f64);
        for (int64_t i = 0; i < tensor.numel(); ++i) wide.data<double>()[i] = *value++ / count_;
        tensor.copy_from(wide);
    }
}

void PeerGroup::broadcast(std::span<const Tensor> tensors, int root) const {
    run([&](Communicator& c) {
        for (const Tensor& t : tensors) {
            const Tensor here = t.to(Device{});
            c.broadcast({here.raw(), static_cast<size_t>(here.bytes())}, root);
            if (t.device() != Device{}) t.copy_from(here);
        }
    });
}

void PeerGroup::broadcast(std::span<std::byte> bytes, int root) const {
    run([&](Communicator& c) { c.broadcast(bytes, root); });
}

void PeerGroup::barrier() const {
    run([](Communicator& c) { c.barrier(); });
}

void PeerGroup::wait_for_all() const {
    run([](Communicator& c) { c.wait_for_all(); });
}

void PeerGroup::check_equal(uint64_t hash, const std::string& what) const {
    std::vector<uint64_t> all(static_cast<size_t>(count_));
    run([&](Communicator& c) {
        c.all_gather(std::as_bytes(std::span(&hash, 1)), std::as_writable_bytes(std::span(all)));
    });
    std::map<uint64_t, int> votes;
    for (uint64_t h : all) ++votes[h];
    if (votes.size() == 1) return;
    uint64_t most = all[0];  // rank 0's, unless another has more
    for (const auto& [h, count] : votes)
        if (count > votes[most]) most = h;
    std::string ranks;
    for (size_t rank = 0; rank < all.size(); ++rank)
        if (all[rank] != most) ranks += (ranks.empty() ? "" : ", ") + std::to_string(rank);
    throw Error(what + " of process " + ranks + " of " + std::to_string(count_) +
                " (counted from 0) differ from the others'; resume from the last checkpoint");
}

}  // namespace lumachrome
