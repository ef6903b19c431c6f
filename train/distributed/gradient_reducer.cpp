#include "train/distributed/gradient_reducer.hpp"

#include <algorithm>
#include <utility>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

template <class T>
void average(Communicator& peers, T* values, int64_t count) {
    peers.all_reduce_sum(std::span<T>(values, static_cast<size_t>(count)));
    for (int64_t i = 0; i < count; ++i) values[i] /= static_cast<T>(peers.size());
}

// By way of page-locked memory, which the copies of a GPU run to at full speed.
template <class T>
void average_of_gpu(Communicator& peers, const std::vector<Tensor>& gradients,
                    cuda::PinnedMemory& staging) {
    const Device device = gradients[0].device();
    int64_t bytes = 0;
    for (const Tensor& g : gradients) bytes += g.bytes();
    if (staging.bytes() < bytes) staging = cuda::PinnedMemory(bytes);
    const auto each = [&](const auto& copy) {
        std::byte* here = staging.data();
        for (const Tensor& g : gradients) {
            copy(g, here);
            here += g.bytes();
        }
    };
    cuda::Marker arrived(device);
    each([&](const Tensor& g, std::byte* here) {
        cuda::copy_behind(device, here, g.raw(), g.bytes());
    });
    arrived.set();
    arrived.wait();
    average(peers, staging.data<T>(), bytes / int64_t{sizeof(T)});
    each([&](const Tensor& g, std::byte* here) {
        cuda::copy_behind(device, g.raw(), here, g.bytes());
    });
    arrived.set();
    arrived.wait();  // the next bucket takes the same memory
}

void average(Communicator& peers, const std::vector<Tensor>& gradients,
             cuda::PinnedMemory& staging) {
    dispatch_float(gradients[0].dtype(), [&](auto t) {
        using T = decltype(t);
        if (gradients[0].device().kind == Device::cuda)
            return average_of_gpu<T>(peers, gradients, staging);
        // One gradient needs no bucket; the fully connected layer's is far larger than one.
        if (gradients.size() == 1)
            return average(peers, gradients[0].data<T>(), gradients[0].numel());
        int64_t count = 0;
        for (const Tensor& g : gradients) count += g.numel();
        const Tensor bucket = Tensor::empty({count}, dtype_of<T>());
        T* next = bucket.data<T>();
        for (const Tensor& g : gradients) next = std::copy_n(g.data<T>(), g.numel(), next);
        average(peers, bucket.data<T>(), count);
        const T* from = bucket.data<T>();
        for (const Tensor& g : gradients) {
            std::copy_n(from, g.numel(), g.data<T>());
            from += g.numel();
        }
    });
}

}  // namespace

GradientReducer::GradientReducer(const PeerGroup& peers, const std::vector<Parameter*>& parameters,
                                 int64_t bucket_bytes)
    : peers_(peers),
      parameters_(parameters.begin(), parameters.end()),
      bucket_bytes_(bucket_bytes) {}

void GradientReducer::ready(Parameter& parameter) {
    if (!parameters_.count(&parameter))
        throw Error("gradient of a parameter that the reducer does not know");
    if (!come_.insert(&parameter).second) throw Error("gradient handed over twice in one step");
    if (peers_.count() == 1) return;
    const Tensor& grad = parameter.grad;
    if (!bucket_.empty() &&
        (filled_ + grad.bytes() > bucket_bytes_ || bucket_[0].dtype() != grad.dtype()))
        flush();
    bucket_.push_back(grad);
    filled_ += grad.bytes();
    if (filled_ >= bucket_bytes_) flush();
}

void GradientReducer::flush() {
    sent_.push_back(peers_.submit([gradients = std::exchange(bucket_, {}), staging = staging_](
                                      Communicator& c) { average(c, gradients, *staging); }));
    filled_ = 0;
}

void GradientReducer::finish() {
    const size_t missing = parameters_.size() - std::exchange(come_, {}).size();
    if (!bucket_.empty()) flush();
    buckets_ = static_cast<int64_t>(sent_.size());
    for (std::future<void>& bucket : std::exchange(sent_, {})) bucket.get();
    if (missing > 0)
        throw Error(std::to_string(missing) + " of " + std::to_string(parameters_.size()) +
                    " gradients did not come in this step");
}

}  // namespace lumachrome
