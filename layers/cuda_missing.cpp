// In place of *_cuda.cu in a build without the CUDA Toolkit: lists without an entry, and so kernels
// that nobody can reach.
#include "layers/activation.hpp"
#include "layers/batch_norm.hpp"
#include "layers/cast.hpp"
#include "layers/conv2d.hpp"
#include "layers/conv2d_mma_cuda.hpp"
#include "layers/conv2d_narrow_cuda.hpp"
#include "layers/conv2d_prepared_cuda.hpp"
#include "layers/conv2d_wgmma.hpp"
#include "layers/cross_entropy.hpp"
#include "layers/dropout.hpp"
#include "layers/flatten.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"
#include "layers/linear_prepared_cuda.hpp"
#include "layers/mse_loss.hpp"
#include "layers/upsample.hpp"

namespace lumachrome {
namespace {

[[noreturn]] void throw_missing(const Exec& exec) {
    throw ResourceError("device " + exec.device.str() + ": this build has no kernels for it");
}

}  // namespace

std::span<const ActivationImpl> activation_cuda() {
    return {};
}
std::span<const BatchNormImpl> batch_norm_cuda() {
    return {};
}
std::span<const CastImpl> cast_cuda() {
    return {};
}
std::span<const Conv2dImpl> conv2d_cuda() {
    return {};
}
void conv2d_forward_narrow_cuda(const Exec& exec, const Conv2dProblem&, const Tensor&,
                                const Tensor&, const Tensor&, const Tensor&) {
    throw_missing(exec);
}
void conv2d_grad_input_narrow_cuda(const Exec& exec, const Conv2dProblem&, const Tensor&,
                                   const Tensor&, const GradIn&) {
    throw_missing(exec);
}
void conv2d_grad_weight_narrow_cuda(const Exec& exec, const Conv2dProblem&, const Tensor&,
                                    const Tensor&, const GradIn&) {
    throw_missing(exec);
}
std::span<const PreparedConv2dGpuImpl> conv2d_prepared_cuda() {
    return {};
}
const char* reject_wgmma(const Conv2dProblem&) {
    return "this build has no kernels for GPUs";
}
void conv2d_forward_wgmma(const Exec& exec, const Conv2dProblem&, const Tensor&, const Tensor&,
                          const Tensor&, const Tensor&) {
    throw_missing(exec);
}
void conv2d_grad_input_wgmma(const Exec& exec, const Conv2dProblem&, const Tensor&, const Tensor&,
                             const GradIn&) {
    throw_missing(exec);
}
void conv2d_grad_weight_wgmma(const Exec& exec, const Conv2dProblem&, const Tensor&, const Tensor&,
                              const GradIn&) {
    throw_missing(exec);
}
void conv2d_forward_wgmma_packed(const Exec& exec, const Conv2dProblem&, const Tensor&,
                                 const Tensor&, const Tensor&, const Tensor&,
                                 std::optional<Activation>, const Tensor&) {
    throw_missing(exec);
}
std::span<const CrossEntropyImpl> cross_entropy_cuda() {
    return {};
}
std::span<const DropoutImpl> dropout_cuda() {
    return {};
}
std::span<const FlattenImpl> flatten_cuda() {
    return {};
}
std::span<const FusionImpl> fusion_cuda() {
    return {};
}
std::span<const GradBiasImpl> grad_bias_cuda() {
    return {};
}
std::span<const LinearImpl> linear_cuda() {
    return {};
}
std::span<const PreparedLinearGpuImpl> linear_prepared_cuda() {
    return {};
}
std::span<const MseLossImpl> mse_loss_cuda() {
    return {};
}
std::span<const UpsampleImpl> upsample_cuda() {
    return {};
}

Tensor pack_conv2d_weights_cuda(const Exec& exec, const Tensor&, DType, bool) {
    throw_missing(exec);
}
void conv2d_packed_cuda(const Exec& exec, const Conv2dProblem&, bool, const Tensor&, const Tensor&,
                        const ConvEpilogue&, const Tensor&) {
    throw_missing(exec);
}

}  // namespace lumachrome
