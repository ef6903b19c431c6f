// The sockets that a server listens on.
#pragma once
#include <netinet/in.h>

#include <optional>
#include <string>
#include <vector>

namespace lumachrome {

struct Newcomer {
    int socket;  // non-blocking; the caller's to close
    sockaddr_storage address;
    socklen_t address_bytes;
    std::string name;  // its address as text
};

class Listener {
  public:
    // As HttpServer says.
    Listener(const std::string& address, int port);
    ~Listener() { close_all(); }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    int port() const { return port_; }
    const std::vector<int>& sockets() const { return sockets_; }
    std::optional<Newcomer> accept(int socket) const;  // none: nobody is waiting there
    void close_all();                                  // whoever waited is refused

  private:
    bool add(const std::string& address, bool must_work);
    int port_;
    std::vector<int> sockets_;
};

}  // namespace lumachrome
