// The products of warpgroups (wgmma) of one emulated thread. A product reads shared memory as its
// matrix descriptors say and happens as late as it may: when it is waited for. Until then the
// thread's part of the sum is NaN, and shared memory that is written too early spoils it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace emulator {

struct Product {  // see tensor/cuda/wgmma.cuh
    float* d;
    uint64_t a, b;
    unsigned columns;
    bool depth_along_rows, add;
};

class Products {
  public:
    // Two bytes at an address within dynamic shared memory; throws Error where they may not be
    // read: then a product may not even begin.
    using Read = std::function<uint16_t(uint32_t address)>;

    void clear();
    void fence() { fenced_ = true; }
    void start(const Product& product, unsigned thread_of_warpgroup, const Read& read);
    void commit();
    void wait(int groups_left, unsigned thread_of_warpgroup, const Read& read);
    bool under_way() const { return !sums_.empty(); }

  private:
    struct Sum {
        float* d;
        std::vector<float> value;
        int pending;
    };
    Sum& sum_of(const Product& product);
    bool fenced_ = false;
    std::vector<Sum> sums_;
    std::vector<Product> open_;
    std::vector<std::vector<Product>> groups_;
};

}  // namespace emulator
