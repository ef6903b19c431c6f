#include "train/bootstrap.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/error.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

constexpr uint64_t kSeed = 1;  // fixed: the same photos give the same interval
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double quotient(double above, double below) {
    return below == 0 ? kNan : above / below;
}

// The order statistic at a share of the way, interpolated between its neighbours.
double quantile(const std::vector<double>& sorted, double share) {
    const double place = share * double(sorted.size() - 1);
    const auto i = static_cast<size_t>(place);
    const size_t next = std::min(i + 1, sorted.size() - 1);
    return sorted[i] + (place - double(i)) * (sorted[next] - sorted[i]);
}

}  // namespace

double Ratio::value() const {
    return quotient(std::accumulate(above.begin(), above.end(), 0.0),
                    std::accumulate(below.begin(), below.end(), 0.0));
}

std::vector<std::vector<double>> resample(const Exec& exec, std::span<const Ratio> ratios) {
    std::vector<std::vector<double>> values(ratios.size(), std::vector<double>(kResamples, kNan));
    if (ratios.empty()) return values;
    const size_t photos = ratios[0].above.size(), terms = 2 * ratios.size();
    // What a draw adds lies together: [photo][ratio][above, below].
    std::vector<double> added(photos * terms);
    std::vector<bool> known(ratios.size());
    for (size_t f = 0; f < ratios.size(); ++f) {
        const auto& [above, below] = ratios[f];
        if (above.size() != photos || below.size() != photos)
            throw ShapeError("resample: ratio " + std::to_string(f) + " is over " +
                             std::to_string(above.size()) + " and " + std::to_string(below.size()) +
                             " photos, the first over " + std::to_string(photos));
        for (size_t i = 0; i < photos; ++i) {
            added[i * terms + 2 * f] = above[i];
            added[i * terms + 2 * f + 1] = below[i];
        }
        known[f] = std::ssize(below) - std::count(below.begin(), below.end(), 0.0) >= 2;
    }
    parallel_for(exec, kResamples, [&](int64_t r) {
        Random random(kSeed, Random::Purpose::bootstrap, static_cast<uint32_t>(r));
        std::vector<double> sums(terms);
        for (size_t draw = 0; draw < photos; ++draw) {
            const auto photo = static_cast<size_t>(random.below(static_cast<int64_t>(photos)));
            for (size_t t = 0; t < terms; ++t) sums[t] += added[photo * terms + t];
        }
        for (size_t f = 0; f < ratios.size(); ++f)
            if (known[f])
                values[f][static_cast<size_t>(r)] = quotient(sums[2 * f], sums[2 * f + 1]);
    });
    return values;
}

Interval middle(std::vector<double> values) {
    std::erase_if(values, [](double v) { return std::isnan(v); });
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    return {quantile(values, (1 - kConfidence) / 2), quantile(values, (1 + kConfidence) / 2)};
}

}  // namespace lumachrome
