#include "layers/conv2d_prepared_winograd.hpp"

#include "layers/conv2d_winograd_tiles.hpp"

namespace lumachrome {
namespace {

WinogradWeights weights(const PreparedConv2dProblem& p, int64_t out) {
    const WinogradTiles& tiles = winograd_tiles_for(isa());
    return {out == 4 ? tiles.f4 : tiles.f6, p.C, p.K};
}

// What a map costs, in products for a pair of channels. Reading one transformed weight from memory
// takes about as long as kWeight products.
constexpr int64_t kWeight = 12;
int64_t winograd_work(const PreparedConv2dProblem& p, int64_t out) {
    const int64_t tiles = divide_up(p.P, out) * divide_up(p.Q, out);
    return (out + 2) * (out + 2) * (tiles + kWeight);
}

}  // namespace

const char* prepared_winograd_reject(const PreparedConv2dProblem& p) {
    if (p.upsample) return "does not upsample";
    if (p.spec.kernel != 3) return "needs a 3x3 kernel";
    if (p.spec.stride != 1) return "needs stride 1";
    return nullptr;
}

template <int64_t kOut>
const char* prepared_winograd_avoid(const PreparedConv2dProblem& p) {
    constexpr int64_t kChannels = 16;
    if (p.C < kChannels || p.K < kChannels) return "too few channels to pay for the transforms";
    const int64_t work = winograd_work(p, kOut);
    if (work > winograd_work(p, kOut == 4 ? 6 : 4)) return "the map suits other tiles better";
    if (work > 9 * (p.P * p.Q + kWeight)) return "too few pixels to pay for the transforms";
    return nullptr;
}

template <int64_t kOut>
int64_t prepared_winograd_row_step(const PreparedConv2dProblem&) {
    return kOut;
}

template <int64_t kOut>
Tensor prepared_winograd_pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w) {
    const WinogradWeights form = weights(p, kOut);
    const Tensor packed = Tensor::empty({form.floats});
    form.pack(exec, w.data<float>(), packed.data<float>());
    return packed;
}

template <int64_t kOut>
void prepared_winograd_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                           const float* bias, const RowBand& x, const RowBand& y) {
    const WinogradWeights form = weights(p, kOut);
    WinogradFinish finish{.bias = bias};
    if (p.border_bias) {
        finish.border_stride = p.K;
        finish.rows = p.P;
        finish.cols = p.Q;
    }
    if (p.activation)
        finish.epilogue = *p.activation == Activation::relu ? Epilogue::relu : Epilogue::sigmoid;
    const WinogradConvolution convolution{form,
                                          {1, p.H, p.W, kOut, y.rows.begin, y.rows.end},
                                          packed.data<float>(),
                                          x.data,
                                          x.rows.begin,
                                          y.data,
                                          finish};
    convolution.run(exec, scratch<float, Scratch::operation>(convolution.shared_floats()));
}

#define LUMACHROME_INSTANTIATE(out)                                                        \
    template const char* prepared_winograd_avoid<out>(const PreparedConv2dProblem&);       \
    template int64_t prepared_winograd_row_step<out>(const PreparedConv2dProblem&);        \
    template Tensor prepared_winograd_pack<out>(const Exec&, const PreparedConv2dProblem&, \
                                                const Tensor&);                            \
    template void prepared_winograd_run<out>(const Exec&, const PreparedConv2dProblem&,    \
                                             const Tensor&, const float*, const RowBand&,  \
                                             const RowBand&);
LUMACHROME_INSTANTIATE(4)
LUMACHROME_INSTANTIATE(6)
#undef LUMACHROME_INSTANTIATE

}  // namespace lumachrome
