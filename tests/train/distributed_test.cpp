// Training on several ranks, as threads of this process, against training on one.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "distributed/shares.hpp"
#include "tensor/error.hpp"
#include "train/optimizers.hpp"

using namespace lumachrome;

namespace {

// What a rank returned or threw.
template <class Result>
struct Ended {
    std::optional<Result> result;
    std::string error;
    bool peer_error = false;
};

// Runs body(rank's communicator) on every rank.
template <class Body>
auto on_ranks(int ranks, const Body& body) {
    using Result = decltype(body(std::declval<std::unique_ptr<Communicator>>()));
    auto communicators = thread_communicators(ranks);
    std::vector<Ended<Result>> ended(size_t(ranks), Ended<Result>{});
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank)
        threads.emplace_back([&, rank] {
            Ended<Result>& mine = ended[size_t(rank)];
            try {
                mine.result = body(std::move(communicators[size_t(rank)]));
            } catch (const PeerError& error) {
                mine.error = error.what();
                mine.peer_error = true;
            } catch (const std::exception& error) {
                mine.error = error.what();
            }
        });
    for (std::thread& thread : threads) thread.join();
    return ended;
}

// The same with a group around it.
template <class Body>
auto in_groups(int ranks, const Body& body) {
    return on_ranks(ranks, [&](std::unique_ptr<Communicator> communicator) {
        const PeerGroup peers([&] { return std::move(communicator); });
        return body(peers);
    });
}

std::vector<Outcome> outcomes(int ranks, const ShareOptions& options) {
    std::vector<Outcome> results;
    for (auto& ended : in_groups(ranks, [&](const PeerGroup& p) { return outcome(p, options); })) {
        REQUIRE(ended.error == "");
        results.push_back(*ended.result);
    }
    return results;
}

Outcome alone(const ShareOptions& options) {
    const PeerGroup peers(self_communicator);
    return outcome(peers, options);
}

}  // namespace

TEST_CASE("collectives reach every rank, and sums have the same bits everywhere") {
    for (int ranks : {1, 2, 4}) {
        const auto ended = on_ranks(ranks, [&](std::unique_ptr<Communicator> c) {
            std::vector<float> f(1000);
            std::vector<double> d(1000);
            for (size_t i = 0; i < f.size(); ++i) {
                f[i] = std::sin(float(i) + float(c->rank()));
                d[i] = double(f[i]);
            }
            c->all_reduce_sum(f);
            c->all_reduce_sum(d);
            for (size_t i = 0; i < f.size(); ++i) {
                float expected = 0;
                for (int r = 0; r < ranks; ++r) expected += std::sin(float(i) + float(r));
                if (f[i] != expected) throw Error("sum of f32");
                if (std::abs(d[i] - double(expected)) > 1e-6) throw Error("sum of f64");
            }
            std::vector<std::byte> bytes(5, std::byte(c->rank()));
            c->broadcast(bytes, ranks - 1);
            if (bytes[4] != std::byte(ranks - 1)) throw Error("broadcast");
            const int mine = 10 + c->rank();
            std::vector<int> all(size_t(ranks), 0);
            c->all_gather(std::as_bytes(std::span(&mine, 1)),
                          std::as_writable_bytes(std::span(all)));
            for (int r = 0; r < ranks; ++r)
                if (all[size_t(r)] != 10 + r) throw Error("all_gather");
            c->barrier();
            return f;
        });
        for (const auto& e : ended) {
            CHECK(e.error == "");
            REQUIRE(e.result);
            CHECK(*e.result == *ended[0].result);
        }
    }
}

TEST_CASE("a rank that leaves ends the wait of the others, and a wrong call is named") {
    const auto left = on_ranks(3, [](std::unique_ptr<Communicator> c) {
        c->barrier();
        if (c->rank() == 1) return 1;  // its communicator goes
        c->barrier();
        return 2;
    });
    CHECK(left[1].result == 1);
    for (size_t rank : {0, 2}) {
        CHECK(left[rank].peer_error);
        CHECK(left[rank].error.find("another rank has left") != std::string::npos);
    }
    const auto mixed = on_ranks(2, [](std::unique_ptr<Communicator> c) {
        std::vector<double> values(2);
        if (c->rank() == 0)
            c->all_reduce_sum(values);
        else
            c->barrier();
        return 0;
    });
    for (const auto& e : mixed) CHECK(e.error.find("different collectives") != std::string::npos);
}

TEST_CASE("an exception on one rank reaches the others as PeerError, in the queue and in sums") {
    const auto ended = in_groups(2, [](const PeerGroup& peers) {
        peers.barrier();
        if (peers.rank() == 0) throw InputError("photo.png: truncated");
        std::future<void> first = peers.submit([](Communicator& c) { c.barrier(); });
        std::future<void> second = peers.submit([](Communicator& c) { c.barrier(); });
        CHECK_THROWS_AS(first.get(), PeerError);
        CHECK_THROWS_AS(second.get(), PeerError);
        return peers.sum_scalars({1});
    });
    CHECK(ended[0].error == "photo.png: truncated");
    CHECK(ended[1].peer_error);
    CHECK_THROWS_WITH_AS(
        PeerGroup([]() -> std::unique_ptr<Communicator> { throw ResourceError("no network"); }),
        "no network", ResourceError);
}

TEST_CASE("work is done in the order of its submission, beside the caller") {
    const auto ended = in_groups(2, [](const PeerGroup& peers) {
        std::vector<int> order;
        std::atomic<bool> go = false;
        peers.submit([&](Communicator&) {
            while (!go) std::this_thread::yield();
            order.push_back(1);
        });
        const auto last = peers.submit([&](Communicator&) { order.push_back(2); });
        const bool waits =
            last.wait_for(std::chrono::milliseconds(1)) == std::future_status::timeout;
        go = true;
        const std::vector<double> sums = peers.sum_scalars({1, double(peers.rank())});
        return waits && order == std::vector<int>{1, 2} && sums == std::vector<double>{2, 1};
    });
    for (const auto& e : ended) CHECK(e.result == true);
}

TEST_CASE("shared batch norm and dropout: gradients are those of the whole batch") {
    constexpr double kTolerance = 1e-12;  // measured: 3e-14
    const ShareOptions options;
    const Outcome expected = alone(options);
    for (int ranks : {2, 4, 8}) {
        CAPTURE(ranks);
        for (const Outcome& rank : outcomes(ranks, options)) {
            std::string worst;
            CHECK(difference(expected, rank, worst) <= kTolerance);
            CAPTURE(worst);
            CHECK(statistics_difference(expected, rank) <= kTolerance);
            CHECK(rank.color == doctest::Approx(expected.color).epsilon(kTolerance));
            CHECK(rank.classes == doctest::Approx(expected.classes).epsilon(kTolerance));
        }
    }
}

TEST_CASE("in f32 several ranks are as close to the exact gradients as one") {
    // Sigmoid: where f32 rounds a value across the kink of a ReLU, a gradient jumps.
    ShareOptions options{.activation = Activation::sigmoid};
    std::string worst;
    const Outcome exact = alone(options);
    options.dtype = DType::f32;
    const Outcome one = alone(options);
    const double rounding = difference(exact, one, worst);
    CHECK(rounding < 1e-4);  // measured: 1.2e-5
    for (int ranks : {2, 4}) {
        const std::vector<Outcome> all = outcomes(ranks, options);
        const double apart = difference(exact, all[0], worst);
        CAPTURE(worst);
        CHECK(apart <= 3 * rounding);  // measured: 2.1e-5, 1.4e-5
        for (const Outcome& rank : all)
            for (size_t k = 0; k < rank.gradients.size(); ++k)
                CHECK(bit_equal(rank.gradients[k], all[0].gradients[k]));
    }
}

TEST_CASE("batch norm by itself on each rank: gradients are the average of the replicas'") {
    ShareOptions options;
    options.synchronised = false;
    const std::vector<Outcome> ranks = outcomes(2, options);
    // Each half alone, weighted by its share of the labels; nothing is sent.
    struct Half final : Communicator {
        explicit Half(int r) : rank_(r) {}
        int rank_;
        int rank() const override { return rank_; }
        int size() const override { return 2; }
        void all_reduce_sum(std::span<float>) override {}
        void all_reduce_sum(std::span<double> values) override {
            if (values.size() == 1) values[0] = 4;  // labels of both
            // Means come back unharmed.
            if (values.size() != 1)
                for (double& v : values) v *= 2;
        }
        void broadcast(std::span<std::byte>, int) override {}
        void all_gather(std::span<const std::byte>, std::span<std::byte>) override {}
        void barrier() override {}
        void abort() noexcept override {}
    };
    std::vector<Outcome> halves;
    for (int rank : {0, 1}) {
        const PeerGroup peers([&] { return std::make_unique<Half>(rank); });
        halves.push_back(outcome(peers, options));
    }
    Outcome average = halves[0];
    for (size_t k = 0; k < average.gradients.size(); ++k)
        for (int64_t i = 0; i < average.gradients[k].numel(); ++i)
            average.gradients[k].data<double>()[i] =
                (halves[0].gradients[k].item(i) + halves[1].gradients[k].item(i)) / 2;
    std::string worst;
    CHECK(difference(average, ranks[0], worst) <= 1e-12);
    CHECK(difference(average, ranks[1], worst) <= 1e-12);
    // And that is another function than one batch: the network notices what it is spared.
    CHECK(difference(alone(options), ranks[0], worst) > 1e-3);
    CHECK(statistics_difference(ranks[0], ranks[1]) == 0);
    CHECK(statistics_difference(alone(options), ranks[0]) > 1e-3);
}

TEST_CASE("buckets of any size leave the mean in every gradient") {
    const std::vector<int64_t> sizes{3, 1, 500, 7, 2, 2000, 1, 64, 64, 5};
    for (const auto& expected :
         {std::pair<int64_t, int64_t>{1 << 20, 3}, {512, 7}, {1, 10}, {4 * 504, 5}}) {
        const int64_t bucket_bytes = expected.first, buckets = expected.second;
        CAPTURE(bucket_bytes);
        const auto ended = in_groups(4, [&](const PeerGroup& peers) {
            std::vector<Parameter> parameters(sizes.size());
            std::vector<Parameter*> known;
            for (size_t k = 0; k < sizes.size(); ++k) {
                const DType dtype = k == 4 ? DType::f64 : DType::f32;  // one among the others
                parameters[k].grad = Tensor::empty({sizes[k]}, dtype);
                known.push_back(&parameters[k]);
            }
            GradientReducer reducer(peers, known, bucket_bytes);
            for (int step = 0; step < 3; ++step) {
                for (Parameter& p : parameters) {
                    for (int64_t i = 0; i < p.grad.numel(); ++i)
                        dispatch_float(p.grad.dtype(), [&](auto t) {
                            p.grad.data<decltype(t)>()[i] =
                                static_cast<decltype(t)>(step + i + 8 * peers.rank());
                        });
                    reducer.ready(p);
                }
                reducer.finish();
                for (const Parameter& p : parameters)
                    for (int64_t i = 0; i < p.grad.numel(); ++i)
                        if (p.grad.item(i) != double(step + i + 12))
                            throw Error("wrong mean at " + std::to_string(i));
            }
            return reducer.buckets();
        });
        for (const auto& e : ended) {
            CHECK(e.error == "");
            CHECK(e.result == buckets);
        }
    }
    const PeerGroup peers(self_communicator);
    Parameter a, b;
    a.grad = b.grad = Tensor::full({2}, 3);
    GradientReducer reducer(peers, {&a});
    CHECK_THROWS_WITH_AS(reducer.finish(), doctest::Contains("1 of 1 gradients"), Error);
    reducer.ready(a);
    CHECK_THROWS_WITH_AS(reducer.ready(a), doctest::Contains("twice"), Error);
    CHECK_THROWS_AS(reducer.ready(b), Error);
    reducer.finish();
    CHECK(a.grad.item(1) == 3);
    CHECK(reducer.buckets() == 0);
}

TEST_CASE("replicas stay equal step after step, and the alarm names the one that does not") {
    const auto ended = in_groups(4, [](const PeerGroup& peers) {
        ColorNet net(small_spec(), uint64_t(peers.rank()) + 1);
        Optimizer optimizer(optimizer_spec("adam"));
        std::vector<Tensor> state;
        std::vector<Parameter*> trained;
        net.visit([&](const std::string& name, Parameter& p) {
            optimizer.add(name, p);
            state.push_back(p.value);
            if (p.trainable) trained.push_back(&p);
        });
        peers.broadcast(state);  // from rank 0
        GradientReducer reducer(peers, trained, 4096);
        Exec exec;
        exec.peers = &peers;
        for (uint32_t step = 0; step < 5; ++step) {
            const auto input = [&](Shape shape, uint32_t stream) {
                return random_tensor(shape, 100 * step + stream + 10 * uint32_t(peers.rank()));
            };
            Tape tape(Phase::train, exec);
            const Var x = tape.input(input({2, 16, 16, 1}, 1));
            const ColorNet::Output output = net(x, tape.input(input({2, 32, 32, 1}, 2)));
            JointLoss(output, input({2, 8, 8, 2}, 3), {0, 1}, LossWeights{}).backward([&](Parameter& p) {
                reducer.ready(p);
            });
            reducer.finish();
            optimizer.step(exec);
            peers.check_equal(hash_of(state), "weights");
        }
        if (peers.rank() == 2) state[0].data<float>()[5] *= -1;
        try {
            peers.check_equal(hash_of(state), "weights");
        } catch (const PeerError&) {
            throw;
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string("no alarm");
    });
    for (const auto& e : ended) {
        CHECK(e.error == "");
        CHECK(e.result ==
              "weights of process 2 of 4 (counted from 0) differ from the others'; resume from the "
              "last checkpoint");
    }
}

TEST_CASE("a hash sees every bit") {
    const Tensor t = random_tensor({101}, 1);
    const auto hash = [](const Tensor& tensor) { return hash_of({&tensor, 1}); };
    const uint64_t before = hash(t);
    CHECK(hash(t.clone()) == before);
    auto* words = reinterpret_cast<uint32_t*>(t.raw());
    for (size_t i = 0; i < 101; ++i)
        for (int bit = 0; bit < 32; ++bit) {
            words[i] ^= 1u << bit;
            CHECK(hash(t) != before);
            words[i] ^= 1u << bit;
        }
    // Two signs at once: their products with an odd number would cancel.
    words[1] ^= 1u << 31, words[3] ^= 1u << 31;
    CHECK(hash(t) != before);
}

TEST_CASE("the class term weighs labelled samples alike, however they are spread") {
    const auto ended = in_groups(4, [](const PeerGroup& peers) {
        const double mine[] = {3, 0, 1, 0};
        return peers.share_of(mine[peers.rank()]);
    });
    CHECK(ended[0].result == 3.0);
    CHECK(ended[1].result == 0.0);
    CHECK(ended[2].result == 1.0);
    const PeerGroup peers(self_communicator);
    CHECK(peers.share_of(5) == 1);
    CHECK(peers.share_of(0) == 0);
}
