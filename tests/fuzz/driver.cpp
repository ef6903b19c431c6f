// libFuzzer's way in. The target is chosen by LUMACHROME_FUZZ.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fuzz/targets.hpp"

namespace {

const lumachrome::FuzzTarget& chosen() {
    const char* wanted = std::getenv("LUMACHROME_FUZZ");
    for (const auto& target : lumachrome::fuzz_targets())
        if (wanted && std::strcmp(wanted, target.name) == 0) return target;
    std::fprintf(stderr, "LUMACHROME_FUZZ names none of:");
    for (const auto& target : lumachrome::fuzz_targets()) std::fprintf(stderr, " %s", target.name);
    std::fprintf(stderr, "\n");
    std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const lumachrome::FuzzTarget& target = chosen();
    target.run({data, size});
    return 0;
}
