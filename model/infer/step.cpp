#include "model/infer/step.hpp"

#include <algorithm>

#include "layers/linear.hpp"
#include "tensor/dispatch.hpp"
#include "tensor/error.hpp"

namespace lumachrome {

const Tensor& constant_of(const Graph& graph, const Graph::Node& node, size_t input) {
    const Tensor& constant = graph.values[size_t(node.inputs[input])].constant;
    if (!constant.defined()) throw Error(node.name + ": inference needs constant weights");
    return constant;
}

Tensor channels_of(const Tensor& w, int64_t begin, int64_t end) {
    const Shape& s = w.shape();
    const Tensor part = Tensor::empty({s[0], s[1], s[2], end - begin});
    for (int64_t row = 0; row < s.rows(); ++row)
        std::copy_n(w.data<float>() + row * s[3] + begin, end - begin,
                    part.data<float>() + row * (end - begin));
    return part;
}

namespace {

Rows whole(const Shape& shape) {
    return {0, row_count(shape)};
}

// A convolution, by one of the prepared kernels.
class ConvStep : public Step {
  public:
    // w [K,R,R,C], of the value `weight` or a part of it.
    ConvStep(const Graph& graph, const Graph::Node& node, const Conv2dSpec& spec, int weight,
             const Tensor& w, const Tensor& b, bool border_bias, const Exec& exec,
             PackedWeights& weights)
        : bias_(b) {
        problem_ = prepared_problem(spec, graph.values[size_t(node.inputs[0])].shape, w.shape(),
                                    node.upsample);
        problem_.activation = node.activation;
        problem_.border_bias = border_bias;
        const PreparedConv2dImpl& chosen =
            choose_implementation("conv2d_prepared", conv2d_prepared_cpu(), problem_);
        kernel_ = &chosen.kernel;
        implementation_ = chosen.name;
        packed_ = weights.tensor(weight, implementation_ + (node.upsample ? " upsample" : ""),
                                 [&] { return kernel_->pack(exec, problem_, w); });
        inputs = {node.inputs[0]};
    }
    int64_t row_step() const override { return kernel_->row_step(problem_); }
    Rows input_rows(size_t, Rows out) const override { return problem_.input_rows(out); }
    void run(const Exec& exec, std::span<const RowBand> in, const RowBand& out) override {
        kernel_->run(exec, problem_, packed_, bias_.data<float>(), in[0], out);
    }
    std::string implementation() const override { return implementation_; }
    std::string problem() const override { return problem_.str(); }
    int64_t weight_bytes() const override { return packed_.bytes(); }
    double products() const override {
        const auto& p = problem_;
        return double(p.P * p.Q * p.K * p.C * p.spec.kernel * p.spec.kernel) * kernel_->products;
    }
    const PreparedConv2dProblem* convolution() const override { return &problem_; }

  protected:
    Tensor bias_;

  private:
    PreparedConv2dProblem problem_;
    const PreparedConv2dKernel* kernel_ = nullptr;
    std::string implementation_;
    Tensor packed_;
};

// The convolution of the local half; the global half is its bias, computed once a photo.
class FusionStep : public ConvStep {
  public:
    FusionStep(const Graph& graph, const Graph::Node& node, const FusionOp& op, const Exec& exec,
               PackedWeights& weights)
        : FusionStep(graph, node, op, constant_of(graph, node, 2), exec, weights) {}

    Rows input_rows(size_t i, Rows out) const override {
        return i == 0 ? ConvStep::input_rows(0, out) : Rows{0, 1};
    }
    void run(const Exec& exec, std::span<const RowBand> in, const RowBand& out) override {
        if (out.rows.begin == 0) {
            const Shape& s = global_.shape();
            const LinearProblem problem{1, s[3], s[0] * s[1] * s[2]};
            const Tensor g = Tensor::borrow(in[1].data, {1, s[3]});
            choose_linear(exec, problem)
                .forward(exec, problem, g, global_.reshape({problem.O, s[3]}), zeros_, taps_);
            bias_ = border_biases(exec, taps_.reshape({1, s[0], s[1], s[2]}), layer_bias_);
        }
        ConvStep::run(exec, in, out);
    }

  private:
    FusionStep(const Graph& graph, const Graph::Node& node, const FusionOp& op, const Tensor& w,
               const Exec& exec, PackedWeights& weights)
        : ConvStep(graph, node, op.spec, node.inputs[2],
                   weights.tensor(node.inputs[2], "local",
                                  [&] { return channels_of(w, 0, local(graph, node)); }),
                   {}, true, exec, weights),
          global_(weights.tensor(node.inputs[2], "global",
                                 [&] { return channels_of(w, local(graph, node), w.shape()[3]); })),
          layer_bias_(constant_of(graph, node, 3)),
          zeros_(Tensor::zeros({global_.shape().rows()})),
          taps_(Tensor::empty({1, global_.shape().rows()})) {
        inputs.push_back(node.inputs[1]);
    }
    static int64_t local(const Graph& graph, const Graph::Node& node) {
        return graph.values[size_t(node.inputs[0])].shape[3];
    }
    Tensor global_, layer_bias_, zeros_, taps_;
};

// A fully connected layer of many weights.
class LinearStep : public Step {
  public:
    LinearStep(const Graph& graph, const Graph::Node& node, const PreparedLinear& linear)
        : linear_(linear),
          bias_(constant_of(graph, node, 2)),
          activation_(node.activation),
          output_(graph.values[size_t(node.output)].shape) {
        inputs = {node.inputs[0]};
        problem_ = graph.values[size_t(inputs[0])].shape.str() + " -> " + output_.str() +
                   (activation_ ? std::string(", ") + lumachrome::name(*activation_) : "");
    }
    Rows input_rows(size_t, Rows) const override { return {0, 1}; }
    void run(const Exec& exec, std::span<const RowBand> in, const RowBand& out) override {
        linear_.run(exec, in[0].data, bias_.data<float>(), out.data);
        Tensor y = Tensor::borrow(out.data, output_);
        if (activation_) ActivationOp(*activation_).forward(exec, {&y, 1}, y, nullptr);
    }
    std::string implementation() const override { return "16 bits"; }
    std::string problem() const override { return problem_; }
    int64_t weight_bytes() const override { return linear_.bytes(); }
    double products() const override { return double(linear_.products()); }

  private:
    PreparedLinear linear_;
    Tensor bias_;
    std::optional<Activation> activation_;
    Shape output_;
    std::string problem_;
};

// Any other op, as training runs it.
class OpStep : public Step {
  public:
    OpStep(const Graph& graph, const Graph::Node& node)
        : op_(node.op), activation_(node.activation) {
        for (int value : node.inputs) {
            const Tensor& constant = graph.values[size_t(value)].constant;
            operands_.push_back(constant);
            if (constant.defined()) {
                weight_bytes_ += constant.bytes();
            } else {
                inputs.push_back(value);
                places_.push_back(operands_.size() - 1);
                shapes_.push_back(graph.values[size_t(value)].shape);
                problem_ += shapes_.back().str() + " ";
            }
        }
        output_ = graph.values[size_t(node.output)].shape;
        products_ = double(op_->macs(graph.input_shapes(node)));
        problem_ += "-> " + output_.str();
        if (activation_) problem_ += std::string(", ") + lumachrome::name(*activation_);
    }
    int64_t row_step() const override {
        const auto one = op_->input_rows({0, 1});
        // Rows that come in pairs (upsampling) stay together.
        return one && output_.rank() == 4 ? row_count(output_) / row_count(shapes_[0]) : 1;
    }
    Rows input_rows(size_t i, Rows out) const override {
        const auto rows = shapes_[i].rank() == 4 ? op_->input_rows(out) : std::nullopt;
        return rows ? *rows : whole(shapes_[i]);
    }
    void run(const Exec& exec, std::span<const RowBand> in, const RowBand& out) override {
        for (size_t k = 0; k < shapes_.size(); ++k) {
            const Rows rows = input_rows(k, out.rows);
            const int64_t skip = (rows.begin - in[k].rows.begin) * row_floats(shapes_[k]);
            operands_[places_[k]] = band(shapes_[k], rows, in[k].data + skip);
        }
        Tensor y = band(output_, out.rows, out.data);
        op_->forward(exec, operands_, y, nullptr);
        if (activation_) ActivationOp(*activation_).forward(exec, {&y, 1}, y, nullptr);
    }
    std::string implementation() const override { return op_->name(); }
    std::string problem() const override { return problem_; }
    int64_t weight_bytes() const override { return weight_bytes_; }
    double products() const override { return products_; }

  private:
    static Tensor band(const Shape& s, Rows rows, float* data) {
        return Tensor::borrow(data,
                              s.rank() == 4 ? Shape{s[0], rows.end - rows.begin, s[2], s[3]} : s);
    }
    std::shared_ptr<const Op> op_;
    std::optional<Activation> activation_;
    std::vector<Tensor> operands_;
    std::vector<Shape> shapes_;   // of the computed inputs
    std::vector<size_t> places_;  // theirs among the operands
    Shape output_;
    std::string problem_;
    int64_t weight_bytes_ = 0;
    double products_ = 0;
};

}  // namespace

const PreparedLinear* PackedWeights::linear(int value) const {
    const auto found = linears_.find(value);
    return found == linears_.end() ? nullptr : &found->second;
}

const PreparedLinear& PackedWeights::add_linear(int value, PreparedLinear linear) {
    return linears_.emplace(value, std::move(linear)).first->second;
}

int64_t PackedWeights::bytes() const {
    int64_t sum = 0;
    for (const auto& [key, tensor] : tensors_) sum += tensor.bytes();
    for (const auto& [value, linear] : linears_) sum += linear.bytes();
    return sum;
}

const PreparedLinear* prepare_linear(const Graph& graph, const Graph::Node& node, const Exec& exec,
                                     PackedWeights& weights) {
    if (!dynamic_cast<const LinearOp*>(node.op.get())) return nullptr;
    if (const PreparedLinear* ready = weights.linear(node.inputs[1])) return ready;
    const Tensor& w = constant_of(graph, node, 1);
    return PreparedLinear::reject(w) ? nullptr : &weights.add_linear(node.inputs[1], {exec, w});
}

std::unique_ptr<Step> make_step(const Graph& graph, const Graph::Node& node, const Exec& exec,
                                PackedWeights& weights) {
    std::unique_ptr<Step> step;
    if (const auto* conv = dynamic_cast<const Conv2dOp*>(node.op.get()))
        step = std::make_unique<ConvStep>(graph, node, conv->spec, node.inputs[1],
                                          constant_of(graph, node, 1), constant_of(graph, node, 2),
                                          false, exec, weights);
    else if (const auto* fusion = dynamic_cast<const FusionOp*>(node.op.get()))
        step = std::make_unique<FusionStep>(graph, node, *fusion, exec, weights);
    else if (const PreparedLinear* linear = prepare_linear(graph, node, exec, weights))
        step = std::make_unique<LinearStep>(graph, node, *linear);
    else
        step = std::make_unique<OpStep>(graph, node);
    step->name = node.name;
    step->output = node.output;
    return step;
}

}  // namespace lumachrome
