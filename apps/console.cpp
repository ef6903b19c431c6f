#include "apps/console.hpp"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "apps/exit_code.hpp"
#include "tensor/error.hpp"
#include "train/distributed/communicator.hpp"
#include "train/train_step.hpp"

namespace lumachrome {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr int kBarCells = 24;
constexpr const char* kClear = "\r\033[K";  // the terminal's line

int terminal_columns() {
    winsize size{};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// File names and metadata come from strangers: no line breaks, no escape sequences.
std::string printable(std::string text, char allowed = '?') {
    std::replace_if(
        text.begin(), text.end(),
        [allowed](char c) {
            return c != allowed && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f);
        },
        '?');
    return text;
}

}  // namespace

int exit_code(const std::exception& error) {
    if (dynamic_cast<const UsageError*>(&error)) return kBadUsage;
    if (dynamic_cast<const InputError*>(&error)) return kBadInput;
    if (dynamic_cast<const ModelError*>(&error)) return kBadModel;
    if (dynamic_cast<const NonFiniteError*>(&error)) return kCheckFailed;
    if (dynamic_cast<const PeerError*>(&error)) return kStoppedEarly;
    if (dynamic_cast<const ResourceError*>(&error)) return kNoResource;
    if (dynamic_cast<const std::bad_alloc*>(&error)) return kNoResource;
    return kInternalError;
}

std::string message(const std::exception& error) {
    return dynamic_cast<const std::bad_alloc*>(&error) ? "out of memory" : error.what();
}

Console::Console()
    : terminal_(isatty(STDERR_FILENO) == 1), colors_(terminal_ && !std::getenv("NO_COLOR")) {
    // What is done within seconds needs no log of its progress.
    if (!terminal_) last_progress_ = Clock::now();
}

void Console::line(const std::string& text) {
    std::fprintf(stderr, "%s%s\n", bar_.empty() ? "" : kClear, text.c_str());
    show_bar();
}

void Console::show_bar() {
    if (bar_.empty()) return;
    std::fprintf(stderr, "%s%s", kClear, bar_.c_str());
    std::fflush(stderr);
}

void Console::print(const std::string& text) {
    if (options.json) return;
    const std::lock_guard lock(mutex_);
    clear_bar();
    std::printf("%s\n", printable(text, '\n').c_str());
    std::fflush(stdout);
}

void Console::result(const Json& object) {
    if (!options.json) return;
    const std::lock_guard lock(mutex_);
    clear_bar();
    std::printf("%s\n", object.dump().c_str());
    std::fflush(stdout);
}

void Console::note(const std::string& text) {
    if (options.quiet) return;
    const std::lock_guard lock(mutex_);
    line(printable(text));
}

void Console::detail(const std::string& text) {
    if (!options.verbose) return;
    const std::lock_guard lock(mutex_);
    line(printable(text));
}

void Console::error(const std::string& text) {
    const std::lock_guard lock(mutex_);
    line((colors_ ? "\033[1;31mlumachrome:\033[0m " : "lumachrome: ") + printable(text));
}

void Console::progress(double share, const std::string& text) {
    if (options.quiet) return;
    const std::lock_guard lock(mutex_);
    const Clock::time_point now = Clock::now();
    if (now - last_progress_ < (terminal_ ? 100ms : 10000ms)) return;
    last_progress_ = now;
    if (!terminal_) {
        line(printable(text));
        return;
    }
    std::string bar;
    if (share >= 0) {
        const int filled = static_cast<int>(std::lround(std::min(share, 1.0) * kBarCells));
        bar = "[" + std::string(static_cast<size_t>(filled), '#') +
              std::string(static_cast<size_t>(kBarCells - filled), '.') + "] ";
    }
    bar += printable(text);
    bar.resize(std::min(bar.size(), static_cast<size_t>(terminal_columns() - 1)));
    bar_ = std::move(bar);
    show_bar();
}

void Console::clear_progress() {
    const std::lock_guard lock(mutex_);
    clear_bar();
}

void Console::clear_bar() {
    if (!bar_.empty()) std::fputs(kClear, stderr);
    bar_.clear();
}

std::string format(const char* pattern, ...) {
    va_list arguments, again;
    va_start(arguments, pattern);
    va_copy(again, arguments);
    std::string text(static_cast<size_t>(std::vsnprintf(nullptr, 0, pattern, arguments)), '\0');
    std::vsnprintf(text.data(), text.size() + 1, pattern, again);
    va_end(again);
    va_end(arguments);
    return text;
}

std::string duration(double seconds) {
    const auto s = static_cast<long>(std::lround(seconds));
    if (s < 60) return format("%ld s", s);
    if (s < 3600) return format("%ld min %ld s", s / 60, s % 60);
    return format("%ld h %ld min", s / 3600, s / 60 % 60);
}

std::string counted(int64_t count, const std::string& thing) {
    return format("%ld ", count) + thing + (count == 1 ? "" : "s");
}

double peak_rss_mib() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return double(usage.ru_maxrss) / 1024;
}

}  // namespace lumachrome
