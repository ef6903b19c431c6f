// Everything that reads bytes from outside, as functions of bytes. libFuzzer drives them
// (driver.cpp, in a build with clang and AddressSanitizer), and the suite `fuzz` replays what was
// found worth keeping.
#pragma once
#include <cstdint>
#include <span>

namespace lumachrome {

struct FuzzTarget {
    const char* name;  // of its corpus, too
    // Returns for good input and for refused input; anything else is a finding.
    void (*run)(std::span<const uint8_t> bytes);
};
std::span<const FuzzTarget> fuzz_targets();

}  // namespace lumachrome
