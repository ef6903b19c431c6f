#include "products.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "emulator.hpp"

namespace emulator {
namespace {

constexpr unsigned kDepth = 16;

// PTX ISA, "Matrix Descriptor Format" and "Canonical Layouts" with 128-byte swizzling: in elements
// of 2 bytes, K-major ((8,m),(8,2)):((64,SBO),(1,8)), MN-major
// ((8,8,m),(8,k)):((1,8,LBO),(64,SBO)). Swizzle<3,4,3>: bits 4 to 6 of an address are XORed with
// bits 7 to 9.
class Matrix {
  public:
    Matrix(uint64_t descriptor, bool depth_along_rows) : depth_along_rows_(depth_along_rows) {
        const auto field = [&](unsigned first) {
            return static_cast<uint32_t>(descriptor >> first & 0x3fff) << 4;
        };
        start_ = field(0);
        leading_ = field(16);
        stride_ = field(32);
        if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0)
            throw Error("only matrices with 128-byte swizzling at 1024-byte boundaries are known");
    }
    uint32_t address(unsigned row, unsigned depth) const {
        const uint32_t at = depth_along_rows_
                                ? start_ + row % 64 * 2 + row / 64 * leading_ + depth % 8 * 128 +
                                      depth / 8 * stride_
                                : start_ + row % 8 * 128 + row / 8 * stride_ + depth * 2;
        return at ^ (at >> 3 & 0x70);
    }

  private:
    bool depth_along_rows_;
    uint32_t start_, leading_, stride_;
};

float bf16_at(const Products::Read& read, const Matrix& matrix, unsigned row, unsigned depth) {
    const uint32_t bits = uint32_t{read(matrix.address(row, depth))} << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The part of both matrices that a thread's part of the sum needs: two rows and a quarter of the
// columns.
struct Operands {
    float rows[2][kDepth];
    std::vector<std::array<float, kDepth>> columns;
    Operands(const Product& p, unsigned thread, const Products::Read& read)
        : columns(p.columns / 4) {
        const Matrix a(p.a, p.depth_along_rows), b(p.b, p.depth_along_rows);
        const unsigned first_row = thread / 32 * 16 + thread % 32 / 4;
        for (unsigned k = 0; k < kDepth; ++k) {
            for (unsigned i = 0; i < 2; ++i) rows[i][k] = bf16_at(read, a, first_row + 8 * i, k);
            for (unsigned c = 0; c < columns.size(); ++c)
                columns[c][k] = bf16_at(read, b, c / 2 * 8 + thread % 4 * 2 + c % 2, k);
        }
    }
};

void multiply(const Product& p, float* d, const Operands& operands) {
    for (unsigned c = 0; c < operands.columns.size(); ++c)
        for (unsigned i = 0; i < 2; ++i) {
            float sum = 0;
            for (unsigned k = 0; k < kDepth; ++k)
                sum += operands.rows[i][k] * operands.columns[c][k];
            float& to = d[c / 2 * 4 + 2 * i + c % 2];
            to = p.add ? to + sum : sum;
        }
}

}  // namespace

void Products::clear() {
    fenced_ = false;
    sums_.clear();
    open_.clear();
    groups_.clear();
}

Products::Sum& Products::sum_of(const Product& product) {
    const auto found = std::find_if(sums_.begin(), sums_.end(),
                                    [&](const Sum& sum) { return sum.d == product.d; });
    if (found != sums_.end()) return *found;
    if (!fenced_) throw Error("a product without products_fence() before it");
    float* const d = product.d;
    sums_.push_back({d, std::vector<float>(d, d + product.columns / 2), 0});
    std::fill(d, d + product.columns / 2, std::numeric_limits<float>::quiet_NaN());
    return sums_.back();
}

void Products::start(const Product& product, unsigned thread, const Read& read) {
    Operands(product, thread, read);
    ++sum_of(product).pending;
    open_.push_back(product);
}

void Products::commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
}

void Products::wait(int groups_left, unsigned thread, const Read& read) {
    while (groups_.size() > static_cast<size_t>(groups_left)) {
        for (const Product& product : groups_.front()) {
            Sum& sum = sum_of(product);
            multiply(product, sum.value.data(), Operands(product, thread, read));
            if (--sum.pending > 0) continue;
            std::copy(sum.value.begin(), sum.value.end(), sum.d);
            sums_.erase(sums_.begin() + (&sum - sums_.data()));
        }
        groups_.erase(groups_.begin());
    }
    if (sums_.empty()) fenced_ = false;
}

}  // namespace emulator
