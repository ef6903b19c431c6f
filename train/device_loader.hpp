// Batches made on the GPU that trains with them: threads of the CPU read and decode photos and draw
// crops (a Loader with Output::draws), kernels do the rest (device_samples.hpp). Photos stay in the
// GPU's memory once they came there, as many as fit; then they are neither read nor sent again.
//
// The batches are those of a Loader of samples, up to the rounding of kernels: the same photos,
// crops and stand-ins in the same order.
#pragma once
#include <exception>
#include <memory>
#include <unordered_map>

#include "tensor/cuda_async.hpp"
#include "train/device_samples.hpp"
#include "train/loader.hpp"

namespace lumachrome {

class DeviceLoader {
  public:
    // `loader` makes draws with that spec; resident_bytes: of the GPU's memory, for photos.
    DeviceLoader(Loader& loader, const AugmentSpec& spec, Device device, int64_t resident_bytes);
    ~DeviceLoader();  // waits for what still reads its memory
    DeviceLoader(const DeviceLoader&) = delete;
    DeviceLoader& operator=(const DeviceLoader&) = delete;

    // Starts on the batch that next() will give. The GPU then makes it after what it has to do
    // now, while the CPU does something else.
    void prepare();
    // Waits until it is known which photos are near gray, and replaces them. luma and ab lie on the
    // device and are overwritten by the next prepare(): behind what was started before. Throws what
    // the loader throws, and the call after goes on behind it.
    Batch next();

    // As Loader counts them, of the batches that next() gave.
    int64_t skipped_corrupt() const { return skipped_corrupt_; }
    int64_t skipped_gray() const { return skipped_gray_; }
    int64_t resident_photos() const { return std::ssize(resident_); }

  private:
    void reserve(int64_t samples);
    // Samples [begin, begin + draws.size()) of the batch: all of them, or one.
    void send(int64_t begin, const std::vector<const Draw*>& draws);
    std::byte* stage(int64_t bytes);
    void mark_done();

    Loader& loader_;
    const AugmentSpec spec_;
    const Device device_;
    const cuda::LinearTables tables_;
    int64_t room_;
    std::unordered_map<int64_t, std::shared_ptr<std::byte>> resident_;  // by index
    bool prepared_ = false;
    std::exception_ptr failure_;  // of prepare()
    Batch batch_;
    Tensor luma_, ab_;
    std::shared_ptr<std::byte> sources_, near_gray_;  // of the device, for a batch
    int64_t samples_ = 0;
    int64_t skipped_corrupt_ = 0, skipped_gray_ = 0;
    // Page-locked: photos and crops on their way, and what comes back. Free again when `done_` is
    // reached, which next() waits for.
    cuda::PinnedMemory staging_, gray_;
    cuda::Marker done_;
};

}  // namespace lumachrome
