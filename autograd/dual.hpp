// Dual numbers: value + derivative along one direction. Evaluating an executable definition on them
// gives the exact directional derivative J v, without a step size; the adjoint test
// <dy, J v> = <J^T dy, v> then checks any backward. This is forward-mode differentiation, and it
// shares no code with the backward kernels it judges.
#pragma once
#include <cmath>

namespace lumachrome {

struct Dual {
    double value = 0;
    double derivative = 0;

    Dual() = default;
    Dual(double v) : value(v) {}
    Dual(double v, double d) : value(v), derivative(d) {}
    Dual& operator+=(Dual b) { return *this = {value + b.value, derivative + b.derivative}; }
};

inline Dual operator+(Dual a, Dual b) {
    return {a.value + b.value, a.derivative + b.derivative};
}
inline Dual operator-(Dual a, Dual b) {
    return {a.value - b.value, a.derivative - b.derivative};
}
inline Dual operator-(Dual a) {
    return {-a.value, -a.derivative};
}
inline Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.derivative * b.value + a.value * b.derivative};
}
inline Dual operator/(Dual a, Dual b) {
    const double q = a.value / b.value;
    return {q, (a.derivative - q * b.derivative) / b.value};
}
inline bool operator<(Dual a, Dual b) {
    return a.value < b.value;
}
inline bool operator>(Dual a, Dual b) {
    return a.value > b.value;
}

inline Dual exp(Dual a) {
    const double e = std::exp(a.value);
    return {e, e * a.derivative};
}
inline Dual log(Dual a) {
    return {std::log(a.value), a.derivative / a.value};
}
inline Dual sqrt(Dual a) {
    const double s = std::sqrt(a.value);
    return {s, a.derivative / (2 * s)};
}

}  // namespace lumachrome
