// Who is connected, what they are waited for, and until when. The HTTP library's timeout is one of
// silence: who sends a byte now and then could hold a connection for ever. Deadlines here are
// absolute.
//
// When all places are taken, a newcomer gets the place of whoever let us wait longest: a client
// that sends its request at once is served though hundreds of slow ones are there.
#pragma once
#include <chrono>
#include <cstdint>
#include <list>
#include <optional>
#include <string>

namespace lumachrome {

class Connections {
  public:
    using Clock = std::chrono::steady_clock;
    using Time = Clock::time_point;

    enum class Phase {
        head,   // the first request's line and headers are to come
        body,   // its bytes
        work,   // it is our turn
        reply,  // theirs again: to take it
        idle,   // the next request is to come
    };
    struct Connection {
        int socket;
        std::string address;
        Phase phase;
        Time since, deadline;
    };
    using Handle = std::list<Connection>::iterator;

    struct Limits {
        size_t most = 256;  // each costs about 30 KiB, besides what kHeldBytes of http.cpp bounds
        int64_t most_of_address = 8;  // of another machine
        std::chrono::milliseconds head{5'000}, body{30'000}, idle{15'000}, reply{30'000};
        int64_t reply_bytes_per_second = 64 << 10;  // a long reply has time in proportion
    };
    explicit Connections(const Limits& limits) : limits_(limits) {}

    bool full() const { return all_.size() >= limits_.most; }
    bool crowded() const { return all_.size() >= limits_.most * 3 / 4; }
    size_t size() const { return all_.size(); }
    bool has_too_many(const std::string& address) const;  // never of this machine's own

    Handle enter(int socket, std::string address, Time now);
    void leave(Handle connection) { all_.erase(connection); }
    // `bytes` of a reply.
    void begin(Handle connection, Phase phase, Time now, int64_t bytes = 0);

    // The one whose place a newcomer may have; none while all deserve some patience.
    std::optional<int> to_make_room(Time now) const;

    const std::list<Connection>& all() const { return all_; }

  private:
    Limits limits_;
    std::list<Connection> all_;  // iterators stay valid
};

bool is_loopback(const std::string& address);  // 127.0.0.0/8, ::1, also as ::ffff:127.0.0.1

}  // namespace lumachrome
