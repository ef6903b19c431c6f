// In place of *_cuda.cu in a build without the CUDA Toolkit.
#include "tensor/error.hpp"
#include "train/device_samples.hpp"
#include "train/device_step.hpp"

namespace lumachrome {
namespace {

[[noreturn]] void missing() {
    throw ResourceError("device cuda: " + cuda::unavailable());
}

}  // namespace

void DeviceStep::Unpin::operator()(StepOutcome*) const {}
DeviceStep::DeviceStep(Device device) : device_(device), sent_(device) {
    missing();
}
void DeviceStep::begin(const StepFactors&) {
    missing();
}
void DeviceStep::losses(const Tensor&, const Tensor&) {
    missing();
}
void DeviceStep::count_correct(const Tensor&, const Tensor&) {
    missing();
}
void DeviceStep::gradient_norm(std::span<const Optimizer::Slot>) {
    missing();
}
void DeviceStep::update(const OptimizerSpec&, std::span<const Optimizer::Slot>) {
    missing();
}
void DeviceStep::check_finite(std::span<const Tensor>) {
    missing();
}
void DeviceStep::publish() {
    missing();
}
const StepOutcome& DeviceStep::wait() const {
    missing();
}
void cuda::move_averages(Device, std::span<const WeightAverage::Entry>, double) {
    missing();
}

cuda::LinearTables::LinearTables(Device) {
    missing();
}
void cuda::make_samples(Device, const SampleSource*, const AugmentSpec&, const LinearTables&,
                        const Tensor&, const Tensor&, int32_t*) {
    missing();
}
void cuda::network_input(Device, const Tensor&, double, const Tensor&) {
    missing();
}

}  // namespace lumachrome
