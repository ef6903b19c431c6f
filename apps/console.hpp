// What people see: results on stdout, messages and progress on stderr. With --json, stdout carries
// one object and nothing else.
#pragma once
#include <chrono>
#include <mutex>
#include <string>

#include "tensor/json.hpp"

namespace lumachrome {

struct ConsoleOptions {
    bool json = false, quiet = false, verbose = false;
};

// Threads may share one.
class Console {
  public:
    Console();
    ~Console() { clear_progress(); }
    Console(const Console&) = delete;
    Console& operator=(const Console&) = delete;

    ConsoleOptions options;

    void print(const std::string& text);   // stdout, for people: nothing with --json
    void result(const Json& object);       // stdout, for programs: nothing without --json
    void note(const std::string& text);    // stderr, unless --quiet
    void detail(const std::string& text);  // stderr, with --verbose
    void error(const std::string& text);   // stderr, always, "lumachrome: text"

    // A bar on the last line of a terminal, below what else is said, until it is cleared; elsewhere
    // a plain line every ten seconds. A negative share: the end is unknown.
    void progress(double share, const std::string& text);
    void clear_progress();

  private:
    void line(const std::string& text);
    void show_bar();
    void clear_bar();
    std::mutex mutex_;
    bool terminal_, colors_;
    std::string bar_;  // as it is shown; empty: there is none
    std::chrono::steady_clock::time_point last_progress_;
};

// printf into a string, for tables and messages.
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
std::string duration(double seconds);                          // "42 s", "3 min 10 s", "5 h 2 min"
std::string counted(int64_t count, const std::string& thing);  // "1 photo", "2 photos"
double peak_rss_mib();                                         // of this process so far

}  // namespace lumachrome
