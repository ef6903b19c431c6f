// The HTTP server. http.cpp is the one file that knows the library it stands on; http_missing.cpp
// takes its place in a build without.
//
//   this thread    accepts, reads, judges, answers what is quick, keeps the deadlines; it never
//                  waits for a photo, so /healthz does not either
//   the worker     one thread; all that takes long, one photo at a time, 64 waiting
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "apps/serve/policy.hpp"
#include "apps/serve/reply.hpp"

namespace lumachrome {

struct Traffic {
    std::map<int, int64_t> replies;  // by status
    size_t connections = 0;
    size_t waiting = 0;  // requests in the worker's queue
    int64_t bytes = 0;   // of bodies that come and replies that go
    double busy_seconds = 0;
};

// What a server serves. `judge`, `answer` and `tick` are called on the server's thread, and must be
// quick; what is not goes into the Work.
class Site {
  public:
    // Runs on the worker. `given_up` becomes true when nobody waits for the reply any more.
    using Work = std::function<Reply(const std::atomic<bool>& given_up)>;

    virtual ~Site() = default;
    virtual Verdict judge(const HttpRequest& request) = 0;
    virtual std::variant<Reply, Work> answer(const Admitted& request, std::vector<uint8_t> body,
                                             const Traffic& traffic) = 0;
    virtual void tick() = 0;  // about ten times a second
};

class HttpServer {
  public:
    // Listens on 127.0.0.1 and ::1 (where there is such a thing), and on `address` unless empty.
    // Port 0: one that is free. Throws UsageError for what is no address, ResourceError when the
    // port is taken or this build has no HTTP library.
    HttpServer(const std::string& address, int port);
    ~HttpServer();
    int port() const;

    // Until `stop`; then nobody new comes in, and whoever is being served gets their reply.
    void run(Site& site, const std::atomic<bool>& stop);

  private:
    class Loop;
    std::unique_ptr<Loop> loop_;
};

}  // namespace lumachrome
