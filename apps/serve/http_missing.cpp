// Stands in for http.cpp and listener.cpp in a build without libmicrohttpd.
#include "apps/serve/http.hpp"
#include "tensor/error.hpp"

namespace lumachrome {

class HttpServer::Loop {};

HttpServer::HttpServer(const std::string&, int) {
    throw ResourceError(
        "serve: this build has no HTTP library; install libmicrohttpd-dev and build again");
}
HttpServer::~HttpServer() = default;

int HttpServer::port() const {
    return 0;
}

void HttpServer::run(Site&, const std::atomic<bool>&) {}

}  // namespace lumachrome
