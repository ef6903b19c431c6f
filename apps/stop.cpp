#include "apps/stop.hpp"

#include <csignal>

namespace lumachrome {
namespace {

std::atomic<bool> requested = false;

}  // namespace

void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { requested = true; };
    for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
        // A terminal that closes may say so twice.
        action.sa_flags = signal == SIGHUP ? 0 : static_cast<int>(SA_RESETHAND);
        struct sigaction before {};
        sigaction(signal, nullptr, &before);
        if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);  // nohup
    }
}

const std::atomic<bool>& stop_requested() {
    return requested;
}

}  // namespace lumachrome
