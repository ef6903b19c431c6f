// The server as a process: what it does for people, and for those who mean harm.
#include <doctest/doctest.h>

#include <deque>
#include <future>

#include "image/color.hpp"
#include "tests/serve/live_server.hpp"

using namespace lumachrome;

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr double kSlower = 10;
#else
constexpr double kSlower = 1;
#endif

std::string photo_bytes(int64_t width = 90, int64_t height = 60) {
    Image photo = striped(width, height);
    photo.metadata.text = {{"Comment", "Oma, 1931"}};
    return text_of(encode(photo, Format::png));
}

std::string upload(const LiveServer& server, const std::string& bytes) {
    const Response added = server.ask(server.post("/api/v1/photos", bytes));
    REQUIRE(added.status == 201);
    return added.json().at("id").string();
}

Image image_of(const Response& response) {
    REQUIRE(response.status == 200);
    return decode(bytes_of_text(response.body), "reply");
}

}  // namespace

TEST_CASE("a photo comes, is coloured in many ways, and goes") {
    LiveServer server;
    CHECK(server.get("/healthz").body == "{\"status\":\"ok\"}\n");
    const Json model = server.get("/api/v1/model").json();
    CHECK(model.at("preset").string() == "tiny");
    CHECK(model.at("parameters").integer() > 1000);
    CHECK(model.at("classes").array().size() == 3);
    CHECK(model.at("styles").boolean());
    CHECK(model.at("baseline").string() == "zero");
    CHECK(model.at("limits").at("body_bytes").integer() == 32 << 20);

    const std::string bytes = photo_bytes();
    const Response added = server.ask(server.post("/api/v1/photos", bytes));
    REQUIRE(added.status == 201);
    const Json about = added.json();
    CHECK(about.at("width").integer() == 90);
    CHECK(about.at("height").integer() == 60);
    CHECK(about.at("tone").string() == "color");
    CHECK(about.at("scene").array().size() == 3);
    CHECK(about.at("network_width").integer() % 8 == 0);
    const std::string photo = "/api/v1/photos/" + about.at("id").string();

    CHECK(image_of(server.get(photo + "/original")).channels == 3);
    const Image gray = image_of(server.get(photo + "/original?max=30&variant=gray"));
    CHECK(gray.channels == 1);
    CHECK(gray.width == 30);
    CHECK(gray.height == 20);

    const auto colored = [&](const std::string& settings) {
        return server.ask(server.post(photo + "/colorize", settings));
    };
    const Response plain = colored("{\"format\":\"png\"}");
    CHECK(plain.headers.at("content-type") == "image/png");
    CHECK(plain.headers.contains("x-network-milliseconds"));
    const Image full = image_of(plain), truth = decode(bytes_of_text(bytes), "photo");
    CHECK(full.width == 90);
    CHECK(full.metadata.text == truth.metadata.text);
    const Tensor luma_before = luma(truth), luma_after = luma(full);
    for (int64_t i = 0; i < luma_before.numel(); ++i)
        REQUIRE(std::abs(luma_before.data<float>()[i] - luma_after.data<float>()[i]) < 1.01f / 255);
    CHECK(colored("").status == 200);  // all settings are optional
    const Image preview = image_of(colored("{\"max\":40,\"format\":\"png\"}"));
    CHECK(preview.width == 40);
    CHECK(preview.metadata.text.empty());
    CHECK(colored("{\"quality\":30}").body.size() < colored("{\"quality\":95}").body.size());
    CHECK(colored("{\"size\":\"full\"}").headers.at("x-network-width") == "96");
    CHECK(colored("{\"size\":16}").headers.at("x-network-height") == "16");
    CHECK(image_of(colored("{\"saturation\":0,\"format\":\"png\"}")).bytes != full.bytes);
    for (const char* settings : {"{\"class\":\"sea\",\"format\":\"png\"}",
                                 "{\"variant\":\"baseline\",\"format\":\"png\"}"})
        CHECK(image_of(colored(settings)).bytes != full.bytes);

    // A style by way of a file is the style of the photo.
    const std::string other = upload(server, photo_bytes(64, 64));
    const Response file = server.get("/api/v1/photos/" + other + "/style");
    CHECK(file.headers.at("content-type") == "application/octet-stream");
    const Response style = server.ask(server.post("/api/v1/styles", file.body));
    REQUIRE(style.status == 201);
    const auto styled = [&](const std::string& id) {
        return image_of(colored("{\"format\":\"png\",\"styles\":[{\"id\":\"" + id +
                                "\",\"weight\":1}]}"))
            .bytes;
    };
    CHECK(styled(other) == styled(style.json().at("id").string()));
    CHECK(styled(other) != full.bytes);
    CHECK(server.ask(server.post("/api/v1/styles", photo_bytes(24, 24))).status == 201);

    // In one go, as curl does it; the same bytes as in several steps.
    const Response once = server.ask(server.post("/api/v1/colorize?format=png", bytes));
    CHECK(image_of(once).bytes == full.bytes);
    const Json scene = server.ask(server.post("/api/v1/classify?top=2", bytes)).json();
    CHECK(scene.at("scene").array().size() == 2);

    CHECK(server.get("/metrics").body.find("lumachrome_requests_total{status=\"201\"}") !=
          std::string::npos);
    CHECK(server.ask(server.head("DELETE", photo)).status == 204);
    CHECK(server.ask(server.head("DELETE", photo)).status == 404);
    CHECK(server.get(photo + "/original").status == 404);
    CHECK(colored("").status == 404);

    const Finished finished = server.stop();
    CHECK(finished.code == 0);
}

TEST_CASE("the page is there, with the headers that keep others out of it") {
    const LiveServer server;
    const Response page = server.get("/");
    CHECK(page.status == 200);
    CHECK(page.headers.at("content-type") == "text/html; charset=utf-8");
    CHECK(page.headers.at("content-security-policy").find("default-src 'self'") == 0);
    CHECK(page.headers.at("content-security-policy").find("frame-ancestors 'none'") !=
          std::string::npos);
    CHECK(page.headers.at("x-content-type-options") == "nosniff");
    CHECK(page.headers.at("referrer-policy") == "no-referrer");
    CHECK_FALSE(page.headers.contains("access-control-allow-origin"));
    CHECK(server.get("/page.js").headers.at("content-type") == "text/javascript; charset=utf-8");
    Client only_head(server.port);
    only_head.send(server.head("HEAD", "/") + server.head("GET", "/healthz"));
    CHECK(only_head.receive(false).status == 200);
    CHECK(only_head.receive().body == "{\"status\":\"ok\"}\n");
    const std::string port = std::to_string(server.port);
    const auto status = [&](const std::string& bytes) { return server.ask(bytes).status; };
    CHECK(status("GET / HTTP/1.1\r\nHost: evil.example:" + port + "\r\n\r\n") == 421);
    CHECK(status(server.post("/api/v1/photos", "x", "Origin: http://evil.example\r\n")) == 403);
    CHECK(status(server.post("/api/v1/photos", "x", "Sec-Fetch-Site: cross-site\r\n")) == 403);
    const Response preflight = server.ask(
        server.head("OPTIONS", "/api/v1/photos",
                    "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"));
    CHECK(preflight.status == 405);
    CHECK(preflight.headers.at("allow") == "POST");
    for (const auto& [name, value] : preflight.headers)
        CHECK_FALSE(name.starts_with("access-control"));
    // The library in front must not decode what the policy has to see.
    for (const char* target : {"/%2e%2e/etc/passwd", "/..%2fetc/passwd", "/page.js%00.png",
                               "/%70age.js", "/../../etc/passwd", "//etc/passwd"})
        CHECK(server.get(target).status == 404);
}

TEST_CASE("what is no photo, too large or a bomb is refused in one line") {
    const LiveServer server;
    const auto refused = [&](const std::string& body, int status, const std::string& why) {
        for (const char* target : {"/api/v1/photos", "/api/v1/colorize", "/api/v1/classify"}) {
            const Response response = server.ask(server.post(target, body));
            CAPTURE(response.body);
            CHECK(response.status == status);
            CHECK(response.error().find(why) != std::string::npos);
            CHECK(response.error().find('\n') == std::string::npos);
        }
    };
    const Bytes png = encode(striped(40, 30), Format::png);
    refused("", 422, "empty");
    refused("hello", 422, "not a PNG");
    refused("GIF89a....", 422, "GIF");
    refused(text_of(with_header(png, 100'000, 100'000)), 422, "exceed the limit of 40000000");
    refused(text_of(with_header(png, 40'000'001, 1)), 422, "exceed the limit");
    refused(text_of(cut(png, png.size() / 2)), 422, "the photo");
    for (const Hostile& hostile : hostile_photos()) {
        if (hostile.code != 3) continue;
        CAPTURE(hostile.name);
        const Response response = server.ask(server.post("/api/v1/photos", text_of(hostile.bytes)));
        CHECK(response.status == 422);
    }
    const std::string photo = "/api/v1/photos/" + upload(server, text_of(png));
    for (const char* settings : {"{", "[]", "{\"x\":1}", "{\"size\":3}", "{\"size\":1,\"size\":2}",
                                 "{\"format\":\"gif\"}", "\xff", "[[[[[[[[[[[["}) {
        CAPTURE(settings);
        const int status = server.ask(server.post(photo + "/colorize", settings)).status;
        CHECK((status == 400 || status == 422));
    }
    CHECK(server.ask(server.post(photo + "/colorize", "{\"class\":\"moon\"}")).status == 422);
    CHECK(server.ask(server.post("/api/v1/colorize?size=7", text_of(png))).status == 400);
    CHECK(server.ask(server.post("/api/v1/classify?top=0", text_of(png))).status == 400);
    CHECK(server.get(photo + "/original?max=x").status == 400);
    CHECK(server.get(photo + "/original?variant=x").status == 400);
    CHECK(server.status_mib("VmHWM") < 200 * kSlower);
}

TEST_CASE("bodies: refused by their length, counted in chunks, and never in doubt") {
    const LiveServer server;
    const double before = server.status_mib("VmRSS");
    const std::string most = "33554433";
    CHECK(server.ask(server.head("POST", "/api/v1/photos", "Content-Length: " + most + "\r\n"))
              .status == 413);
    CHECK(server.ask(server.head("POST", "/api/v1/photos")).status == 411);

    // Chunks without end: an answer at the limit is not possible, the end of the connection is.
    Client flood(server.port);
    flood.send(server.head("POST", "/api/v1/photos", "Transfer-Encoding: chunked\r\n"));
    const std::string chunk = "100000\r\n" + std::string(1 << 20, 'x') + "\r\n";
    int taken = 0;
    while (taken < 1000 && flood.send(chunk)) ++taken;
    CHECK(taken < 200);
    CHECK(server.status_mib("VmRSS") < before + 100 * kSlower);

    Client over(server.port);
    over.send(server.head("POST", "/api/v1/photos", "Transfer-Encoding: chunked\r\n"));
    for (int i = 0; i < 33; ++i) over.send(chunk);
    over.send("0\r\n\r\n");
    CHECK(over.receive().status == 413);

    Client header_flood(server.port);
    header_flood.send("GET / HTTP/1.1\r\nX: ");
    const std::string line(1 << 16, 'x');
    int lines = 0;
    while (lines < 512 && header_flood.send(line)) ++lines;
    CHECK(lines < 512);

    // A second request hidden in the first one's body must not be answered.
    const std::string hidden =
        "GET /healthz HTTP/1.1\r\nHost: localhost:" + std::to_string(server.port) + "\r\n\r\n";
    const std::string length = std::to_string(hidden.size() + 5);
    for (const std::string& headers :
         {"Content-Length: " + length + "\r\nTransfer-Encoding: chunked\r\n",
          "Transfer-Encoding: chunked\r\nContent-Length: " + length + "\r\n",
          "Content-Length: 4\r\nContent-Length: " + length + "\r\n",
          std::string("Transfer-Encoding: gzip, chunked\r\n"),
          std::string("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")}) {
        CAPTURE(headers);
        Client client(server.port);
        client.send(server.head("POST", "/api/v1/photos", headers) + "0\r\n\r\n" + hidden);
        CHECK(client.receive().status == 400);
        CHECK(client.at_end());
    }
    for (const std::string& nonsense :
         {std::string("\r\n\r\n\r\n"), std::string("GET\r\n\r\n"),
          std::string("\0\0\0\0\r\n\r\n", 8), std::string("GET / HTTP/9.9\r\n\r\n"),
          std::string("\x16\x03\x01\x02\x00\x01", 6),
          "GET / HTTP/1.1\r\n" + std::string(300, 'a') + "\r\n\r\n",
          server.head("POST", "/api/v1/photos", "Transfer-Encoding: chunked\r\n") + "zz\r\n\r\n",
          server.head("POST", "/api/v1/photos", "Transfer-Encoding: chunked\r\n") +
              "fffffffffffffffff\r\n\r\n"}) {
        Client client(server.port);
        client.send(nonsense);
        // Refused, closed, or waited for until the deadline; never taken for a good request.
        std::this_thread::sleep_for(20ms);
        if (client.has_news()) CHECK(client.receive().status != 200);
    }
    CHECK(server.get("/healthz").status == 200);
}

TEST_CASE("too many at once: each gets a photo or a polite no, and health is never late") {
    const LiveServer server;
    const std::string bytes = photo_bytes(1200, 900);
    std::deque<Client> clients;
    for (int i = 0; i < 60; ++i) {
        clients.emplace_back(server.port);
        clients.back().send(server.post("/api/v1/classify", bytes));
    }
    const auto asked = Clock::now();
    CHECK(server.get("/healthz").status == 200);
    CHECK(seconds_since(asked) < 0.25 * kSlower);
    int good = 0, busy = 0;
    for (Client& client : clients) {
        const Response response = client.receive();
        good += response.status == 200;
        if (response.status != 503) continue;
        ++busy;
        CHECK(response.headers.at("retry-after") == "1");
    }
    CHECK(good >= 16);
    CHECK(busy > 0);
    CHECK(good + busy == 60);
    CHECK(server.ask(server.post("/api/v1/classify", bytes)).status == 200);
}

TEST_CASE("slow clients are cut at the deadline, and hold nobody up meanwhile") {
    const LiveServer server;
    std::deque<Client> slow;
    const auto start = Clock::now();
    for (int i = 0; i < 400; ++i) {
        slow.emplace_back(server.port);
        slow.back().send("GET /healthz HT");
    }
    double slowest = 0;
    for (int i = 0; i < 40; ++i) {
        for (Client& client : slow) client.send("T");  // not silent
        const auto asked = Clock::now();
        CHECK(server.get("/healthz").status == 200);
        slowest = std::max(slowest, seconds_since(asked));
        std::this_thread::sleep_for(100ms);
    }
    CHECK(slowest < 0.1 * kSlower);
    const size_t left = static_cast<size_t>(std::count_if(
        slow.begin(), slow.end(), [](const Client& client) { return !client.has_news(); }));
    CHECK(left > 0);  // not yet 5 seconds
    CHECK(seconds_since(start) < 5);
    for (Client& client : slow) CHECK(client.at_end());
    CHECK(seconds_since(start) < 5.5 + kSlower);
}

TEST_CASE("a signal ends it once everybody has their reply") {
    LiveServer server;
    Client idle(server.port), busy(server.port), waiting(server.port);
    idle.send(server.head("GET", "/healthz"));
    CHECK(idle.receive().status == 200);
    const std::string photo = photo_bytes(2000, 1500);
    busy.send(server.post("/api/v1/colorize?format=jpeg", photo));
    waiting.send(server.post("/api/v1/classify", photo));
    while (server.get("/metrics").body.find("lumachrome_queue_length 1\n") == std::string::npos)
        std::this_thread::sleep_for(1ms);
    const auto stopped = std::async(std::launch::async, [&] { return server.stop(); });
    CHECK(idle.at_end());
    CHECK(busy.receive().status == 200);
    CHECK(waiting.receive().status == 200);
    CHECK(busy.at_end());
    stopped.wait();
}

TEST_CASE("nobody waits for what was given up") {
    LiveServer server;
    const std::string large = photo_bytes(3000, 2000);
    const auto alone = Clock::now();
    CHECK(server.ask(server.post("/api/v1/colorize", large)).status == 200);
    const double once = seconds_since(alone);
    {
        std::deque<Client> leaving;
        for (int i = 0; i < 10; ++i) {
            leaving.emplace_back(server.port);
            leaving.back().send(server.post("/api/v1/colorize", large));
        }
        while (server.get("/metrics").body.find("lumachrome_queue_length 9\n") == std::string::npos)
            std::this_thread::sleep_for(1ms);
    }
    const auto after = Clock::now();
    CHECK(server.ask(server.post("/api/v1/classify", photo_bytes())).status == 200);
    CHECK(seconds_since(after) < 4 * once);  // and not 10
}

TEST_CASE("nothing is written, and the door is opened to others with a token only") {
    LiveServer server({"--listen", "127.0.0.2", "--token", "correct horse battery"});
    const auto ask = [&](const char* address, const std::string& extra) {
        Client client(server.port, address);
        client.send("GET / HTTP/1.1\r\nHost: " + std::string(address) + ":" +
                    std::to_string(server.port) + "\r\n" + extra + "\r\n");
        return client.receive();
    };
    for (const char* address : {"127.0.0.1", "127.0.0.2"}) {
        const Response refused = ask(address, "");
        CHECK(refused.status == 401);
        CHECK(refused.headers.at("www-authenticate").starts_with("Basic"));
        CHECK(ask(address, "Authorization: Bearer correct horse battery\r\n").status == 200);
        CHECK(ask(address, "Authorization: Basic OmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\n").status ==
              200);
        CHECK(ask(address, "Authorization: Bearer wrong\r\n").status == 401);
    }
    namespace fs = std::filesystem;
    for (const auto& entry :
         fs::directory_iterator("/proc/" + std::to_string(server.id()) + "/fd")) {
        const std::string target = fs::read_symlink(entry).string();
        const bool known = target.starts_with("socket:") || target.starts_with("anon_inode:") ||
                           target.starts_with("pipe:") || target.starts_with("/dev/") ||
                           target.ends_with("/out") || target.ends_with("/err");
        CAPTURE(target);
        CHECK(known);
    }
}

TEST_CASE("what cannot start says why") {
    const auto refused = [](const Finished& done, int code, const std::string& why) {
        CAPTURE(done.err);
        CHECK(done.code == code);
        CHECK(done.messages() == 1);
        CHECK(done.err.find(why) != std::string::npos);
    };
    refused(run({"serve", "--listen", "0.0.0.0"}), 2, "--token");
    refused(run({"serve", "--listen", "0.0.0.0", "--token", "short"}), 2, "12 characters");
    refused(run({"serve", "--listen", "example.com", "--token", "correct horse battery"}), 2,
            "numbers");
    refused(run({"serve", "--port", "65536"}), 2, "--port");
    refused(run({"serve", "--port", "0", "--weights", "/nowhere"}), 4, "/nowhere");
    const LiveServer server;
    refused(run({"serve", "--port", std::to_string(server.port)}), 69, "--port N");
}
