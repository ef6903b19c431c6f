// What the process tells its caller; scripts rely on the numbers.
#pragma once
#include <exception>
#include <string>

namespace lumachrome {

inline constexpr int kOk = 0, kInternalError = 1, kBadUsage = 2, kBadInput = 3, kBadModel = 4,
                     kSomeFailed = 5, kCheckFailed = 6, kNoResource = 69, kStoppedEarly = 75;

// In the words of the help text and the manual page.
struct ExitCode {
    int code;
    const char* meaning;
};
inline constexpr ExitCode kExitCodes[] = {
    {kOk, "ok"},
    {kInternalError, "internal error"},
    {kBadUsage, "usage"},
    {kBadInput, "bad input"},
    {kBadModel, "bad model"},
    {kSomeFailed, "some of a batch failed"},
    {kCheckFailed, "a check failed"},
    {kNoResource, "memory, disk or device unavailable"},
    {kStoppedEarly, "stopped early, resumable"},
};

int exit_code(const std::exception& error);
std::string message(const std::exception& error);  // its text

}  // namespace lumachrome
