// What training on a GPU stands on: recorded work, reserved memory, batches made there.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#include "support/device.hpp"
#include "tensor/cuda_async.hpp"
#include "tensor/cuda_graph.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/storage.hpp"
#include "train/data_fixtures.hpp"
#include "train/device_loader.hpp"

using namespace lumachrome;
using namespace lumachrome::fixtures;
using support::kGpu;

namespace {

double largest_difference(const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    const Tensor x = a.to(Device{}), y = b.to(Device{});
    double largest = 0;
    for (int64_t i = 0; i < x.numel(); ++i)
        largest = larger_or_nan(largest, std::abs(x.item(i) - y.item(i)));
    return largest;
}

// Photos of every kind: sizes above and below the crops, gray, with alpha, of 16 bits.
class MixedSet : public FakeSet {
  public:
    using FakeSet::FakeSet;
    Photo read(int64_t index) const override {
        Photo photo = FakeSet::read(index);
        if (index % 4 == 1) {  // 16 bits, RGBA
            Image wide = Image::make(photo.image.width, photo.image.height, 4, 16);
            for (int64_t i = 0; i < wide.width * wide.height; ++i)
                for (int64_t c = 0; c < 4; ++c)
                    reinterpret_cast<uint16_t*>(wide.bytes.data())[4 * i + c] =
                        c == 3 ? uint16_t{7}
                               : uint16_t(257 * photo.image.bytes[size_t(3 * i + c)] + i % 200);
            photo.image = wide;
        }
        if (index % 4 == 2) photo.image = render_scene(index % 14, 24, 3, uint32_t(index));
        return photo;
    }
};

}  // namespace

TEST_CASE("a graph does again what was captured, and waiting inside is an error" *
          doctest::skip(support::no_gpu())) {
    const Tensor a = Tensor::full({5}, 3, DType::f32, kGpu);
    const Tensor b = Tensor::full({5}, 0, DType::f32, kGpu);
    cuda::Graph graph(kGpu);
    CHECK_FALSE(graph.captured());
    graph.capture([&] { b.copy_from(a); });
    CHECK(b.item(2) == 0);
    a.fill(4);
    graph.replay();
    CHECK(b.item(2) == 4);
    a.fill(5);
    graph.replay();
    CHECK(b.item(4) == 5);
    CHECK_THROWS_AS(graph.capture([&] { a.item(); }), ResourceError);
    CHECK_FALSE(graph.captured());
    CHECK(b.item(4) == 5);
}

TEST_CASE("reserved memory is given to nobody else, and is counted" *
          doctest::skip(support::no_gpu())) {
    const int64_t before = storage_counters(kGpu).live_bytes;
    std::byte* inside = nullptr;
    Tensor kept;
    {
        const ReservedStorage storage(kGpu);
        {
            const ReservedStorage::Scope scope(storage);
            inside = Tensor::empty({1000}, DType::f32, kGpu).raw();
            kept = Tensor::full({1000}, 7, DType::f32, kGpu);
        }
        const Tensor outside = Tensor::empty({1000}, DType::f32, kGpu);
        CHECK(outside.raw() != inside);
        CHECK(storage_counters(kGpu).live_bytes == before + 2 * 4096);
        const ReservedStorage::Scope scope(storage);
        CHECK(Tensor::empty({100}, DType::f32, kGpu).raw() != outside.raw());
    }
    CHECK(kept.item(999) == 7);  // its memory outlives the storage
    kept = {};
    CHECK(storage_counters(kGpu).live_bytes == before);
}

TEST_CASE("batches made on the GPU are those of the CPU" * doctest::skip(support::no_gpu())) {
    const AugmentSpec specs[] = {{.size = 16},
                                 {.size = 32, .min_scale = 0.4, .luma_jitter = 0.3},
                                 {.size = 8, .centre = true}};
    const auto data =
        std::make_shared<MixedSet>(11, std::set<int64_t>{3, 8}, std::set<int64_t>{0, 4, 7});
    for (const AugmentSpec& spec : specs)
        for (const int64_t resident : {int64_t{0}, int64_t{9000}, int64_t{1} << 20}) {
            CAPTURE(spec.size);
            CAPTURE(resident);
            Loader cpu(data, spec, 4, 1, 1);
            Loader draws(data, spec, 4, 1, 2, 2, resident == 0 ? 0 : 1 << 20, {},
                         Loader::Output::draws);
            DeviceLoader gpu(draws, spec, kGpu, resident);
            for (int step = 0; step < 6; ++step) {
                CAPTURE(step);
                if (step % 2 == 0) gpu.prepare();
                const Batch expected = cpu.next(), batch = gpu.next();
                CHECK(batch.labels == expected.labels);
                CHECK(batch.epoch == expected.epoch);
                CHECK(batch.step == expected.step);
                CHECK(largest_difference(batch.luma, expected.luma) < 1e-5);
                CHECK(largest_difference(batch.ab, expected.ab) < 1e-5);
            }
            CHECK(gpu.skipped_corrupt() == cpu.skipped_corrupt());
            CHECK(gpu.skipped_gray() == cpu.skipped_gray());
            CHECK(cpu.skipped_gray() > 0);
            if (resident == 0) CHECK(gpu.resident_photos() == 0);
            if (resident == 9000) CHECK(gpu.resident_photos() <= 4);
            if (resident > 9000) CHECK(gpu.resident_photos() == 9);
        }
}

TEST_CASE("a photo that the GPU has is neither read nor kept again" *
          doctest::skip(support::no_gpu())) {
    const auto data = std::make_shared<FakeSet>(4);
    Loader draws(data, kSmall, 4, 1, 1, 1, 0, {}, Loader::Output::draws);
    DeviceLoader gpu(draws, kSmall, kGpu, 1 << 20);
    gpu.next();
    gpu.next();  // one batch was made ahead
    const int64_t reads = data->reads;
    for (int step = 0; step < 4; ++step) gpu.next();
    CHECK(data->reads == reads);
}
