#include "model/summary.hpp"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace lumachrome {
namespace {

std::vector<Shape> input_shapes(const Tape& tape, const Tape::Node& node) {
    std::vector<Shape> shapes;
    for (int k : node.inputs) shapes.push_back(tape.nodes()[size_t(k)].value.shape());
    return shapes;
}

// Rows of node `x` that rows `out` of node `from` need, through ops that know their rows.
Rows rows_needed(const Tape& tape, int from, Rows out, int x) {
    std::vector<std::optional<Rows>> need(tape.nodes().size());
    need[size_t(from)] = out;
    for (int i = from; i > x; --i) {
        const Tape::Node& node = tape.nodes()[size_t(i)];
        if (!need[size_t(i)] || !node.op) continue;
        const std::optional<Rows> in = node.op->input_rows(*need[size_t(i)]);
        if (!in) continue;
        for (int k : node.inputs) {
            if (tape.nodes()[size_t(k)].value.shape().rank() != 4) continue;
            auto& slot = need[size_t(k)];
            slot =
                slot ? Rows{std::min(slot->begin, in->begin), std::max(slot->end, in->end)} : *in;
        }
    }
    return need[size_t(x)].value_or(Rows{0, 0});
}

}  // namespace

Summary summarize(ColorNet& net, int64_t height, int64_t width) {
    std::unordered_map<const Parameter*, std::string> names;
    Summary summary;
    net.visit([&](const std::string& name, Parameter& p) {
        names[&p] = name;
        if (!p.trainable) return;
        summary.parameters += p.value.numel();
        if (name.find(".norm.") == std::string::npos && !name.starts_with("classifier"))
            summary.parameters_without_norm_and_classifier += p.value.numel();
    });

    const int64_t side = net.spec.global_size;
    Tape tape(Phase::trace, {});
    const Device meta{Device::meta};
    const Var x = tape.input(Tensor::empty({1, height, width, 1}, DType::f32, meta));
    const bool shared = height == side && width == side;
    const Var copy = shared ? x : tape.input(Tensor::empty({1, side, side, 1}, DType::f32, meta));
    const ColorNet::Output output = net(x, copy);

    // The full-resolution path: nodes between x and the colours that keep rows and columns.
    std::vector<bool> leads_to_color(tape.nodes().size()), from_x(tape.nodes().size());
    leads_to_color[size_t(output.color.node)] = from_x[size_t(x.node)] = true;
    for (size_t i = tape.nodes().size(); i-- > 0;)
        for (int k : tape.nodes()[i].inputs)
            if (leads_to_color[i] && tape.nodes()[i].op->input_rows({0, 1}) &&
                tape.nodes()[size_t(k)].value.shape().rank() == 4)
                leads_to_color[size_t(k)] = true;
    int64_t path_macs = 0;
    for (size_t i = 0; i < tape.nodes().size(); ++i) {
        const Tape::Node& node = tape.nodes()[i];
        if (!node.op) continue;
        for (int k : node.inputs)
            if (from_x[size_t(k)]) from_x[i] = true;
        const int64_t macs = node.op->macs(input_shapes(tape, node));
        summary.macs += macs;
        if (leads_to_color[i] && from_x[i]) path_macs += macs;
        LayerSummary layer{"", node.op->name(), node.value.shape(), 0, macs};
        for (int k : node.inputs)
            if (const Parameter* p = tape.nodes()[size_t(k)].parameter) {
                layer.parameters += p->value.numel();
                if (layer.name.empty()) layer.name = names[p].substr(0, names[p].rfind('.'));
            }
        if (layer.parameters > 0 || layer.op == "upsample") summary.layers.push_back(layer);
    }
    summary.macs_per_pixel = double(path_macs) / double(height * width);

    // One output pixel sees more or less depending on its place in the 4-pixel period of the two
    // upsamplings; the largest counts. Rows far outside the photo do no harm here.
    for (int64_t phase = 0; phase < kStride / 2; ++phase) {
        const Rows rows = rows_needed(tape, output.color.node,
                                      {1000 * kStride + phase, 1000 * kStride + phase + 1}, x.node);
        summary.receptive_field = std::max(summary.receptive_field, rows.end - rows.begin);
    }
    return summary;
}

}  // namespace lumachrome
