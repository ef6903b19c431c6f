// What the CPU and a GPU need to work side by side: memory that both reach, copies that nobody
// waits for, a place in the stream to wait for later.
#pragma once
#include <memory>
#include <utility>

#include "tensor/cuda.hpp"

namespace lumachrome::cuda {

// Page-locked memory of the CPU.
class PinnedMemory {
  public:
    PinnedMemory() = default;
    explicit PinnedMemory(int64_t bytes)
        : memory_(take_pinned(bytes), give_back_pinned), bytes_(bytes) {}
    template <class T = std::byte>
    T* data() const {
        return reinterpret_cast<T*>(memory_.get());
    }
    int64_t bytes() const { return bytes_; }

  private:
    std::shared_ptr<std::byte> memory_;
    int64_t bytes_ = 0;
};

// Between page-locked memory and `device`, either way, behind everything started before. Until it
// is done the CPU may not touch its side; wait for a Marker that is set after it.
void copy_behind(Device device, std::byte* to, const std::byte* from, int64_t bytes);

class Marker {
  public:
    explicit Marker(Device device);
    ~Marker();
    Marker(const Marker&) = delete;
    Marker& operator=(const Marker&) = delete;
    void set();         // behind everything started before
    void wait() const;  // until the GPU has come to where it was set last; at once if it never was

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace lumachrome::cuda
