// `lumachrome serve` as a process, and clients with bare sockets: only they can misbehave.
#pragma once
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <map>
#include <stdexcept>
#include <thread>

#include "tensor/json.hpp"
#include "tests/apps/hostile.hpp"
#include "tests/apps/process.hpp"

namespace lumachrome {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Response {
    int status = 0;                              // 0: the connection was closed without one
    std::map<std::string, std::string> headers;  // names in small letters
    std::string body;

    Json json() const { return Json::parse(body); }
    std::string error() const { return json().at("error").string(); }
};

class Client {
  public:
    explicit Client(int port, const char* address = "127.0.0.1") {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(static_cast<uint16_t>(port));
        inet_pton(AF_INET, address, &to.sin_addr);
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const timeval patience{20, 0};
        setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
            throw std::runtime_error("cannot connect");
    }
    ~Client() { close(socket_); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    // False when the other side has closed.
    bool send(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            bytes.remove_prefix(static_cast<size_t>(sent));
        }
        return true;
    }
    Response receive(bool with_body = true) {
        Response response;
        size_t end;
        while ((end = received_.find("\r\n\r\n")) == received_.npos)
            if (!more()) return response;
        std::istringstream head(received_.substr(0, end));
        std::string line;
        head >> line >> response.status;
        std::getline(head, line);
        while (std::getline(head, line)) {
            const size_t colon = line.find(':');
            std::string name = line.substr(0, colon), value = line.substr(colon + 2);
            for (char& c : name) c = static_cast<char>(std::tolower(c));
            if (value.ends_with('\r')) value.pop_back();
            response.headers[name] = value;
        }
        received_.erase(0, end + 4);
        const auto length = response.headers.find("content-length");
        const size_t size =
            !with_body || length == response.headers.end() ? 0 : std::stoul(length->second);
        while (received_.size() < size && more()) {
        }
        response.body = received_.substr(0, size);
        received_.erase(0, size);
        return response;
    }
    // Nothing more comes: closed by the other side.
    bool at_end() { return received_.empty() && !more(); }
    // It was closed, or something is there to be read.
    bool has_news() const {
        pollfd waiting{socket_, POLLIN, 0};
        return poll(&waiting, 1, 0) > 0;
    }

  private:
    bool more() {
        char bytes[1 << 16];
        const ssize_t count = recv(socket_, bytes, sizeof bytes, 0);
        if (count > 0) received_.append(bytes, static_cast<size_t>(count));
        return count > 0;
    }
    int socket_;
    std::string received_;
};

// With a network that nobody trained.
class LiveServer {
  public:
    explicit LiveServer(std::vector<std::string> words = {}) {
        Spec spec = preset("tiny");
        spec.classes = 3;
        spec.class_names = {"desert", "forest", "sea"};
        ColorNet net(spec, 1);
        write_tensor_file(here_ / "tiny.safetensors", model_file(net, {}), true);
        words.insert(words.begin(), {"serve", "--port", "0", "--json", "--threads", "1",
                                     "--weights", here_ / "tiny.safetensors"});
        process_ = std::make_unique<Process>(std::move(words));
        const auto start = Clock::now();
        std::string said;
        while ((said = contents(process_->files / "out")).empty() || said.back() != '\n') {
            if (seconds_since(start) > 20)
                throw std::runtime_error("no server: " + contents(process_->files / "err"));
            std::this_thread::sleep_for(5ms);
        }
        port = static_cast<int>(Json::parse(said).at("port").integer());
    }
    ~LiveServer() {
        if (process_) CHECK(stop().code == 0);  // a sanitizer's report would show here
    }
    Finished stop() {
        kill(process_->id, SIGTERM);
        const Finished finished = process_->wait();
        process_.reset();
        return finished;
    }
    pid_t id() const { return process_->id; }
    double status_mib(const std::string& key) const {  // "VmHWM", "VmRSS"
        std::istringstream lines(contents("/proc/" + std::to_string(id()) + "/status"));
        for (std::string line; std::getline(lines, line);)
            if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
        return 0;
    }

    std::string head(const std::string& method, const std::string& target,
                     const std::string& extra = "") const {
        return method + " " + target + " HTTP/1.1\r\nHost: localhost:" + std::to_string(port) +
               "\r\nX-Lumachrome: 1\r\n" + extra + "\r\n";
    }
    std::string post(const std::string& target, std::string_view body,
                     const std::string& extra = "") const {
        return head("POST", target,
                    extra + "Content-Length: " + std::to_string(body.size()) + "\r\n") +
               std::string(body);
    }
    Response ask(const std::string& bytes) const {
        Client client(port);
        client.send(bytes);
        return client.receive();
    }
    Response get(const std::string& target) const { return ask(head("GET", target)); }

    int port = 0;

  private:
    TemporaryFolder here_;
    std::unique_ptr<Process> process_;
};

inline std::string text_of(const Bytes& bytes) {
    return {bytes.begin(), bytes.end()};
}
inline Bytes bytes_of_text(const std::string& text) {
    return {text.begin(), text.end()};
}

}  // namespace lumachrome
