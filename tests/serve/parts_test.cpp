// The parts of the server that need no sockets.
#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <variant>

#include "apps/serve/connections.hpp"
#include "apps/serve/photos.hpp"
#include "apps/serve/pixels.hpp"
#include "apps/serve/service.hpp"
#include "apps/serve/wishes.hpp"
#include "apps/serve/worker.hpp"
#include "image/color.hpp"
#include "image/resize.hpp"
#include "tensor/error.hpp"
#include "tests/apps/hostile.hpp"

using namespace lumachrome;
using namespace std::chrono_literals;
using At = Connections::Phase;

TEST_CASE("deadlines are absolute, and each phase has its own") {
    Connections connections({});
    const Connections::Time start{};
    const auto one = connections.enter(5, "127.0.0.1", start);
    CHECK(one->deadline == start + 5s);
    connections.begin(one, At::body, start + 1s);
    CHECK(one->deadline == start + 31s);
    connections.begin(one, At::work, start + 2s);
    CHECK(one->deadline == Connections::Time::max());
    connections.begin(one, At::reply, start, 64 << 20);
    CHECK(one->deadline == start + 30s + 1024s);
    connections.begin(one, At::idle, start);
    CHECK(one->deadline == start + 15s);
    connections.leave(one);
    CHECK(connections.size() == 0);
}

TEST_CASE("a newcomer gets the place of who let us wait longest, never of who waits for us") {
    Connections::Limits limits;
    limits.most = 4;
    Connections connections(limits);
    const Connections::Time start{};
    const auto a = connections.enter(1, "127.0.0.1", start);
    const auto b = connections.enter(2, "127.0.0.1", start + 5ms);
    const auto c = connections.enter(3, "127.0.0.1", start + 9ms);
    const auto d = connections.enter(4, "127.0.0.1", start + 9ms);
    CHECK(connections.full());
    CHECK_FALSE(connections.to_make_room(start + 20ms).has_value());  // all are fresh
    CHECK(connections.to_make_room(start + 40ms) == 1);
    connections.begin(a, At::work, start + 20ms);
    CHECK(connections.to_make_room(start + 40ms) == 2);
    connections.begin(b, At::reply, start + 20ms);
    connections.begin(c, At::body, start + 20ms);
    CHECK(connections.to_make_room(start + 40ms) == 4);
    connections.begin(d, At::work, start + 20ms);
    CHECK_FALSE(connections.to_make_room(start + 900ms).has_value());
    CHECK(connections.to_make_room(start + 1100ms) ==
          3);  // a body takes its time, but not for ever
}

TEST_CASE("another machine has eight places, this one all") {
    Connections connections({});
    for (int i = 0; i < 8; ++i) connections.enter(i, "192.168.0.9", {});
    CHECK(connections.has_too_many("192.168.0.9"));
    CHECK_FALSE(connections.has_too_many("192.168.0.8"));
    for (int i = 0; i < 8; ++i) connections.enter(i, "127.0.0.1", {});
    CHECK_FALSE(connections.has_too_many("127.0.0.1"));
    for (const char* own : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"})
        CHECK(is_loopback(own));
    for (const char* other : {"128.0.0.1", "::2", "::ffff:10.0.0.1", "", "1127.0.0.1"})
        CHECK_FALSE(is_loopback(other));
}

TEST_CASE("photos are kept by number, by memory and by time, the last used longest") {
    auto now = LruCache<int>::Clock::time_point{};
    LruCache<int> keep({.things = 3, .bytes = 100, .unused = 30min}, [&] { return now; });
    const std::string a = keep.add(1, 10), b = keep.add(2, 10), c = keep.add(3, 10);
    CHECK(*keep.find(a) == 1);  // b is now the one unused longest
    const std::string d = keep.add(4, 10);
    CHECK_FALSE(keep.find(b));
    CHECK(keep.count() == 3);
    const std::string large = keep.add(5, 85);
    CHECK(keep.count() == 2);
    CHECK(keep.bytes() == 95);
    CHECK(*keep.find(d) == 4);
    const std::string larger =
        keep.add(6, 1000);  // alone it may be more: its request is being served
    CHECK(keep.count() == 1);
    CHECK(keep.forget(larger));
    CHECK_FALSE(keep.forget(larger));
    CHECK(keep.bytes() == 0);

    const std::string old = keep.add(7, 10);
    now += 29min;
    const std::shared_ptr<int> held = keep.find(old);
    now += 29min;
    CHECK(keep.find(old));
    now += 31min;
    keep.forget_unused();
    CHECK(keep.count() == 0);
    CHECK(*held == 7);  // who works on it keeps it
}

TEST_CASE("ids are 128 random bits") {
    std::set<std::string> ids;
    for (int i = 0; i < 1000; ++i) {
        const std::string id = random_id();
        CHECK(is_id(id));
        ids.insert(id);
    }
    CHECK(ids.size() == 1000);
}

TEST_CASE("the worker takes so many and no more, and ends after the last") {
    std::promise<void> gate;
    std::shared_future<void> opened = gate.get_future().share();
    std::promise<void> started;
    int done = 0;
    {
        Worker worker(2);
        CHECK(worker.submit([&] {
            started.set_value();
            opened.wait();
            ++done;
        }));
        started.get_future().wait();
        CHECK(worker.submit([&] { ++done; }));
        CHECK(worker.submit([&] { ++done; }));
        CHECK(worker.waiting() == 2);
        CHECK_FALSE(worker.submit([&] { ++done; }));
        gate.set_value();
    }
    CHECK(done == 3);
}

TEST_CASE("wishes read the same from JSON and from a query, and say what is wrong") {
    const Wishes none = wishes_of(Json::parse("{}"));
    CHECK(none.size == 0);
    CHECK_FALSE(none.full);
    CHECK_FALSE(none.format.has_value());
    const std::string id(32, 'b');
    const Wishes all = wishes_of(Json::parse(
        "{\"size\":\"full\",\"saturation\":1.5,\"styles\":[{\"id\":\"" + id +
        "\",\"weight\":0.5}],\"class\":\"sea\",\"max\":512,\"format\":\"png\",\"quality\":70,"
        "\"variant\":\"baseline\"}"));
    CHECK(all.full);
    CHECK(all.saturation == 1.5);
    CHECK(all.styles.at(0).id == id);
    CHECK(all.scene_class == "sea");
    CHECK(all.longest == 512);
    CHECK(all.format == Format::png);
    CHECK(all.quality == 70);
    CHECK(all.baseline);
    const Wishes asked = wishes_of(Query{{"size", "128"}, {"saturation", "0.5"}, {"class", "7"}});
    CHECK(asked.size == 128);
    CHECK(asked.saturation == 0.5);
    CHECK(asked.scene_class == "7");
    CHECK(wishes_of(Query{{"class", "000012"}}).scene_class == "000012");
    CHECK(parse_wishes("").size == 0);
    CHECK_THROWS_AS(parse_wishes("no JSON"), UsageError);
    CHECK(wishes_of(Json::parse("{\"class\":null}")).scene_class.empty());

    for (const char* wrong :
         {"[]",
          "1",
          "null",
          "{\"x\":1}",
          "{\"size\":7}",
          "{\"size\":8193}",
          "{\"size\":-1}",
          "{\"size\":1.5}",
          "{\"size\":\"huge\"}",
          "{\"size\":null}",
          "{\"saturation\":-1}",
          "{\"saturation\":11}",
          "{\"saturation\":\"x\"}",
          "{\"styles\":{}}",
          "{\"styles\":[1]}",
          "{\"styles\":[{\"id\":\"x\",\"weight\":1}]}",
          "{\"styles\":[{\"weight\":1}]}",
          "{\"styles\":[{\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"weight\":2}]}",
          "{\"styles\":[{\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"weight\":1,\"x\":1}]}",
          "{\"class\":[]}",
          "{\"max\":-1}",
          "{\"max\":65501}",
          "{\"format\":\"gif\"}",
          "{\"quality\":0}",
          "{\"quality\":101}",
          "{\"quality\":true}",
          "{\"variant\":\"x\"}"}) {
        CAPTURE(wrong);
        CHECK_THROWS_AS(wishes_of(Json::parse(wrong)), UsageError);
    }
}

TEST_CASE("a photo that needs more memory than is allowed will not fit later either: 422") {
    Colorizer colorizer(std::make_unique<ColorNet>(preset("tiny"), 1), {}, Exec{{}, 1});
    ServiceSettings settings;
    settings.max_memory = 1 << 20;  // less than this process has
    Service service(std::move(settings), Policy{}, colorizer, nullptr);
    const Bytes photo = encode(striped(40, 30), Format::png);
    for (const Endpoint endpoint : {Endpoint::add_photo, Endpoint::colorize}) {
        Admitted request{};
        request.endpoint = endpoint;
        const auto answer = service.answer(request, photo, Traffic{});
        const Site::Work* const work = std::get_if<Site::Work>(&answer);
        REQUIRE(work != nullptr);
        const std::atomic<bool> given_up{false};
        const Reply reply = (*work)(given_up);
        const std::string text(reply.body.begin(), reply.body.end());
        CAPTURE(text);
        CHECK(reply.status == 422);
        CHECK(text.find("the limit is 1 MiB") != std::string::npos);
    }
}

TEST_CASE("previews: shrunk, gray, without transparency") {
    const Exec exec{{}, 2};
    for (const int bits : {8, 16})
        for (const int channels : {1, 2, 3, 4}) {
            Image photo = Image::make(300, 200, channels, bits);
            std::fill(photo.bytes.begin(), photo.bytes.end(), uint8_t{0x40});
            photo.metadata.xmp = "x";
            photo.icc = {1, 2, 3};
            const Image small = shrunk(photo, 60, exec);
            CHECK(small.width == 60);
            CHECK(small.height == 40);
            CHECK(small.channels == channels);
            CHECK(small.icc == photo.icc);
            CHECK(small.metadata.xmp.empty());
            // A flat photo stays flat.
            CHECK(std::all_of(small.bytes.begin(), small.bytes.end(),
                              [](uint8_t byte) { return byte == 0x40; }));
            CHECK(shrunk(photo, 300, exec).bytes == photo.bytes);
            CHECK(gray_of(photo, exec).bytes[0] == 0x40);
            const Image opaque = without_alpha(photo, exec);
            CHECK(opaque.channels == (channels < 3 ? 1 : 3));
            // 64 * 64 / 255 + 255 - 64; the high byte of 16 bits
            CHECK(opaque.bytes[size_t(bits / 8 - 1)] == (photo.has_alpha() ? 0xcf : 0x40));
        }
    const Image strip = shrunk(Image::make(4000, 1, 3, 8), 100, exec);
    CHECK(strip.width == 100);
    CHECK(strip.height == 1);
    const Image noisy = striped(97, 61);
    const Image half = shrunk(noisy, 48, exec);
    Tensor floats = Tensor::empty({61, 97, 3});
    std::copy(noisy.bytes.begin(), noisy.bytes.end(), floats.data<float>());
    const Tensor expected = resize(floats, half.height, half.width);
    for (size_t i = 0; i < half.bytes.size(); ++i)
        CHECK(half.bytes[i] == static_cast<uint8_t>(std::lround(expected.data<float>()[i])));
}
