// Batches: order, stand-ins, shares of several processes, the cache.
#include <doctest/doctest.h>

#include <fstream>

#include "train/data_fixtures.hpp"

using namespace lumachrome;
using namespace lumachrome::fixtures;

TEST_SUITE("loader") {
    TEST_CASE("every photo once an epoch, in another order each epoch") {
        const auto data = std::make_shared<FakeSet>(12);
        Loader loader(data, kSmall, 4, 1, 2);
        std::vector<std::vector<int64_t>> epochs(3);
        for (auto& epoch : epochs) {
            for (int i = 0; i < 3; ++i) {
                const Batch batch = loader.next();
                epoch.insert(epoch.end(), batch.labels.begin(), batch.labels.end());
                CHECK(batch.epoch == &epoch - epochs.data());
                CHECK(batch.luma.shape() == Shape{4, 16, 16, 1});
                CHECK(batch.ab.shape() == Shape{4, 8, 8, 2});
            }
            CHECK(std::set<int64_t>(epoch.begin(), epoch.end()).size() == 12);
        }
        CHECK(epochs[0] != epochs[1]);
        CHECK(epochs[1] != epochs[2]);
        // Later epochs come from the cache; two workers may at most both miss the same photo.
        CHECK(data->reads <= 2 * 12);
    }

    TEST_CASE("the batch at a step depends on the seed alone: workers, prefetch, cache, seek") {
        const auto data =
            std::make_shared<FakeSet>(11, std::set<int64_t>{3, 4}, std::set<int64_t>{7});
        std::vector<Batch> expected;
        std::vector<std::pair<int64_t, int64_t>> skipped;
        Loader loader(data, kSmall, 4, 1, 1);
        for (int step = 0; step < 12; ++step) {
            expected.push_back(loader.next());
            skipped.emplace_back(loader.skipped_corrupt(), loader.skipped_gray());
        }
        CHECK_FALSE(same(expected[0], Loader(data, kSmall, 4, 2, 1).next()));
        for (const int workers : {1, 2, 4}) {
            Loader other(data, kSmall, 4, 1, workers, workers == 2 ? 1 : 4,
                         workers == 1 ? 0 : 1 << 20);
            for (size_t step = 0; step < expected.size(); ++step) {
                CHECK(same(other.next(), expected[step]));
                CHECK(other.skipped_corrupt() == skipped[step].first);
                CHECK(other.skipped_gray() == skipped[step].second);
            }
            for (const int64_t step : {7, 0, 3, 4, 11}) {
                other.seek(step);
                CHECK(same(other.next(), expected[static_cast<size_t>(step)]));
            }
            other.seek(9);
            CHECK(same(other.next(), expected[9]));
            CHECK(same(other.next(), expected[10]));
            CHECK_THROWS_AS(other.seek(-1), UsageError);
        }
    }

    TEST_CASE("several processes hold together what one would hold") {
        const auto data =
            std::make_shared<FakeSet>(11, std::set<int64_t>{3, 4}, std::set<int64_t>{7});
        constexpr int64_t kBatch = 12, kSteps = 5;
        std::vector<Batch> whole;
        Loader single(data, kSmall, kBatch, 1, 1);
        for (int64_t step = 0; step < kSteps; ++step) whole.push_back(single.next());
        const auto part_of = [](const Batch& batch, const Batch& part) {
            const auto count = static_cast<int64_t>(part.labels.size());
            bool equal = part.epoch == batch.epoch && part.step == batch.step;
            for (int64_t n = 0; n < count; ++n) {
                const int64_t at = part.first + n;
                equal =
                    equal && bit_equal(part.luma.batch(n), batch.luma.batch(at)) &&
                    bit_equal(part.ab.batch(n), batch.ab.batch(at)) &&
                    part.labels[static_cast<size_t>(n)] == batch.labels[static_cast<size_t>(at)];
            }
            return equal;
        };
        for (const int64_t size : {1, 2, 3, 12}) {
            int64_t corrupt = 0, gray = 0;
            for (int64_t rank = 0; rank < size; ++rank) {
                Loader loader(data, kSmall, kBatch, 1, 2, 2, 1 << 20, {rank, size});
                for (int64_t step = 0; step < kSteps; ++step) {
                    const Batch part = loader.next();
                    CHECK(part.first == rank * kBatch / size);
                    CHECK(part.labels.size() == static_cast<size_t>(kBatch / size));
                    CHECK(part_of(whole[static_cast<size_t>(step)], part));
                }
                corrupt += loader.skipped_corrupt(), gray += loader.skipped_gray();
                loader.seek(2);  // as a run that goes on with other processes does
                CHECK(part_of(whole[2], loader.next()));
            }
            CHECK(corrupt == single.skipped_corrupt());
            CHECK(gray == single.skipped_gray());
        }
        const auto made = [&](int64_t batch, Share share) {
            return error_of<UsageError>([&] { Loader(data, kSmall, batch, 1, 1, 1, 0, share); });
        };
        CHECK(contains(made(12, {0, 5}), "a batch of 12 cannot be divided among 5 processes"));
        for (const Share share : {Share{2, 2}, Share{-1, 2}, Share{0, 0}, Share{0, -1}})
            CHECK(contains(made(12, share), "no process"));
    }

    TEST_CASE("photos larger than needed are shrunk, kept or not") {
        class LargeSet : public FakeSet {
          public:
            LargeSet() : FakeSet(4) {}
            Photo read(int64_t index) const override {
                ++reads;
                return {render_scene(index, 200, 1, 1), index, "large"};
            }
        };
        // One set each: a loader reads ahead while the other is looked at.
        const auto data = std::make_shared<LargeSet>(), again = std::make_shared<LargeSet>();
        const AugmentSpec spec{.size = 16};
        REQUIRE(working_side(spec) == 160);
        // Room for all four shrunk photos, not for three as they came.
        constexpr int64_t kRoom = 4 * (160 * 160 * 3 + 1000);
        static_assert(kRoom < 3 * 200 * 200 * 3);
        Loader kept(data, spec, 4, 1, 1, 1, kRoom), unkept(again, spec, 4, 1, 1, 1, 0);
        for (int step = 0; step < 3; ++step) {
            const Batch batch = kept.next();
            CHECK(same(batch, unkept.next()));
            for (int64_t n = 0; n < 4; ++n) {
                const int64_t label = batch.labels[static_cast<size_t>(n)];
                // Where a photo stands in the epoch is its place in the only batch of it.
                const Sample sample =
                    augment(working_copy(again->read(label), spec), spec, 1,
                            static_cast<uint32_t>(step), static_cast<uint32_t>(n));
                CHECK(bit_equal(batch.luma.batch(n), sample.luma));
            }
        }
        const int64_t before = data->reads;
        for (int step = 0; step < 5; ++step) kept.next();
        CHECK(data->reads == before);
        const int64_t before_unkept = again->reads;
        for (int step = 0; step < 5; ++step) unkept.next();
        CHECK(again->reads >= before_unkept + 16);
    }

    TEST_CASE("memory is the same after the first and the third epoch") {
        // Decoded 19 MB, so that an epoch that stays in memory is seen; sides vary to stir the
        // heap.
        class NoiseSet : public FakeSet {
          public:
            NoiseSet() : FakeSet(400) {}
            Photo read(int64_t index) const override {
                Image image = Image::make(96 + index % 60, 96 + index * 7 % 60, 3, 8);
                for (size_t i = 0; i < image.bytes.size(); ++i)
                    image.bytes[i] = static_cast<uint8_t>(i * 31 + static_cast<size_t>(index));
                return {std::move(image), index, name(index)};
            }
        };
        const auto resident_mib = [] {
            std::ifstream statm("/proc/self/statm");
            int64_t total = 0, resident = 0;
            statm >> total >> resident;
            return double(resident * ::sysconf(_SC_PAGESIZE)) / (1 << 20);
        };
        const double before = resident_mib();
        Loader loader(std::make_shared<NoiseSet>(), {.size = 32}, 20, 1, 2, 4, 1 << 20);
        double after[3];
        for (double& mib : after) {
            for (int i = 0; i < 20; ++i) loader.next();
            mib = resident_mib();
        }
#ifdef __SANITIZE_ADDRESS__  // which keeps freed memory for a while
        const double kept = 256;
#else
        const double kept = 0;
#endif
        CHECK(after[0] < before + 12 + kept);  // of 19 MB
        CHECK(after[2] < after[0] + 4 + kept);
    }

    TEST_CASE("corrupt and near-gray photos are replaced and counted") {
        const auto data =
            std::make_shared<FakeSet>(10, std::set<int64_t>{2}, std::set<int64_t>{5, 6});
        Loader loader(data, kSmall, 5, 1, 2);
        for (int i = 0; i < 8; ++i)
            for (const int64_t label : loader.next().labels)
                CHECK((label != 2 && label != 5 && label != 6));
        CHECK(loader.skipped_corrupt() >= 4);  // at its own place in each of four epochs
        CHECK(loader.skipped_gray() >= 8);
    }

    TEST_CASE("a stand-in is cropped for its place, not as the same photo is elsewhere") {
        Loader loader(std::make_shared<FakeSet>(3, std::set<int64_t>{0, 1}), kSmall, 3, 1, 1);
        const Batch batch = loader.next();
        CHECK(batch.labels == std::vector<int64_t>{2, 2, 2});
        CHECK_FALSE(bit_equal(batch.luma.batch(0), batch.luma.batch(1)));
        CHECK_FALSE(bit_equal(batch.luma.batch(1), batch.luma.batch(2)));
    }

    TEST_CASE("a set without a usable photo is an error, not a wait") {
        Loader loader(std::make_shared<FakeSet>(2, std::set<int64_t>{0}, std::set<int64_t>{1}),
                      kSmall, 2, 1, 2);
        CHECK(contains(error_of<InputError>([&] { loader.next(); }), "no usable photo"));
        CHECK_THROWS_AS(loader.next(), InputError);
    }

    TEST_CASE("what a worker throws reaches next(), and the batch behind it comes") {
        const auto data = std::make_shared<FakeSet>(4);
        data->fatal = 2;
        Loader loader(data, kSmall, 1, 1, 2);
        int thrown = 0;
        for (int i = 0; i < 4; ++i) try {
                loader.next();
            } catch (const std::runtime_error& error) {
                CHECK(std::string(error.what()) == "the disk is on fire");
                ++thrown;
            }
        CHECK(thrown == 1);
    }

    TEST_CASE("the destructor does not finish the batches in work") {
        const auto data = std::make_shared<FakeSet>(1000);
        data->delay = std::chrono::milliseconds(10);  // ten seconds for a batch
        const auto start = std::chrono::steady_clock::now();
        { const Loader loader(data, kSmall, 1000, 1, 2); }
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
    }

    TEST_CASE("bad requests") {
        const auto data = std::make_shared<FakeSet>(4);
        CHECK_THROWS_AS(Loader(data, kSmall, 0, 1, 1), UsageError);
        CHECK_THROWS_AS(Loader(data, kSmall, 1, 1, 0), UsageError);
        CHECK_THROWS_AS(Loader(data, kSmall, 1, 1, 1, 0), UsageError);
        CHECK_THROWS_AS(Loader(data, kSmall, 1, 1, 1, 1, -1), UsageError);
        CHECK_THROWS_AS(Loader(data, {.size = 7}, 1, 1, 1), UsageError);
        CHECK_THROWS_AS(Loader(std::make_shared<FakeSet>(0), kSmall, 1, 1, 1), UsageError);
    }
}
