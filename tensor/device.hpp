// Where a tensor lives. `meta` tensors have a shape and no memory: ops infer shapes on them, so the
// network can be traced, counted and planned without computing anything.
#pragma once
#include <string>

namespace lumachrome {

struct Device {
    enum Kind { cpu, cuda, meta };
    Kind kind = cpu;
    int index = 0;
    bool operator==(const Device&) const = default;
    std::string str() const {
        return kind == cpu ? "cpu" : kind == meta ? "meta" : "cuda:" + std::to_string(index);
    }
};

}  // namespace lumachrome
