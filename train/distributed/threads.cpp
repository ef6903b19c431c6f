#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "train/distributed/communicator.hpp"

namespace lumachrome {
namespace {

// What one rank brings to a collective.
struct Part {
    enum Kind { none, sum_f32, sum_f64, broadcast, gather, barrier } kind = none;
    std::byte* data = nullptr;  // read, and written with the result
    size_t bytes = 0;
    const std::byte* mine = nullptr;  // gather: the own record of bytes / ranks
    int root = 0;
};

template <class T>
void sum_in_rank_order(std::vector<Part>& parts) {
    for (size_t i = 0; i < parts[0].bytes / sizeof(T); ++i) {
        const auto at = [i](Part& part) -> T& { return reinterpret_cast<T*>(part.data)[i]; };
        T sum = at(parts[0]);
        for (size_t rank = 1; rank < parts.size(); ++rank) sum += at(parts[rank]);
        for (Part& part : parts) at(part) = sum;
    }
}

void perform(std::vector<Part>& parts) {
    const Part& first = parts[0];
    if (first.kind == Part::sum_f32) sum_in_rank_order<float>(parts);
    if (first.kind == Part::sum_f64) sum_in_rank_order<double>(parts);
    if (first.kind == Part::broadcast)
        for (Part& part : parts)
            if (part.data != parts[size_t(first.root)].data && part.bytes > 0)
                std::memcpy(part.data, parts[size_t(first.root)].data, part.bytes);
    if (first.kind == Part::gather) {
        const size_t record = first.bytes / parts.size();
        for (const Part& to : parts)
            for (size_t rank = 0; rank < parts.size() && record > 0; ++rank)
                std::memcpy(to.data + rank * record, parts[rank].mine, record);
    }
}

// Where the ranks meet: the last one to come does the work of all.
class Meeting {
  public:
    explicit Meeting(int ranks) : parts_(static_cast<size_t>(ranks)) {}
    int ranks() const { return static_cast<int>(parts_.size()); }

    void meet(int rank, const Part& part) {
        std::unique_lock lock(mutex_);
        if (ended_) throw_ended(rank);
        parts_[static_cast<size_t>(rank)] = part;
        const uint64_t round = round_;
        if (++arrived_ == ranks()) {
            agreed_ = std::all_of(parts_.begin(), parts_.end(), [&](const Part& p) {
                return p.kind == part.kind && p.bytes == part.bytes && p.root == part.root;
            });
            if (agreed_) perform(parts_);
            arrived_ = 0;
            ++round_;
            changed_.notify_all();
        } else {
            changed_.wait(lock, [&] { return round_ != round || ended_; });
        }
        if (round_ == round) throw_ended(rank);
        // The next round needs this rank, so agreed_ is still that of this one.
        if (!agreed_)
            throw Error("rank " + std::to_string(rank) +
                        ": the ranks called different collectives");
    }
    void end() noexcept {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }

  private:
    [[noreturn]] static void throw_ended(int rank) {
        throw PeerError("rank " + std::to_string(rank) + ": another rank has left");
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Part> parts_;
    uint64_t round_ = 0;
    int arrived_ = 0;
    bool ended_ = false, agreed_ = true;
};

class ThreadCommunicator final : public Communicator {
  public:
    ThreadCommunicator(int rank, std::shared_ptr<Meeting> meeting)
        : rank_(rank), meeting_(std::move(meeting)) {}
    ~ThreadCommunicator() override { meeting_->end(); }
    ThreadCommunicator(const ThreadCommunicator&) = delete;
    ThreadCommunicator& operator=(const ThreadCommunicator&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return meeting_->ranks(); }
    void all_reduce_sum(std::span<float> values) override {
        meet({Part::sum_f32, std::as_writable_bytes(values).data(), values.size_bytes()});
    }
    void all_reduce_sum(std::span<double> values) override {
        meet({Part::sum_f64, std::as_writable_bytes(values).data(), values.size_bytes()});
    }
    void broadcast(std::span<std::byte> bytes, int root) override {
        meet({Part::broadcast, bytes.data(), bytes.size(), nullptr, root});
    }
    void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
        meet({Part::gather, all.data(), all.size(), mine.data()});
    }
    void barrier() override { meet({Part::barrier}); }
    void abort() noexcept override { meeting_->end(); }

  private:
    void meet(const Part& part) { meeting_->meet(rank_, part); }
    int rank_;
    std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> thread_communicators(int ranks) {
    const auto meeting = std::make_shared<Meeting>(ranks);
    std::vector<std::unique_ptr<Communicator>> result;
    for (int rank = 0; rank < ranks; ++rank)
        result.push_back(std::make_unique<ThreadCommunicator>(rank, meeting));
    return result;
}

}  // namespace lumachrome
