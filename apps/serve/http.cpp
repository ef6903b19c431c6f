#include "apps/serve/http.hpp"

#include <microhttpd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <mutex>
#include <unordered_map>

#include "apps/serve/connections.hpp"
#include "apps/serve/listener.hpp"
#include "apps/serve/worker.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

using namespace std::chrono_literals;
using Clock = Connections::Clock;
using Phase = Connections::Phase;

constexpr size_t kConnectionBytes = 24 << 10;  // buffers: the head of a request and of its reply
constexpr size_t kWaiting = 64;                // requests before the worker, each at most a body
constexpr int64_t kHeldBytes = int64_t{256} << 20;  // of bodies and replies, all together
constexpr std::chrono::milliseconds kTick = 100ms, kShortTick = 10ms, kDrain = 30s;

constexpr std::pair<const char*, const char*> kSecurityHeaders[] = {
    {"Content-Security-Policy",
     "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
     "form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cache-Control", "no-store"},
};

}  // namespace

class HttpServer::Loop {
  public:
    Loop(const std::string& address, int port);
    ~Loop();
    void run(Site& site, const std::atomic<bool>& stop);
    int port() const { return listener_.port(); }

  private:
    struct Callbacks;
    // One request, from its first line until its reply is gone.
    struct Exchange {
        std::string target;
        bool judged = false;
        Admitted request{};
        std::vector<uint8_t> body;
        int64_t received = 0, charged = 0;
        std::optional<Reply> reply;  // the worker's to write while it has the exchange
        std::atomic<bool> given_up = false;
    };

    void turn();
    std::vector<pollfd> watched(bool room) const;
    void accept_newcomers();
    void give_up_on(const std::vector<pollfd>& polled);
    void resume_finished();
    void cut_overdue();

    MHD_Result handle(MHD_Connection* connection, Exchange& exchange, const char* method,
                      const char* version, const char* data, size_t& bytes);
    void judge(MHD_Connection* connection, Exchange& exchange, const char* method,
               const char* version);
    MHD_Result take(Exchange& exchange, const char* data, size_t& bytes);
    bool answer(MHD_Connection* connection, Exchange& exchange);
    bool start(MHD_Connection* connection, Exchange& exchange, Site::Work work);
    MHD_Result send(MHD_Connection* connection, Exchange& exchange);
    void completed(MHD_Connection* connection, Exchange* exchange);
    void begin(MHD_Connection* connection, Phase phase, int64_t bytes = 0);

    Listener listener_;
    Connections connections_{{}};
    std::unordered_map<MHD_Connection*, Connections::Handle> places_;
    std::unordered_map<MHD_Connection*, Exchange*> working_;
    const Newcomer* arriving_ = nullptr;
    Traffic traffic_;
    Site* site_ = nullptr;
    bool stopping_ = false;
    MHD_Daemon* daemon_ = nullptr;
    int epoll_ = -1;

    std::mutex finished_mutex_;
    std::vector<MHD_Connection*> finished_;  // their replies are there
    int finished_event_;
    Worker worker_{kWaiting};  // last: it ends before what it uses does
};

// What the library calls. No exception may pass through it.
struct HttpServer::Loop::Callbacks {
    // The one place where the target is still as the client sent it.
    static void* first_line(void*, const char* target, MHD_Connection*) try {
        auto exchange = std::make_unique<Exchange>();
        exchange->target = target;
        return exchange.release();
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
    static MHD_Result request(void* self, MHD_Connection* connection, const char*,
                              const char* method, const char* version, const char* data,
                              size_t* bytes, void** exchange) try {
        if (!*exchange) return MHD_NO;
        return static_cast<Loop*>(self)->handle(connection, *static_cast<Exchange*>(*exchange),
                                                method, version, data, *bytes);
    } catch (const std::exception&) {
        return MHD_NO;  // out of memory: the connection is closed
    }
    static void completed(void* self, MHD_Connection* connection, void** exchange,
                          MHD_RequestTerminationCode) {
        static_cast<Loop*>(self)->completed(connection, static_cast<Exchange*>(*exchange));
        *exchange = nullptr;
    }
    static void connection(void* self, MHD_Connection* connection, void**,
                           MHD_ConnectionNotificationCode what) {
        Loop& loop = *static_cast<Loop*>(self);
        if (what == MHD_CONNECTION_NOTIFY_STARTED) {
            loop.places_[connection] =
                loop.connections_.enter(loop.arriving_->socket, loop.arriving_->name, Clock::now());
        } else {
            loop.connections_.leave(loop.places_.at(connection));
            loop.places_.erase(connection);
        }
    }
    static size_t unescape(void*, MHD_Connection*, char* text) {  // nothing
        return std::char_traits<char>::length(text);
    }
};

HttpServer::Loop::Loop(const std::string& address, int port)
    : listener_(address, port), finished_event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    std::signal(SIGPIPE, SIG_IGN);  // a client that leaves is an error of send()
    daemon_ = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME,
                               0, nullptr, nullptr, &Callbacks::request, this,                //
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionBytes,          //
                               MHD_OPTION_STRICT_FOR_CLIENT, 1,                               //
                               MHD_OPTION_UNESCAPE_CALLBACK, &Callbacks::unescape, nullptr,   //
                               MHD_OPTION_URI_LOG_CALLBACK, &Callbacks::first_line, nullptr,  //
                               MHD_OPTION_NOTIFY_COMPLETED, &Callbacks::completed, this,      //
                               MHD_OPTION_NOTIFY_CONNECTION, &Callbacks::connection, this,    //
                               MHD_OPTION_END);
    if (!daemon_ || finished_event_ < 0) throw ResourceError("serve: cannot start the HTTP server");
    epoll_ = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

HttpServer::Loop::~Loop() {
    if (daemon_) MHD_stop_daemon(daemon_);
    close(finished_event_);
}

void HttpServer::Loop::run(Site& site, const std::atomic<bool>& stop) {
    site_ = &site;
    while (!stop) turn();
    stopping_ = true;
    listener_.close_all();
    for (const auto& connection : connections_.all())
        if (connection.phase == Phase::head || connection.phase == Phase::idle)
            shutdown(connection.socket, SHUT_RDWR);
    const auto last = Clock::now() + kDrain;
    while (connections_.size() > 0 && Clock::now() < last) turn();
    for (const auto& [connection, exchange] : working_) exchange->given_up = true;
    while (!working_.empty()) turn();  // the library insists: nobody may be suspended when it stops
}

void HttpServer::Loop::turn() {
    const bool room = !connections_.full() || connections_.to_make_room(Clock::now());
    std::vector<pollfd> sockets = watched(room);
    auto most = room ? kTick : kShortTick;
    MHD_UNSIGNED_LONG_LONG pending = 0;
    if (MHD_get_timeout(daemon_, &pending) == MHD_YES)
        most = std::min(most, std::chrono::milliseconds(pending));
    poll(sockets.data(), sockets.size(), static_cast<int>(most.count()));
    give_up_on(sockets);
    resume_finished();
    accept_newcomers();
    MHD_run(daemon_);
    cut_overdue();
    site_->tick();
}

// Whoever waits for the worker is looked at as well: nobody is there any more when a page was
// closed or asked for something newer.
std::vector<pollfd> HttpServer::Loop::watched(bool room) const {
    std::vector<pollfd> sockets{{epoll_, POLLIN, 0}, {finished_event_, POLLIN, 0}};
    if (room)
        for (const int socket : listener_.sockets()) sockets.push_back({socket, POLLIN, 0});
    for (const auto& [connection, exchange] : working_)
        if (!exchange->given_up) sockets.push_back({places_.at(connection)->socket, POLLRDHUP, 0});
    return sockets;
}

void HttpServer::Loop::give_up_on(const std::vector<pollfd>& polled) {
    for (const auto& [connection, exchange] : working_)
        for (const pollfd& socket : polled)
            if (socket.fd == places_.at(connection)->socket &&
                (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
                exchange->given_up = true;
}

void HttpServer::Loop::resume_finished() {
    std::vector<MHD_Connection*> finished;
    {
        const std::lock_guard lock(finished_mutex_);
        finished.swap(finished_);
        eventfd_t count = 0;
        eventfd_read(finished_event_, &count);
    }
    for (MHD_Connection* connection : finished) {
        working_.erase(connection);
        MHD_resume_connection(connection);
    }
}

void HttpServer::Loop::accept_newcomers() {
    for (const int socket : listener_.sockets())
        while (!connections_.full() || connections_.to_make_room(Clock::now())) {
            const std::optional<Newcomer> newcomer = listener_.accept(socket);
            if (!newcomer) break;
            if (connections_.has_too_many(newcomer->name)) {
                close(newcomer->socket);
                continue;
            }
            if (connections_.full()) {
                shutdown(*connections_.to_make_room(Clock::now()), SHUT_RDWR);
                MHD_run(daemon_);  // sees that it is closed
            }
            arriving_ = &*newcomer;
            MHD_add_connection(daemon_, newcomer->socket,
                               reinterpret_cast<const sockaddr*>(&newcomer->address),
                               newcomer->address_bytes);
            arriving_ = nullptr;
        }
}

void HttpServer::Loop::cut_overdue() {
    const auto now = Clock::now();
    for (const auto& connection : connections_.all())
        if (now >= connection.deadline) shutdown(connection.socket, SHUT_RDWR);
}

void HttpServer::Loop::begin(MHD_Connection* connection, Phase phase, int64_t bytes) {
    connections_.begin(places_.at(connection), phase, Clock::now(), bytes);
}

// Called once with the head, then with each piece of the body, then once more; and again when a
// suspended connection is resumed.
MHD_Result HttpServer::Loop::handle(MHD_Connection* connection, Exchange& exchange,
                                    const char* method, const char* version, const char* data,
                                    size_t& bytes) {
    if (!exchange.judged) {
        judge(connection, exchange, method, version);
        return exchange.reply ? send(connection, exchange) : MHD_YES;
    }
    if (bytes > 0) return take(exchange, data, bytes);
    if (!exchange.reply && !answer(connection, exchange)) return MHD_YES;
    return send(connection, exchange);
}

void HttpServer::Loop::judge(MHD_Connection* connection, Exchange& exchange, const char* method,
                             const char* version) {
    exchange.judged = true;
    begin(connection, Phase::body);
    HttpRequest request{method, exchange.target, version, {}};
    const auto add = [](void* headers, MHD_ValueKind, const char* name,
                        const char* value) -> MHD_Result {
        static_cast<Headers*>(headers)->emplace_back(name, value ? value : "");
        return MHD_YES;
    };
    MHD_get_connection_values(connection, MHD_HEADER_KIND, static_cast<MHD_KeyValueIterator>(add),
                              &request.headers);
    Verdict verdict = site_->judge(request);
    if (const auto* refusal = std::get_if<Refusal>(&verdict))
        exchange.reply = error_reply(refusal->status, refusal->message, refusal->headers);
    else
        exchange.request = std::move(std::get<Admitted>(verdict));
}

// What is too much is read and thrown away, because the library lets nobody answer before a body's
// end; who goes on sending is cut.
MHD_Result HttpServer::Loop::take(Exchange& exchange, const char* data, size_t& bytes) {
    exchange.received += static_cast<int64_t>(bytes);
    const int64_t most = exchange.request.body_most;
    if (exchange.received > 2 * most) return MHD_NO;
    if (exchange.received > most)
        exchange.reply = error_reply(413, "at most " + std::to_string(most) + " bytes are taken");
    else if (traffic_.bytes > kHeldBytes)
        exchange.reply = busy_reply("too much is being sent at the same time; try again");
    if (exchange.reply)
        exchange.body = {};
    else
        exchange.body.insert(exchange.body.end(), data, data + bytes);
    bytes = 0;
    const auto held = static_cast<int64_t>(exchange.body.capacity());
    traffic_.bytes += held - exchange.charged;
    exchange.charged = held;
    return MHD_YES;
}

// False when the worker has it, and the exchange with it.
bool HttpServer::Loop::answer(MHD_Connection* connection, Exchange& exchange) {
    traffic_.connections = connections_.size();
    traffic_.waiting = worker_.waiting();
    traffic_.busy_seconds = worker_.busy_seconds();
    auto answered = site_->answer(exchange.request, std::move(exchange.body), traffic_);
    if (auto* reply = std::get_if<Reply>(&answered))
        exchange.reply = std::move(*reply);
    else if (traffic_.bytes > kHeldBytes)
        exchange.reply = busy_reply("too much is being sent at the same time; try again");
    else if (start(connection, exchange, std::move(std::get<Site::Work>(answered))))
        return false;
    else
        exchange.reply = busy_reply("other photos are being worked on; try again in a second");
    return true;
}

bool HttpServer::Loop::start(MHD_Connection* connection, Exchange& exchange, Site::Work work) {
    const bool accepted = worker_.submit([this, connection, &exchange, work = std::move(work)] {
        exchange.reply = work(exchange.given_up);
        const std::lock_guard lock(finished_mutex_);
        finished_.push_back(connection);
        eventfd_write(finished_event_, 1);
    });
    if (!accepted) return false;
    working_[connection] = &exchange;
    begin(connection, Phase::work);
    MHD_suspend_connection(connection);
    return true;
}

MHD_Result HttpServer::Loop::send(MHD_Connection* connection, Exchange& exchange) {
    struct Sent {  // lives until the last byte is gone
        std::vector<uint8_t> bytes;
        int64_t& held;
    };
    Reply& reply = *exchange.reply;
    const auto size = static_cast<int64_t>(reply.body.size());
    auto* sent = new Sent{std::move(reply.body), traffic_.bytes};
    traffic_.bytes += size;
    MHD_Response* response = MHD_create_response_from_buffer_with_free_callback_cls(
        sent->bytes.size(), sent->bytes.data(),
        [](void* cls) {
            auto* done = static_cast<Sent*>(cls);
            done->held -= static_cast<int64_t>(done->bytes.size());
            delete done;
        },
        sent);
    if (!response) {
        traffic_.bytes -= size;
        delete sent;
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", reply.type.c_str());
    for (const auto& [name, value] : kSecurityHeaders)
        MHD_add_response_header(response, name, value);
    for (const auto& [name, value] : reply.headers)
        MHD_add_response_header(response, name.c_str(), value.c_str());
    if (stopping_ || connections_.crowded())
        MHD_add_response_header(response, "Connection", "close");
    begin(connection, Phase::reply, size);
    ++traffic_.replies[reply.status];
    const MHD_Result queued =
        MHD_queue_response(connection, static_cast<unsigned>(reply.status), response);
    MHD_destroy_response(response);  // gives up our share of it
    return queued;
}

void HttpServer::Loop::completed(MHD_Connection* connection, Exchange* exchange) {
    if (exchange) traffic_.bytes -= exchange->charged;
    delete exchange;
    if (const auto place = places_.find(connection); place != places_.end())
        connections_.begin(place->second, Phase::idle, Clock::now());
}

HttpServer::HttpServer(const std::string& address, int port)
    : loop_(std::make_unique<Loop>(address, port)) {}
HttpServer::~HttpServer() = default;

int HttpServer::port() const {
    return loop_->port();
}

void HttpServer::run(Site& site, const std::atomic<bool>& stop) {
    loop_->run(site, stop);
}

}  // namespace lumachrome
