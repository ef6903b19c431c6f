#include "train/device_loader.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tensor/storage.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kAlignment = 256;

int64_t aligned(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
int64_t bytes_of(const Draw& draw) {
    return draw.photo->image.height * draw.photo->image.row_bytes();
}

}  // namespace

DeviceLoader::DeviceLoader(Loader& loader, const AugmentSpec& spec, Device device,
                           int64_t resident_bytes)
    : loader_(loader),
      spec_(spec),
      device_(device),
      tables_(device),
      room_(resident_bytes),
      done_(device) {}

void DeviceLoader::prepare() {
    if (prepared_) return;
    prepared_ = true;
    try {
        batch_ = loader_.next();
        const auto samples = std::ssize(batch_.draws);
        if (samples != samples_) reserve(samples);
        std::vector<const Draw*> draws;
        for (const Draw& draw : batch_.draws) draws.push_back(&draw);
        done_.wait();
        send(0, draws);
    } catch (...) {
        failure_ = std::current_exception();
        mark_done();
    }
}

// What was started still reads the staging, whatever failed behind it.
void DeviceLoader::mark_done() {
    try {
        done_.set();
    } catch (...) {  // a GPU in error: nothing runs there any more
    }
}

DeviceLoader::~DeviceLoader() {
    try {
        done_.wait();
    } catch (...) {  // as above
    }
}

void DeviceLoader::reserve(int64_t samples) {
    luma_ = Tensor::empty({samples, spec_.size, spec_.size, 1}, DType::f32, device_);
    ab_ = Tensor::empty({samples, spec_.size / 2, spec_.size / 2, 2}, DType::f32, device_);
    sources_ = allocate(samples * int64_t{sizeof(cuda::SampleSource)}, device_);
    near_gray_ = allocate(samples * int64_t{sizeof(int32_t)}, device_);
    gray_ = cuda::PinnedMemory(samples * int64_t{sizeof(int32_t)});
    samples_ = samples;  // last: until all is there, the next batch asks again
}

Batch DeviceLoader::next() {
    prepare();
    prepared_ = false;
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    done_.wait();
    for (int64_t n = 0; n < samples_; ++n)
        while (gray_.data<int32_t>()[n]) {
            Draw& draw = batch_.draws[static_cast<size_t>(n)];
            draw = loader_.redraw(draw);
            batch_.labels[static_cast<size_t>(n)] = draw.photo->label;
            send(n, {&draw});
            done_.wait();
        }
    skipped_corrupt_ = loader_.skipped_corrupt();
    skipped_gray_ = loader_.skipped_gray();
    Batch batch = std::move(batch_);
    batch.luma = luma_, batch.ab = ab_;
    batch.draws.clear();
    return batch;
}

// Grows, and forgets what it held.
std::byte* DeviceLoader::stage(int64_t bytes) {
    if (staging_.bytes() < bytes) staging_ = cuda::PinnedMemory(bytes + bytes / 4);
    return staging_.data();
}

// Makes samples [begin, begin + draws.size()) of the batch, sending what the GPU does not have.
void DeviceLoader::send(int64_t begin, const std::vector<const Draw*>& draws) {
    const int64_t count = std::ssize(draws);
    const int64_t crops = aligned(count * int64_t{sizeof(cuda::SampleSource)});
    int64_t total = crops, passing_bytes = 0;
    for (const Draw* draw : draws)
        if (!resident_.count(draw->index)) total += aligned(bytes_of(*draw));
    std::byte* const staging = stage(total);
    auto* const sources = reinterpret_cast<cuda::SampleSource*>(staging);
    std::byte* next = staging + crops;

    // First those that stay, one by one; then, behind them in the staging, those that pass.
    std::vector<int64_t> passing;
    for (int64_t i = 0; i < count; ++i) {
        const Draw& draw = *draws[static_cast<size_t>(i)];
        const Image& image = draw.photo->image;
        cuda::SampleSource& source = sources[i];
        source = {nullptr, image.width, image.channels, image.bits, draw.crop};
        auto known = resident_.find(draw.index);
        const int64_t bytes = bytes_of(draw);
        if (known == resident_.end() && bytes <= room_) {
            known = resident_.emplace(draw.index, allocate(bytes, device_)).first;
            room_ -= aligned(bytes);
            std::memcpy(next, image.bytes.data(), static_cast<size_t>(bytes));
            cuda::copy_behind(device_, known->second.get(), next, bytes);
            next += aligned(bytes);
            loader_.moved(draw);
        }
        if (known != resident_.end()) {
            source.pixels = known->second.get();
        } else {
            passing.push_back(i);
            passing_bytes += aligned(bytes);
        }
    }
    std::shared_ptr<std::byte> block;
    if (!passing.empty()) block = allocate(passing_bytes, device_);
    std::byte* const first_passing = next;
    for (const int64_t i : passing) {
        const Image& image = draws[static_cast<size_t>(i)]->photo->image;
        std::memcpy(next, image.bytes.data(), image.bytes.size());
        sources[i].pixels = block.get() + (next - first_passing);
        next += aligned(std::ssize(image.bytes));
    }
    if (!passing.empty()) cuda::copy_behind(device_, block.get(), first_passing, passing_bytes);

    const int64_t source_bytes = int64_t{sizeof(cuda::SampleSource)};
    std::byte* const device_sources = sources_.get() + begin * source_bytes;
    cuda::copy_behind(device_, device_sources, staging, count * source_bytes);
    auto* const gray = reinterpret_cast<int32_t*>(near_gray_.get()) + begin;
    const auto part = [&](const Tensor& whole) {
        return count == samples_ ? whole : whole.batch(begin);
    };
    cuda::make_samples(device_, reinterpret_cast<const cuda::SampleSource*>(device_sources), spec_,
                       tables_, part(luma_), part(ab_), gray);
    // The GPU is done with the staging, too, when this has come.
    cuda::copy_behind(device_, gray_.data() + begin * int64_t{sizeof(int32_t)},
                      reinterpret_cast<const std::byte*>(gray), count * int64_t{sizeof(int32_t)});
    done_.set();
}

}  // namespace lumachrome
