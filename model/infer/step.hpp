// One step of a plan: an op of the graph with its implementation chosen and its weights packed.
#pragma once
#include <memory>

#include "layers/conv2d_prepared.hpp"
#include "layers/linear_prepared.hpp"
#include "model/infer/graph.hpp"

namespace lumachrome {

// Rows of a value: of a map [1,H,W,C] its H rows, of a vector [1,F] the one row.
inline int64_t row_count(const Shape& shape) {
    return shape.rank() == 4 ? shape[1] : 1;
}
inline int64_t row_floats(const Shape& shape) {
    return shape.numel() / row_count(shape);
}

class Step {
  public:
    virtual ~Step() = default;
    std::string name;         // of the graph's node
    std::vector<int> inputs;  // values that are computed, not constants
    int output = -1;

    // Bands of the output begin at multiples of this.
    virtual int64_t row_step() const { return 1; }
    // Rows of inputs[i] that the output rows need, inside the map.
    virtual Rows input_rows(size_t i, Rows out) const = 0;
    // `in[i]` holds at least those rows.
    virtual void run(const Exec& exec, std::span<const RowBand> in, const RowBand& out) = 0;

    virtual std::string implementation() const = 0;
    virtual std::string problem() const = 0;
    virtual int64_t weight_bytes() const = 0;  // read by each run
    virtual double products() const = 0;       // multiplications, of the whole map
    virtual const PreparedConv2dProblem* convolution() const { return nullptr; }  // null: none
};

// Weights in the form that a kernel wants them, for all plans made of one graph: the two low-level
// passes share theirs, and photos of many sizes share all.
class PackedWeights {
  public:
    // By the value that holds the weights and the form; made by the first who asks.
    template <class Pack>
    const Tensor& tensor(int value, const std::string& form, const Pack& pack) {
        auto [entry, fresh] = tensors_.try_emplace({value, form});
        if (fresh) entry->second = pack();
        return entry->second;
    }
    const PreparedLinear* linear(int value) const;
    const PreparedLinear& add_linear(int value, PreparedLinear linear);
    int64_t bytes() const;

  private:
    std::map<std::pair<int, std::string>, Tensor> tensors_;
    std::map<int, PreparedLinear> linears_;
};

// The packed weights of a fully connected layer, made unless they are there; null for another op,
// and where they stay as they are.
const PreparedLinear* prepare_linear(const Graph& graph, const Graph::Node& node, const Exec& exec,
                                     PackedWeights& weights);

// The constant that is input `input` of a node; throws Error for what is computed.
const Tensor& constant_of(const Graph& graph, const Graph::Node& node, size_t input);
// w [K,R,R,C] with channels [begin, end) only.
Tensor channels_of(const Tensor& w, int64_t begin, int64_t end);

// Chooses and packs. `graph` outlives nothing: a step owns what it needs.
std::unique_ptr<Step> make_step(const Graph& graph, const Graph::Node& node, const Exec& exec,
                                PackedWeights& weights);

}  // namespace lumachrome
