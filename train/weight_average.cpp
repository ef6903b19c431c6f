#include "train/weight_average.hpp"

#include <algorithm>
#include <utility>

#include "train/device_step.hpp"

namespace lumachrome {

void WeightAverage::add(const std::string& name, Parameter& p) {
    entries_.push_back({name, &p, p.value.clone()});
}

void WeightAverage::update(const Exec& exec, int64_t step) {
    const double decay = std::min(decay_, double(1 + step) / double(10 + step));
    if (exec.device.kind == Device::cuda)
        return cuda::move_averages(exec.device, entries_, 1 - decay);
    for (Entry& entry : entries_)
        dispatch_float(entry.average.dtype(), [&](auto t) {
            using T = decltype(t);
            T* a = entry.average.data<T>();
            const T* w = entry.parameter->value.data<T>();
            const T share = T(1 - decay);
            parallel_chunks(exec, entry.average.numel(), [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) a[i] += share * (w[i] - a[i]);
            });
        });
}

void WeightAverage::swap() {
    for (Entry& entry : entries_) {
        std::swap(entry.average, entry.parameter->value);
        ++entry.parameter->version;
    }
}

}  // namespace lumachrome
