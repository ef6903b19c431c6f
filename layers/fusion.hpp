// Fusion layer (paper, section 3.2, eq. 3): joins the local map with the global vector of the
// photo.
//
//   y(u,v) = b + W [m(u,v); g]         (the activation follows as its own op)
//
//   m [N,H,W,M]   g [N,G]   w [K,R,S,M+G], the local channels first   b [K]   y [N,H,W,K]
//
// The paper writes W as pointwise; the published weights have a 3x3 kernel over the local map
// joined with the replicated vector. Here nothing is replicated: the sum splits into a convolution
// of m and a term that is constant over the photo except where the kernel hangs over the border,
//
//   y(n,u,v,k) = conv(m, w_m) + b(k) + sum of t(n,k,r,s) over the taps (r,s) inside the image,
//   t(n,k,r,s) = sum_c w_g(k,r,s,c) g(n,c)
//
// so the global half is 16 bias vectors a photo (2x2 cases of each axis), and a change of style
// costs no convolution. Backward, with e(n,k,r,s) = sum of dy(n,u,v,k) where tap (r,s) is inside:
//   dw_g = e^T g,  dg = e w_g,  db = sum dy,  the local half as in conv2d.
#pragma once
#include "layers/conv2d.hpp"
#include "layers/extents.hpp"

namespace lumachrome {

template <class T>
void fusion_reference(const Conv2dSpec& spec, View<const T> m, View<const T> g, View<const T> w,
                      View<const T> b, View<T> y) {
    const int64_t H = m.shape[1], W = m.shape[2], M = m.shape[3], G = g.shape[1];
    for (int64_t n = 0; n < y.shape[0]; ++n)
        for (int64_t p = 0; p < H; ++p)
            for (int64_t q = 0; q < W; ++q)
                for (int64_t k = 0; k < y.shape[3]; ++k) {
                    T sum = b(k);
                    for (int64_t r = 0; r < spec.kernel; ++r)
                        for (int64_t s = 0; s < spec.kernel; ++s) {
                            const int64_t h = p + r - spec.pad(), v = q + s - spec.pad();
                            if (h < 0 || h >= H || v < 0 || v >= W) continue;
                            for (int64_t c = 0; c < M; ++c) sum += w(k, r, s, c) * m(n, h, v, c);
                            for (int64_t c = 0; c < G; ++c) sum += w(k, r, s, M + c) * g(n, c);
                        }
                    y(n, p, q, k) = sum;
                }
}

// Whether a tap of R along an axis of that border case lies inside the image.
constexpr bool tap_inside(int64_t tap, int64_t axis_case, int64_t R) {
    const int64_t offset = tap - R / 2;
    return !(offset < 0 && (axis_case & 1)) && !(offset > 0 && (axis_case & 2));
}
// [N,16,K]: b(k) + sum of t over the taps inside the image, for each pair (rows, columns) of border
// cases. t [N,K,R,R], b [K].
Tensor border_biases(const Exec& exec, const Tensor& t, const Tensor& b);

struct FusionProblem {
    int64_t N, H, W, K, R;
};
// Where the maps are bf16, t, e, b and everything of the weights are f32.
struct FusionKernel {
    // w [K,R,R,M+G] -> local [K,R,R,M] and global [K*R*R,G], and dw from the gradients of the
    // halves
    void (*split)(const Exec&, const Tensor& w, const Tensor& local, const Tensor& global);
    void (*join)(const Exec&, const Tensor& local, const Tensor& global, const GradIn& dw);
    // bias [N,16,K], as above
    void (*border_biases)(const Exec&, const FusionProblem&, const Tensor& t, const Tensor& b,
                          const Tensor& bias);
    // y(n,h,w,k) += b(k) + sum of t [N, K*R*R] over the taps inside the image
    void (*add_global)(const Exec&, const FusionProblem&, const Tensor& t, const Tensor& b,
                       const Tensor& y);
    // e [N, K*R*R], as above
    void (*tap_sums)(const Exec&, const FusionProblem&, const Tensor& dy, const Tensor& e);
};
using FusionImpl = Implementation<FusionProblem, FusionKernel>;
std::span<const FusionImpl> fusion_cpu();
std::span<const FusionImpl> fusion_cuda();

// Inputs m, g, w, b.
struct FusionOp : Op {
    explicit FusionOp(int64_t kernel) : spec{kernel, 1} {}
    Conv2dSpec spec;

    std::string name() const override { return "fusion"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        fusion_reference<Dual>(spec, in[0], in[1], in[2], in[3], y);
    }
    std::optional<Rows> input_rows(Rows out) const override {
        return Rows{out.begin - spec.pad(), out.end + spec.pad()};
    }
    int64_t macs(std::span<const Shape> in) const override;
};

// The weights of one convolution over M+G channels, named as such in checkpoints.
struct Fusion {
    Fusion(int64_t local_channels, int64_t global_channels, int64_t out_channels, int64_t kernel)
        : conv(local_channels + global_channels, out_channels, {kernel, 1}) {}
    static constexpr const char* kStateName = Conv2d::kStateName;
    Conv2d conv;

    int64_t out_channels() const { return conv.out_channels(); }
    Var operator()(const Var& m, const Var& g) {
        Tape& tape = *m.tape;
        return tape.apply(std::make_shared<FusionOp>(conv.spec.kernel),
                          {m, g, tape.parameter(conv.weight), tape.parameter(conv.bias)});
    }
    // Without the global branch (the paper's baseline) it is a plain convolution of m.
    Var operator()(const Var& m) { return conv(m); }
    template <class F>
    void visit(F&& f) {
        conv.visit(f);
    }
};

}  // namespace lumachrome
