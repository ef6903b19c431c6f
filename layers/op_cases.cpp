#include "layers/op_cases.hpp"

#include "layers/activation.hpp"
#include "layers/batch_norm.hpp"
#include "layers/cast.hpp"
#include "layers/conv2d.hpp"
#include "layers/cross_entropy.hpp"
#include "layers/dropout.hpp"
#include "layers/flatten.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"
#include "layers/mse_loss.hpp"
#include "layers/upsample.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

// Values in [low, high), a new stream for each call of one family.
class Values {
  public:
    Tensor operator()(Shape shape, double low = -1, double high = 1) {
        Random random(7, Random::Purpose::test, ++calls_);
        const Tensor t = Tensor::empty(shape, DType::f64);
        for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = random.uniform(low, high);
        return t;
    }
    // No value within 0.05 of 0, the kink of ReLU.
    Tensor away_from_zero(Shape shape) {
        const Tensor t = (*this)(shape);
        for (int64_t i = 0; i < t.numel(); ++i)
            t.data<double>()[i] += t.data<double>()[i] < 0 ? -0.05 : 0.05;
        return t;
    }

  private:
    uint32_t calls_ = 0;
};

template <class Impl>
std::vector<std::string> names(Device device, std::span<const Impl> (*cpu)(),
                               std::span<const Impl> (*cuda)()) {
    std::vector<std::string> result;
    for (const Impl& implementation : device.kind == Device::cuda ? cuda() : cpu())
        result.push_back(implementation.name);
    return result;
}

void set_parameters(OpFamily& family, size_t first) {
    for (OpCase& c : family.cases) c.first_parameter = first;
}
// Losses are computed in f32.
void without_bf16(OpFamily& family) {
    for (OpCase& c : family.cases) c.bf16 = false;
}

OpFamily conv2d_family(Device device) {
    OpFamily family{"conv2d", names(device, conv2d_cpu, conv2d_cuda), {}};
    for (const Conv2dImpl& implementation :
         device.kind == Device::cuda ? conv2d_cuda() : conv2d_cpu())
        if (!implementation.traits.exact) family.inexact.push_back(implementation.name);
    Values values;
    struct {
        int64_t kernel, stride, N, H, W, C, K;
    } const problems[] = {
        {3, 1, 1, 5, 7, 3, 4},   {3, 2, 2, 8, 6, 2, 5},    {3, 2, 1, 7, 9, 3, 2},
        {3, 1, 1, 1, 1, 2, 3},   {3, 2, 1, 1, 3, 2, 2},    {1, 1, 2, 4, 3, 5, 3},
        {1, 2, 1, 5, 4, 2, 3},   {3, 1, 2, 18, 17, 1, 2},  {3, 1, 1, 2, 5, 32, 3},
        {3, 2, 1, 4, 4, 64, 2},  {3, 1, 9, 3, 2, 2, 2},    {3, 1, 1, 1, 9, 3, 2},
        {3, 1, 1, 9, 6, 17, 18}, {3, 2, 2, 9, 11, 33, 35}, {3, 2, 1, 6, 8, 1, 33},
        {3, 1, 1, 6, 7, 33, 2},  {3, 2, 1, 7, 6, 35, 3},   {1, 1, 1, 3, 4, 4, 20},
        {3, 1, 1, 9, 8, 8, 72},  {3, 2, 1, 10, 9, 16, 8},
    };
    for (const auto& p : problems) {
        const Conv2dSpec spec{p.kernel, p.stride};
        const std::string kernel = std::to_string(p.kernel);
        family.cases.push_back(
            {kernel + "x" + kernel + " stride " + std::to_string(p.stride) + " on " +
                 Shape{p.N, p.H, p.W, p.C}.str() + " to " + std::to_string(p.K),
             std::make_shared<Conv2dOp>(spec),
             {values({p.N, p.H, p.W, p.C}), values({p.K, p.kernel, p.kernel, p.C}), values({p.K})},
             {true, true, true}});
    }
    set_parameters(family, 1);
    return family;
}

OpFamily linear_family(Device device) {
    OpFamily family{"linear", names(device, linear_cpu, linear_cuda), {}};
    Values values;
    const Shape problems[] = {{1, 3, 2}, {4, 7, 5}, {3, 600, 2}, {2, 5, 130}};  // N, I, O
    for (const Shape& p : problems)
        family.cases.push_back({p.str(),
                                std::make_shared<LinearOp>(),
                                {values({p[0], p[1]}), values({p[2], p[1]}), values({p[2]})},
                                {true, true, true}});
    set_parameters(family, 1);
    return family;
}

OpFamily batch_norm_family(Device device) {
    OpFamily family{"batch_norm", names(device, batch_norm_cpu, batch_norm_cuda), {}};
    Values values;
    const Shape problems[] = {{2, 3, 4, 3}, {1, 30, 20, 2}, {5, 4}, {3, 1}, {5, 16}, {12, 264}};
    for (const Shape& shape : problems)
        for (bool training : {true, false}) {
            const int64_t C = shape.back();
            family.cases.push_back(
                {std::string(training ? "train " : "eval ") + shape.str(),
                 std::make_shared<BatchNormOp>(values({C}).to(device),
                                               values({C}, 0.5, 2).to(device), training),
                 {values(shape), values({C}, 0.5, 1.5), values({C})},
                 {true, true, true}});
            for (Activation a : {Activation::relu, Activation::sigmoid}) {
                family.cases.push_back(
                    {std::string(training ? "train " : "eval ") + name(a) + " " + shape.str(),
                     std::make_shared<BatchNormOp>(values({C}).to(device),
                                                   values({C}, 0.5, 2).to(device), training, 1, a),
                     {values(shape), values({C}, 0.5, 1.5), values({C})},
                     {true, true, true}});
                family.cases.back().smooth = a != Activation::relu;  // a step may cross the kink
            }
        }
    set_parameters(family, 1);
    return family;
}

OpFamily activation_family(Device device) {
    OpFamily family{"activation", names(device, activation_cpu, activation_cuda), {}};
    Values values;
    const Shape problems[] = {{2, 3, 4, 5}, {7, 3}, {1, 1, 1, 1}};
    for (const Shape& shape : problems)
        for (Activation a : {Activation::relu, Activation::sigmoid})
            family.cases.push_back({std::string(name(a)) + " " + shape.str(),
                                    std::make_shared<ActivationOp>(a),
                                    {values.away_from_zero(shape)},
                                    {true}});
    return family;
}

OpFamily upsample_family(Device device) {
    OpFamily family{"upsample", names(device, upsample_cpu, upsample_cuda), {}};
    Values values;
    const Shape problems[] = {{2, 3, 4, 5}, {1, 1, 1, 1}, {1, 5, 2, 3}, {2, 2, 3, 16}};
    for (const Shape& shape : problems)
        family.cases.push_back(
            {shape.str(), std::make_shared<UpsampleOp>(), {values(shape)}, {true}});
    return family;
}

OpFamily flatten_family(Device device) {
    OpFamily family{"flatten", names(device, flatten_cpu, flatten_cuda), {}};
    Values values;
    const Shape problems[] = {{2, 3, 4, 5}, {1, 1, 2, 3}, {1, 7, 10, 67}};
    for (const Shape& shape : problems)
        family.cases.push_back(
            {shape.str(), std::make_shared<FlattenOp>(), {values(shape)}, {true}});
    return family;
}

OpFamily fusion_family(Device device) {
    OpFamily family{"fusion", names(device, fusion_cpu, fusion_cuda), {}};
    Values values;
    struct {
        int64_t kernel, N, H, W, M, G, K;
    } const problems[] = {{3, 1, 4, 5, 3, 2, 4}, {3, 2, 1, 4, 2, 3, 2}, {3, 1, 3, 1, 2, 2, 3},
                          {3, 1, 1, 1, 3, 4, 2}, {1, 2, 3, 4, 3, 2, 2}, {3, 3, 2, 2, 1, 5, 3}};
    for (const auto& p : problems)
        family.cases.push_back({"kernel " + std::to_string(p.kernel) + " on " +
                                    Shape{p.N, p.H, p.W, p.M}.str() + " + " + std::to_string(p.G) +
                                    " to " + std::to_string(p.K),
                                std::make_shared<FusionOp>(p.kernel),
                                {values({p.N, p.H, p.W, p.M}), values({p.N, p.G}),
                                 values({p.K, p.kernel, p.kernel, p.M + p.G}), values({p.K})},
                                {true, true, true, true}});
    set_parameters(family, 2);
    return family;
}

OpFamily dropout_family(Device device) {
    OpFamily family{"dropout", names(device, dropout_cpu, dropout_cuda), {}};
    Values values;
    for (double rate : {0.2, 0.5})
        family.cases.push_back({"rate " + std::to_string(rate).substr(0, 3),
                                std::make_shared<DropoutOp>(DropoutMask{rate, 5, 3, 1}),
                                {values({4, 9})},
                                {true}});
    return family;
}

OpFamily cast_family(Device device) {
    OpFamily family{"cast", names(device, cast_cpu, cast_cuda), {}};
    Values values;
    std::vector<DType> targets = {DType::f32, DType::f64};
    if (device.kind == Device::cuda) targets.push_back(DType::bf16);
    for (DType target : targets)
        for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{37}})
            family.cases.push_back({std::string("to ") + name(target) + " " + shape.str(),
                                    std::make_shared<CastOp>(target),
                                    {values(shape)},
                                    {true}});
    return family;
}

OpFamily mse_loss_family(Device device) {
    OpFamily family{"mse_loss", names(device, mse_loss_cpu, mse_loss_cuda), {}};
    Values values;
    const Shape problems[] = {{2, 3, 4, 2}, {1, 70, 70, 2}};
    for (const double chroma_weight : {0.0, 3.0})
        for (const Shape& shape : problems)
            family.cases.push_back(
                {shape.str() + (chroma_weight > 0 ? " strong colours count more" : ""),
                 std::make_shared<MseLossOp>(chroma_weight),
                 {values(shape, 0, 1), values(shape, 0, 1)},
                 {true, false}});
    without_bf16(family);
    return family;
}

OpFamily cross_entropy_family(Device device) {
    OpFamily family{"cross_entropy", names(device, cross_entropy_cpu, cross_entropy_cuda), {}};
    Values values;
    const Labels batches[] = {{2}, {0, -1, 4}, {-1, -1}, {1, 1, 3, 0}};
    for (const Labels& labels : batches)
        family.cases.push_back({std::to_string(labels.size()) +
                                    " samples of 5 classes, first label " +
                                    std::to_string(labels[0]),
                                std::make_shared<CrossEntropyOp>(labels),
                                {values({static_cast<int64_t>(labels.size()), 5}, -3, 3)},
                                {true}});
    without_bf16(family);
    return family;
}

// An op that differentiates wrongly on purpose.
struct BrokenOp : Op {
    BrokenOp(OpCase c, const DerivativeBug& b) : original(std::move(c)), bug(b) {}
    OpCase original;
    const DerivativeBug& bug;

    static Tensor here(const Tensor& t) {
        const Tensor copy = t.to(Device{});
        return copy.dtype() == DType::bf16 ? copy.to(DType::f32) : copy;
    }

    std::string name() const override { return original.op->name(); }
    Shape infer(std::span<const Shape> in) const override { return original.op->infer(in); }
    DType result_type(std::span<const DType> in) const override {
        return original.op->result_type(in);
    }
    void forward(const Exec& exec, std::span<const Tensor> in, Tensor& y,
                 Saved* saved) const override {
        original.op->forward(exec, in, y, saved);
    }
    void backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                  std::span<const GradIn> din) const override {
        original.op->backward(exec, dy, saved, din);
        if (exec.device == Device{}) return bug.spoil(original, dy, saved, din);
        // Bugs are written for the CPU.
        Saved saved_here;
        for (const Tensor& t : saved.tensors)
            saved_here.tensors.push_back(t.defined() ? here(t) : t);
        std::vector<GradIn> din_here;
        for (const GradIn& grad : din)
            din_here.push_back({grad ? here(grad.grad) : Tensor{}, grad.beta});
        bug.spoil(original, here(dy), saved_here, din_here);
        for (size_t k = 0; k < din.size(); ++k)
            if (din[k]) din[k].grad.copy_from(din_here[k].grad);
    }
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        original.op->define(in, y);
    }
};

}  // namespace

std::vector<OpFamily> op_families(Device device) {
    constexpr OpFamily (*kFamilies[])(Device) = {
        conv2d_family,   linear_family,   batch_norm_family,   activation_family,
        upsample_family, flatten_family,  fusion_family,       dropout_family,
        cast_family,     mse_loss_family, cross_entropy_family};
    std::vector<OpFamily> families;
    for (const auto family : kFamilies) families.push_back(family(device));
    return families;
}

std::vector<OpCase> broken(const std::vector<OpCase>& cases, const DerivativeBug& bug) {
    std::vector<OpCase> result = cases;
    for (OpCase& c : result) c.op = std::make_shared<BrokenOp>(c, bug);
    return result;
}

}  // namespace lumachrome
