// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A draw is a pure function
// of (seed, purpose, counters), so order, workers, threads and resuming cannot change it.
#pragma once
#include <array>
#include <cstdint>

namespace lumachrome {

class Random {
  public:
    enum class Purpose : uint32_t { init = 1, shuffle, augment, dropout, scenes, test, bootstrap };

    Random(uint64_t seed, Purpose purpose, uint32_t major = 0, uint32_t minor = 0)
        : key_{uint32_t(seed), uint32_t(seed >> 32)},
          counter_{0, uint32_t(purpose), major, minor} {}

    uint32_t bits();   // uniform over all 32-bit values
    double uniform();  // [0, 1), 32 random bits
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    int64_t below(int64_t n);  // uniform over 0..n-1, n <= 2^31
    double normal();           // mean 0, variance 1 (Box-Muller)

  private:
    std::array<uint32_t, 2> key_;
    std::array<uint32_t, 4> counter_;
    std::array<uint32_t, 4> block_{};
    int used_ = 4;
};

constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
        const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
        c = {uint32_t(p1 >> 32) ^ c[1] ^ k[0], uint32_t(p1), uint32_t(p0 >> 32) ^ c[3] ^ k[1],
             uint32_t(p0)};
        k[0] += 0x9E3779B9;
        k[1] += 0xBB67AE85;
    }
    return c;
}

}  // namespace lumachrome
