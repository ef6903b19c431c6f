#include "apps/serve/listener.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Who connects and says nothing is kept by the system, and takes no place with us: tcp(7).
constexpr int kSilentSeconds = 5;

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddressList numeric_address(const std::string& address, int port) {
    addrinfo wanted{}, *found = nullptr;
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found) != 0)
        throw UsageError("--listen " + address +
                         ": must be an address of this machine in numbers, as 192.168.0.7, or "
                         "0.0.0.0 for all");
    return {found, freeaddrinfo};
}

int port_of(int socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
    const in_port_t port = address.ss_family == AF_INET6
                               ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                               : reinterpret_cast<sockaddr_in&>(address).sin_port;
    return ntohs(port);
}

}  // namespace

Listener::Listener(const std::string& address, int port) : port_(port) {
    try {
        const bool all = address == "0.0.0.0" || address == "::";
        if (!all || address == "::") add("127.0.0.1", true);
        if (!all || address == "0.0.0.0") add("::1", false);  // machines without IPv6 exist
        if (!address.empty() && address != "127.0.0.1" && address != "::1") add(address, true);
    } catch (...) {
        close_all();
        throw;
    }
}

// The first socket settles the port where it may be any.
bool Listener::add(const std::string& address, bool must_work) {
    const AddressList at = numeric_address(address, port_);
    const int socket = ::socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    const bool works =
        socket >= 0 && setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT, &kSilentSeconds, sizeof kSilentSeconds) ==
            0 &&
        (at->ai_family != AF_INET6 ||
         setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
        bind(socket, at->ai_addr, at->ai_addrlen) == 0 && listen(socket, SOMAXCONN) == 0;
    const int reason = errno;
    if (works) {
        sockets_.push_back(socket);
        port_ = port_of(socket);
        return true;
    }
    if (socket >= 0) close(socket);
    if (must_work || reason == EADDRINUSE)
        throw ResourceError("cannot listen on " + address + " port " + std::to_string(port_) +
                            ": " + std::strerror(reason) +
                            (reason == EADDRINUSE ? "; --port N takes another" : ""));
    return false;
}

std::optional<Newcomer> Listener::accept(int socket) const {
    Newcomer newcomer{};
    newcomer.address_bytes = sizeof newcomer.address;
    auto* address = reinterpret_cast<sockaddr*>(&newcomer.address);
    newcomer.socket =
        accept4(socket, address, &newcomer.address_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (newcomer.socket < 0) return {};
    std::array<char, NI_MAXHOST> name{};
    if (getnameinfo(address, newcomer.address_bytes, name.data(), name.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0)
        newcomer.name = name.data();
    return newcomer;
}

void Listener::close_all() {
    for (const int socket : sockets_) close(socket);
    sockets_.clear();
}

}  // namespace lumachrome
