#include "apps/serve/connections.hpp"

#include <algorithm>

namespace lumachrome {
namespace {

using namespace std::chrono_literals;
using Phase = Connections::Phase;

// How long somebody may let us wait before their place goes to a newcomer; who waits for us, or
// takes a reply, keeps it.
std::optional<std::chrono::milliseconds> patience(Phase phase) {
    switch (phase) {
        case Phase::head:  // its first bytes are there (Listener), and the rest follows at once
            return 25ms;
        case Phase::idle:
        case Phase::body:
            return 1000ms;
        default:
            return {};
    }
}

}  // namespace

bool is_loopback(const std::string& address) {
    return address == "::1" || address.starts_with("127.") || address.starts_with("::ffff:127.");
}

bool Connections::has_too_many(const std::string& address) const {
    return !is_loopback(address) &&
           std::count_if(all_.begin(), all_.end(), [&](const Connection& connection) {
               return connection.address == address;
           }) >= limits_.most_of_address;
}

Connections::Handle Connections::enter(int socket, std::string address, Time now) {
    all_.push_back({socket, std::move(address), Phase::head, now, now + limits_.head});
    return std::prev(all_.end());
}

void Connections::begin(Handle connection, Phase phase, Time now, int64_t bytes) {
    connection->phase = phase;
    connection->since = now;
    switch (phase) {
        case Phase::head:
            connection->deadline = now + limits_.head;
            break;
        case Phase::body:
            connection->deadline = now + limits_.body;
            break;
        case Phase::idle:
            connection->deadline = now + limits_.idle;
            break;
        case Phase::reply:
            connection->deadline =
                now + limits_.reply + std::chrono::seconds(bytes / limits_.reply_bytes_per_second);
            break;
        case Phase::work:
            connection->deadline = Time::max();
    }
}

std::optional<int> Connections::to_make_room(Time now) const {
    const Connection* worst = nullptr;
    for (const Connection& connection : all_) {
        const auto patient = patience(connection.phase);
        if (!patient || now - connection.since < *patient) continue;
        if (!worst || connection.since < worst->since) worst = &connection;
    }
    if (!worst) return {};
    return worst->socket;
}

}  // namespace lumachrome
