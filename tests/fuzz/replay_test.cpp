// Inputs that fuzzing found worth keeping, through the same functions: nothing crashes, everything
// that is wrong is refused in one line.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/targets.hpp"

using namespace lumachrome;

TEST_CASE("what was found by fuzzing is taken or refused, never worse") {
    const std::filesystem::path corpora =
        std::filesystem::path(std::getenv("LUMACHROME_SOURCE")) / "tests/fuzz/corpus";
    for (const FuzzTarget& target : fuzz_targets()) {
        CAPTURE(target.name);
        int inputs = 0;
        for (const auto& entry : std::filesystem::directory_iterator(corpora / target.name)) {
            std::ifstream file(entry.path(), std::ios::binary);
            const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
            CAPTURE(entry.path().filename().string());
            CHECK_NOTHROW(
                target.run({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
            ++inputs;
        }
        CHECK(inputs > 0);
    }
}
