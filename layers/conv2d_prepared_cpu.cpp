// The list, and `naive`: the definition with sums in double. The fast ones have files of their own.
#include <algorithm>

#include "layers/conv2d_prepared_drivers.hpp"
#include "layers/conv2d_prepared_winograd.hpp"

namespace lumachrome {
namespace {

int64_t any_row(const PreparedConv2dProblem&) {
    return 1;
}

void finish(const PreparedConv2dProblem& p, int64_t row, int64_t column, const float* bias,
            float* y) {
    if (p.border_bias) bias += (border_case(row, p.P) * 4 + border_case(column, p.Q)) * p.K;
    for (int64_t k = 0; k < p.K; ++k) {
        const float v = y[k] + bias[k];
        y[k] = p.activation ? activate_reference(*p.activation, v) : v;
    }
}

Tensor pack_naive(const Exec&, const PreparedConv2dProblem&, const Tensor& w) {
    return w;
}

void run_naive(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
               const float* bias, const RowBand& x, const RowBand& y) {
    const View<const float> w = packed.view<const float>();
    const int64_t shift = p.upsample ? 1 : 0;
    parallel_for(exec, y.rows.end - y.rows.begin, [&](int64_t i) {
        const int64_t row = y.rows.begin + i;
        for (int64_t q = 0; q < p.Q; ++q) {
            float* out = y.data + (i * p.Q + q) * p.K;
            for (int64_t k = 0; k < p.K; ++k) {
                double sum = 0;
                for (int64_t r = 0; r < p.spec.kernel; ++r)
                    for (int64_t s = 0; s < p.spec.kernel; ++s) {
                        const int64_t h = row * p.spec.stride + r - p.spec.pad();
                        const int64_t v = q * p.spec.stride + s - p.spec.pad();
                        if (h < 0 || h >= p.input_height() || v < 0 || v >= p.input_width())
                            continue;
                        const float* in =
                            x.data + (((h >> shift) - x.rows.begin) * p.W + (v >> shift)) * p.C;
                        for (int64_t c = 0; c < p.C; ++c)
                            sum += double(w(k, r, s, c)) * double(in[c]);
                    }
                out[k] = static_cast<float>(sum);
            }
            finish(p, row, q, bias, out);
        }
    });
}

constexpr PreparedConv2dImpl kImplementations[] = {
    {"narrow", narrow_reject, {narrow_row_step, narrow_pack, narrow_run}, {.avoid = narrow_avoid}},
    {"upsample9",
     upsample_reject,
     {upsample_row_step, upsample_pack, upsample_run, 9 / 36.},
     {.avoid = upsample_avoid}},
    kPreparedWinograd<6>,
    kPreparedWinograd<4>,
    {"stride2_p4",
     stride2_reject,
     {stride2_p4_row_step, stride2_p4_pack, stride2_p4_run, 81 / 144.},
     {.avoid = stride2_p4_avoid, .exact = false}},
    {"stride2_p2",
     stride2_reject,
     {stride2_p2_row_step, stride2_p2_pack, stride2_p2_run, 25 / 36.},
     {.avoid = stride2_p2_avoid}},
    {"direct", direct_reject, {direct_row_step, direct_pack, direct_run}},
    {"naive", accepts_all, {any_row, pack_naive, run_naive}},
};

}  // namespace

std::span<const PreparedConv2dImpl> conv2d_prepared_cpu() {
    return kImplementations;
}

Rows PreparedConv2dProblem::input_rows(Rows out) const {
    Rows in{out.begin * spec.stride - spec.pad(),
            (out.end - 1) * spec.stride - spec.pad() + spec.kernel};
    in = {std::max<int64_t>(0, in.begin), std::min(in.end, input_height())};
    return upsample ? Rows{in.begin / 2, (in.end + 1) / 2} : in;
}

std::string PreparedConv2dProblem::str() const {
    const auto map = [](int64_t h, int64_t w, int64_t c) {
        return std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(c);
    };
    const std::string side = std::to_string(spec.kernel);
    return map(H, W, C) + " -> " + map(P, Q, K) + ", " + (upsample ? "upsample, " : "") + side +
           "x" + side + (spec.stride > 1 ? " stride " + std::to_string(spec.stride) : "") +
           (activation ? std::string(", ") + name(*activation) : "");
}

PreparedConv2dProblem prepared_problem(const Conv2dSpec& spec, const Shape& x, const Shape& w,
                                       bool upsample) {
    const Shape doubled = upsample && x.rank() == 4 ? Shape{x[0], 2 * x[1], 2 * x[2], x[3]} : x;
    const Conv2dProblem p = conv2d_problem(spec, doubled, w);
    const Shape in[] = {x, w};
    if (p.N != 1) throw_shape_error("conv2d_prepared", "takes one photo at a time", in);
    return {.spec = spec,
            .upsample = upsample,
            .H = x[1],
            .W = x[2],
            .C = p.C,
            .P = p.P,
            .Q = p.Q,
            .K = p.K,
            .activation = {}};
}

}  // namespace lumachrome
