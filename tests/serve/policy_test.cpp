// The rules that keep other people's web pages, and everybody else, out.
#include <doctest/doctest.h>

#include <cstdint>

#include "tensor/random.hpp"
#include "tests/serve/http_head.hpp"

using namespace lumachrome;

namespace {

const std::string kId(32, 'a');

HttpRequest ask(const std::string& method, const std::string& target, Headers extra = {}) {
    HttpRequest request{method, target, "HTTP/1.1", {{"Host", "localhost:8080"}}};
    if (method == "POST") request.headers.emplace_back("Content-Length", "10");
    if (method != "GET") request.headers.emplace_back("X-Lumachrome", "1");
    request.headers.insert(request.headers.end(), extra.begin(), extra.end());
    return request;
}

void set(HttpRequest& request, const std::string& name, const std::string& value) {
    for (auto& [key, old] : request.headers)
        if (key == name) {
            old = value;
            return;
        }
    request.headers.emplace_back(name, value);
}

void drop(HttpRequest& request, const std::string& name) {
    std::erase_if(request.headers, [&](const auto& header) { return header.first == name; });
}

int status(const HttpRequest& request, const Policy& policy = example_policy()) {
    const Verdict verdict = judge(request, policy);
    CHECK(is_sound(request, verdict, policy));
    const auto* refusal = std::get_if<Refusal>(&verdict);
    return refusal ? refusal->status : 200;
}

// One that is good, of every endpoint.
std::vector<HttpRequest> good_requests() {
    const std::string photo = "/api/v1/photos/" + kId;
    return {ask("GET", "/"),
            ask("GET", "/page.js"),
            ask("GET", "/healthz"),
            ask("GET", "/metrics"),
            ask("GET", "/api/v1/model"),
            ask("POST", "/api/v1/photos"),
            ask("GET", photo + "/original?max=512&variant=gray"),
            ask("POST", photo + "/colorize"),
            ask("GET", photo + "/style"),
            ask("DELETE", photo),
            ask("POST", "/api/v1/styles"),
            ask("POST", "/api/v1/colorize?size=128&class=art%20gallery&format=png&quality=80"),
            ask("POST", "/api/v1/classify?top=3")};
}

bool guarded(const HttpRequest& request) {
    return request.target.starts_with("/api") || request.target == "/metrics";
}

}  // namespace

TEST_CASE("what our page and curl ask for is admitted") {
    for (HttpRequest request : good_requests()) {
        CAPTURE(request.target);
        CHECK(status(request) == 200);
        for (const char* host : {"127.0.0.1:8080", "[::1]:8080", "LocalHost:8080"}) {
            set(request, "Host", host);
            CHECK(status(request) == 200);
        }
        set(request, "Host", "localhost:8080");
        set(request, "Origin", "http://localhost:8080");
        for (const char* site : {"same-origin", "none"}) {
            set(request, "Sec-Fetch-Site", site);
            CHECK(status(request) == 200);
        }
        if (request.method == "GET") {
            request.method = "HEAD";
            CHECK(status(request) == 200);
        }
    }
    const Verdict verdict =
        judge(ask("POST", "/api/v1/colorize?class=art%20gallery+x&size=8"), example_policy());
    const auto& query = std::get<Admitted>(verdict).query;
    CHECK(query == Query{{"class", "art gallery x"}, {"size", "8"}});
}

TEST_CASE("a stranger's name for this machine is refused: DNS rebinding") {
    const char* const hosts[] = {"evil.example:8080",
                                 "evil.example",
                                 "localhost",
                                 "localhost:80",
                                 "localhost:8081",
                                 "localhost:08080",
                                 "localhost:8080.evil.example",
                                 "localhost.evil.example:8080",
                                 "localhost.:8080",
                                 "127.0.0.1.nip.io:8080",
                                 "127.0.0.1",
                                 "127.1:8080",
                                 "127.0.0.2:8080",
                                 "0x7f.1:8080",
                                 "2130706433:8080",
                                 "0.0.0.0:8080",
                                 "[::]:8080",
                                 "[::1]",
                                 "[0:0:0:0:0:0:0:1]:8080",
                                 "[::ffff:127.0.0.1]:8080",
                                 "::1:8080",
                                 "user@localhost:8080",
                                 "localhost:8080@evil.example",
                                 "localhost:8080,evil.example",
                                 "localhost:8080 evil.example",
                                 " localhost:8080",
                                 "localhost:8080 ",
                                 "localhost :8080",
                                 "localhost:8080\t",
                                 "localhost:8080/",
                                 "http://localhost:8080",
                                 ("lo\xc3\xa7"
                                  "alhost:8080"),
                                 "192.168.0.7:8080",
                                 ""};
    for (const HttpRequest& good : good_requests())
        for (const char* host : hosts) {
            HttpRequest request = good;
            set(request, "Host", host);
            CAPTURE(host);
            CHECK(status(request) == 421);
        }
    HttpRequest request = ask("GET", "/");
    drop(request, "Host");
    CHECK(status(request) == 421);
    request.headers = {{"Host", "localhost:8080"}, {"host", "evil.example"}};
    CHECK(status(request) == 400);
}

TEST_CASE(
    "another site's page is refused, by Origin, Sec-Fetch-Site and the header it cannot set") {
    const char* const origins[] = {"null",
                                   "NULL",
                                   "",
                                   "http://evil.example",
                                   "https://localhost:8080",
                                   "http://localhost",
                                   "http://localhost:8081",
                                   "http://localhost:8080/",
                                   "http://localhost:8080.evil.example",
                                   "http://localhost:8080@evil.example",
                                   "http://127.0.0.1:8080",  // another name of us, another origin
                                   "http://[::1]:8080",
                                   "file://",
                                   "chrome-extension://abc",
                                   "http://localhost:8080, http://evil.example",
                                   " http://localhost:8080"};
    for (const HttpRequest& good : good_requests()) {
        CAPTURE(good.target);
        for (const char* origin : origins) {
            CAPTURE(origin);
            HttpRequest request = good;
            set(request, "Origin", origin);
            CHECK(status(request) == (guarded(good) ? 403 : 200));
        }
        for (const char* site :
             {"cross-site", "same-site", "Same-Origin", "", "null", "none, none"}) {
            HttpRequest request = good;
            set(request, "Sec-Fetch-Site", site);
            CHECK(status(request) == (guarded(good) ? 403 : 200));
        }
        if (good.method == "GET") continue;
        for (const char* mark : {"", "0", "11", "true", "1 "}) {
            HttpRequest request = good;
            set(request, "X-Lumachrome", mark);
            CHECK(status(request) == 403);
        }
        HttpRequest request = good;
        drop(request, "X-Lumachrome");
        CHECK(status(request) == 403);  // a form of another site
    }
}

TEST_CASE("no path leads anywhere but to the endpoints, however it is spelled") {
    const std::string dots[] = {"..",        "%2e%2e", "%2E%2e",  ".%2e",         "%252e%252e",
                                "..;",       "..%00",  "..%5c..", "%c0%ae%c0%ae", "%uff0e%uff0e",
                                "....",      ". .",    ".",       "%2e",          "~root",
                                "..%c0%af.."};
    const std::string slashes[] = {"/", "%2f", "%2F", "\\", "%5c", "//", "/./", "%252f", "%c0%af"};
    const std::string starts[] = {"/", "/api/v1/photos/", "/api/v1/photos/" + kId + "/"};
    for (const auto& start : starts)
        for (const auto& dot : dots)
            for (const auto& slash : slashes) {
                const std::string target = start + dot + slash + dot + slash + "etc/passwd";
                CAPTURE(target);
                const int code = status(ask("GET", target));
                CHECK((code == 404 || code == 400));
            }
    for (const char* target : {"//", "/index.html", "/Page.js", "/page.js/", "/page.js%00", "/api",
                               "/api/v1", "/API/v1/model", "/api/v1/model/", "/api//v1/model",
                               "/api/v1/photos/", "/healthz/x", "/page.css"})
        CHECK(status(ask("GET", target)) == 404);
    for (const char* target : {"", "page.js", "*", "http://localhost:8080/", "localhost:8080",
                               "/a b", "/\x01", "/\x7f", "/\xc3\xa9", "/#x", "\\"})
        CHECK(status(ask("GET", target)) == 400);
    CHECK(status(ask("GET", "/" + std::string(5000, 'a'))) == 414);
    CHECK(status(ask("GET", "/", {{"A", std::string(16000, 'a')}})) == 200);
    CHECK(status(ask("GET", "/", {{"A", std::string(17000, 'a')}})) == 431);
    CHECK(status(ask("GET", "/", Headers(5000, {"A", "b"}))) == 200);
    CHECK(status(ask("GET", "/", Headers(9000, {"A", "b"}))) == 431);
    // Ids are 32 small hexadecimal digits and nothing else.
    for (const std::string& id :
         {std::string(31, 'a'), std::string(33, 'a'), std::string(32, 'A'), std::string(32, 'g'),
          std::string(31, 'a') + "/", std::string(30, 'a') + "%61",
          std::string("0x") + std::string(30, '1')})
        CHECK(status(ask("GET", "/api/v1/photos/" + id + "/style")) == 404);
}

TEST_CASE("methods are the ones that an address knows, in capitals") {
    for (const char* method : {"PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get",
                               "Get", "GET ", "", "POST2", "LOCK", "MKCOL", "PURGE"})
        for (const HttpRequest& good : good_requests()) {
            HttpRequest request = good;
            request.method = method;
            CAPTURE(method);
            CHECK(status(request) == 405);
        }
    CHECK(status(ask("POST", "/")) == 405);
    CHECK(status(ask("POST", "/healthz")) == 405);
    CHECK(status(ask("GET", "/api/v1/photos")) == 405);
    CHECK(status(ask("HEAD", "/api/v1/photos")) == 405);
    CHECK(status(ask("GET", "/api/v1/photos/" + kId)) == 405);
    const Verdict verdict = judge(ask("GET", "/api/v1/photos/" + kId), example_policy());
    CHECK(std::get<Refusal>(verdict).headers == Headers{{"Allow", "DELETE"}});
    for (const char* version : {"HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "http/1.1", "", "HTTP/1.1x"}) {
        HttpRequest request = ask("GET", "/");
        request.version = version;
        CHECK(status(request) == 505);
    }
    // Ways to say another method than the one that is meant.
    const Headers overrides{{"X-HTTP-Method-Override", "POST"}};
    CHECK(status(ask("GET", "/api/v1/photos", overrides)) == 405);
    CHECK(status(ask("GET", "/api/v1/model?_method=POST")) == 400);
}

TEST_CASE("a body says how long it is, once, and is what we take") {
    const auto with = [](const Headers& headers, const std::string& target = "/api/v1/photos") {
        HttpRequest request = ask("POST", target);
        drop(request, "Content-Length");
        request.headers.insert(request.headers.end(), headers.begin(), headers.end());
        return status(request);
    };
    CHECK(with({}) == 411);
    CHECK(with({{"Transfer-Encoding", "chunked"}}) == 200);
    CHECK(with({{"Content-Length", "33554432"}}) == 200);
    CHECK(with({{"Content-Length", "33554433"}}) == 413);
    CHECK(with({{"Content-Length", "65537"}}, "/api/v1/photos/" + kId + "/colorize") == 413);
    for (const char* length : {"-1", "+1", "1e3", "0x10", " 1", "1 ", "1,1", "", "1.0", "abc",
                               "99999999999999999999999999", "18446744073709551617", "١"})
        CHECK(with({{"Content-Length", length}}) == 400);
    CHECK(with({{"Content-Length", "1"}, {"Content-Length", "1"}}) == 400);
    CHECK(with({{"Content-Length", "1"}, {"content-length", "2"}}) == 400);
    CHECK(with({{"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}}) == 400);
    CHECK(with({{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "identity"}}) == 400);
    for (const char* coding : {"gzip", "gzip, chunked", "chunked, chunked", "xchunked", " chunked",
                               "identity", "", "chunked\v"})
        CHECK(with({{"Transfer-Encoding", coding}}) == 400);
    CHECK(with({{"Content-Length", "1"}, {"Content-Type", "Multipart/form-data; boundary=x"}}) ==
          415);
    CHECK(with({{"Content-Length", "1"}, {"Content-Encoding", "gzip"}}) == 415);
    CHECK(with({{"Content-Length", "1"}, {"Content-Type", "application/x-www-form-urlencoded"}}) ==
          200);  // as curl says of any data
    CHECK(status(ask("GET", "/", {{"Content-Length", "5"}})) == 400);
    CHECK(status(ask("GET", "/", {{"Transfer-Encoding", "chunked"}})) == 400);
    HttpRequest old = ask("POST", "/api/v1/photos", {{"Transfer-Encoding", "chunked"}});
    drop(old, "Content-Length");
    old.version = "HTTP/1.0";
    CHECK(status(old) == 400);
}

TEST_CASE("parameters are known, single, and well escaped") {
    for (const char* query : {"?x=1", "?top=1&top=2", "?top", "?top=%", "?top=%1", "?top=%zz",
                              "?top=%00", "?top=%0a", "?TOP=1", "?top,=1", "?=1", "?,=1"}) {
        CAPTURE(query);
        const int code = status(ask("POST", std::string("/api/v1/classify") + query));
        CHECK(code ==
              (std::string(query) == "?top" ? 200 : 400));  // an empty value is judged later
    }
    CHECK(status(ask("GET", "/?utm_source=x")) == 400);
    CHECK(whole_number("0", 0, 9) == 0);
    CHECK(whole_number("9223372036854775807", 0, INT64_MAX) == INT64_MAX);
    for (const char* text :
         {"", "-0", "+1", " 1", "1 ", "0x1", "1e1", "1.0", "10", "9223372036854775808"})
        CHECK_FALSE(whole_number(text, 0, 9).has_value());
    CHECK(decimal_number("1.25", 0, 10) == 1.25);
    CHECK(decimal_number(".5", 0, 10) == 0.5);
    for (const char* text : {"", ".", "-1", "1e1", "inf", "nan", "1.2.3", "0x1", "11", "1,5"})
        CHECK_FALSE(decimal_number(text, 0, 10).has_value());
}

TEST_CASE("other machines need the token, and may use any literal address") {
    Policy policy = example_policy();
    policy.any_address_port = 8080;
    policy.token = "correct horse";
    for (HttpRequest request : good_requests()) {
        CAPTURE(request.target);
        const bool open = request.target == "/healthz";
        for (const char* host : {"192.168.0.7:8080", "[fe80::1]:8080", "localhost:8080"}) {
            set(request, "Host", host);
            CHECK(status(request, policy) == (open ? 200 : 401));
        }
        for (const char* host :
             {"evil.example:8080", "192.168.0.7", "192.168.0.7:81", "[fe80::1]", "192.168.0:8080",
              "[192.168.0.7]:8080", "1.2.3.4.5:8080", ":8080", "[]:8080", "0x7f000001:8080"}) {
            set(request, "Host", host);
            CHECK(status(request, policy) == 421);
        }
        set(request, "Host", "192.168.0.7:8080");
        for (const char* word :
             {"Bearer correct horse", "bearer correct horse",
              "Basic bHVtYWNocm9tZTpjb3JyZWN0IGhvcnNl", "Basic OmNvcnJlY3QgaG9yc2U="}) {
            set(request, "Authorization", word);
            CHECK(status(request, policy) == 200);
        }
        for (const char* word :
             {"", "Bearer", "Bearer ", "Bearer correct", "Bearer correct horse ",
              "Bearer correct horsf", "Bearer correct horsecorrect horse", "correct horse",
              "Basic correct horse", "Basic",
              "Basic Y29ycmVjdCBob3JzZQ==", "Basic ====", "Digest correct horse"}) {
            CAPTURE(word);
            set(request, "Authorization", word);
            CHECK(status(request, policy) == (open ? 200 : 401));
        }
        set(request, "Authorization", "Bearer correct horse");
        set(request, "Origin", "http://evil.example");
        CHECK(status(request, policy) == (guarded(request) ? 403 : 200));
    }
}

TEST_CASE("clients leave out the port 80, and no other") {
    Policy policy = example_policy();
    policy.any_address_port = 80;
    for (HttpRequest request : good_requests()) {
        CAPTURE(request.target);
        for (const char* host : {"192.168.0.7", "192.168.0.7:80", "[fe80::1]", "[fe80::1]:80"}) {
            set(request, "Host", host);
            set(request, "Origin", std::string("http://") + host);
            CHECK(status(request, policy) == 200);
        }
        for (const char* host : {"evil.example", "evil.example:80", "192.168.0.7:8081", "fe80::1",
                                 "192.168.0", "[192.168.0.7]", "192.168.0.7:", "[]", ":80", ""}) {
            set(request, "Host", host);
            CHECK(status(request, policy) == 421);
        }
    }
}

TEST_CASE("heads with random damage get sound verdicts") {
    std::string head =
        "POST /api/v1/colorize?size=8&class=x HTTP/1.1\r\nHost: localhost:8080\r\n"
        "X-Lumachrome: 1\r\nContent-Length: 12\r\nOrigin: http://localhost:8080\r\n\r\n";
    CHECK(status(request_of_head(head)) == 200);
    Random random(1, Random::Purpose::test, 0);
    for (int trial = 0; trial < 20000; ++trial) {
        std::string damaged = head;
        for (int hit = 0; hit <= trial % 4; ++hit) {
            const auto at = static_cast<size_t>(random.uniform(0, double(damaged.size())));
            if (trial % 3 == 0)
                damaged.erase(at, 1 + at % 5);
            else
                damaged[at % damaged.size()] =
                    static_cast<char>(static_cast<uint8_t>(random.uniform(0, 256)));
        }
        if (!judge_bytes(damaged)) FAIL(damaged);
    }
}
