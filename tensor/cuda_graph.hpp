// The work of a whole training step as one thing to start: recorded once, started again with a
// single call, so that thousands of launches do not cost the CPU's time. What is recorded are
// launches with their arguments: memory stays where it was (ReservedStorage of storage.hpp) and
// what changes from step to step is read from memory of the device.
//   LUMACHROME_CUDA_GRAPHS=0   every step is launched kernel by kernel
#pragma once
#include <cstdlib>
#include <functional>
#include <memory>
#include <string_view>

#include "tensor/device.hpp"

namespace lumachrome::cuda {

inline bool graphs_wanted() {
    const char* const value = std::getenv("LUMACHROME_CUDA_GRAPHS");
    return !value || std::string_view(value) != "0";
}

class Graph {
  public:
    explicit Graph(Device device);
    ~Graph();
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    // Records what `work` starts on the device; nothing of it runs. Waiting, and reading results,
    // is an error in there (ResourceError). Replaces what was recorded before; if `work` throws,
    // nothing is.
    void capture(const std::function<void()>& work);
    bool captured() const;
    void clear();   // nothing is
    void replay();  // starts it, behind everything started before

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace lumachrome::cuda
