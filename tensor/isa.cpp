#include "tensor/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

std::vector<Isa> detect() {
    std::vector<Isa> found{Isa::generic};
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2) found.push_back(Isa::avx2);
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd"))
        found.push_back(Isa::avx512);
#endif
    return found;
}

Isa from_environment() {
    const char* wanted = std::getenv("LUMACHROME_ISA");
    if (!wanted || !*wanted) return supported_isas().back();
    for (const Isa isa : supported_isas())
        if (name(isa) == wanted) return isa;
    std::string names;
    for (const Isa isa : supported_isas()) names += " " + std::string(name(isa));
    throw UsageError("LUMACHROME_ISA: " + std::string(wanted) + " is none of" + names);
}

// Threads that infer side by side ask for it first, so its start is a static of a function.
std::atomic<Isa>& chosen() {
    static std::atomic<Isa> chosen_isa{from_environment()};
    return chosen_isa;
}

}  // namespace

std::string_view name(Isa isa) {
    return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "generic";
}

std::span<const Isa> supported_isas() {
    static const std::vector<Isa> isas = detect();
    return isas;
}

Isa isa() {
    return chosen().load(std::memory_order_relaxed);
}

ForcedIsa::ForcedIsa(Isa forced) : kept_(chosen().exchange(forced)) {}

ForcedIsa::~ForcedIsa() {
    chosen() = kept_;
}

}  // namespace lumachrome
