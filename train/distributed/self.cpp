#include <algorithm>

#include "train/distributed/communicator.hpp"

namespace lumachrome {
namespace {

struct SelfCommunicator final : Communicator {
    int rank() const override { return 0; }
    int size() const override { return 1; }
    void all_reduce_sum(std::span<float>) override {}
    void all_reduce_sum(std::span<double>) override {}
    void broadcast(std::span<std::byte>, int) override {}
    void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
        std::copy(mine.begin(), mine.end(), all.begin());
    }
    void barrier() override {}
    void abort() noexcept override {}
};

}  // namespace

std::unique_ptr<Communicator> self_communicator() {
    return std::make_unique<SelfCommunicator>();
}

}  // namespace lumachrome
