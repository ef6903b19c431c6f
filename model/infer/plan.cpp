#include "model/infer/plan.hpp"

#include <algorithm>
#include <numeric>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kLowestBand = 8;  // rows of the photo: one row of the smallest maps
// Where nobody asks for less: a photo with small maps in one go, for a band more reads all weights
// once more; else bands of 192 rows, lower where a wide photo would make maps large.
constexpr int64_t kSmallMaps = int64_t{64} << 20, kLargeMaps = int64_t{160} << 20;
constexpr int64_t kBand = 192, kFewRows = 48;

// Plays the steps through with `chunks` rows a task and writes down what happens.
class Schedule {
  public:
    Schedule(Plan& plan, int64_t input_chunk) : plan_(plan), input_chunk_(input_chunk) {
        plan_.tasks.clear();
        done_.assign(plan_.buffers.size(), 0);
        for (auto& buffer : plan_.buffers) buffer.rows = 0, buffer.first = -1;
        while (advance()) {
        }
    }

  private:
    int64_t total(int value) const { return row_count(plan_.buffers[size_t(value)].shape); }
    int64_t& done(int value) { return done_[size_t(value)]; }

    // Output rows that `step` could have computed after its next task; done() when none are ready.
    int64_t reach(size_t s) {
        const Step& step = *plan_.steps[s];
        const int64_t from = done(step.output), end = total(step.output);
        const auto ready = [&](int64_t to) {
            for (size_t i = 0; i < step.inputs.size(); ++i)
                if (step.input_rows(i, {from, to}).end > done(step.inputs[i])) return false;
            return true;
        };
        if (from == end) return from;
        if (ready(end)) return end;
        // The first band lacks the rows that its last ones need from the next: half a chunk will
        // do.
        const int64_t unit = step.row_step();
        int64_t to = from + std::max(unit, plan_.chunks[s] / 2 / unit * unit);
        if (to >= end || !ready(to)) return from;
        while (to + unit < end && ready(to + unit)) to += unit;
        return to;
    }

    // Rows of a value before this one are not needed any more.
    int64_t keep(int value) {
        int64_t first = done(value);
        for (const auto& step : plan_.steps)
            for (size_t i = 0; i < step->inputs.size(); ++i)
                if (step->inputs[i] == value && done(step->output) < total(step->output)) {
                    const int64_t next = done(step->output);
                    const int64_t last = std::min(next + step->row_step(), total(step->output));
                    first = std::min(first, step->input_rows(i, {next, last}).begin);
                }
        return first;
    }

    void add(int step, int value, int64_t to) {
        const auto task = static_cast<int>(plan_.tasks.size());
        const int64_t from = done(value), first = keep(value);
        plan_.tasks.push_back({step, value, {from, to}, first});
        auto& buffer = plan_.buffers[size_t(value)];
        buffer.rows = std::max(buffer.rows, to - first);
        if (buffer.first < 0) buffer.first = task;
        buffer.last = task;
        if (step >= 0)
            for (int input : plan_.steps[size_t(step)]->inputs)
                plan_.buffers[size_t(input)].last = task;
        done(value) = to;
    }

    // The step furthest ahead that has a task, so that rows are used up as soon as they are there.
    bool advance() {
        for (size_t s = plan_.steps.size(); s-- > 0;) {
            const int output = plan_.steps[s]->output;
            const int64_t to = reach(s);
            if (to == done(output)) continue;
            // A long stretch that became ready at once is cut, so that it needs no larger buffer.
            const int64_t most = plan_.chunks[s];
            add(static_cast<int>(s), output,
                to - done(output) < most + most / 2 ? to : done(output) + most);
            return true;
        }
        // Vectors and the copy first: without them nothing gets far.
        for (size_t i = plan_.inputs.size(); i-- > 0;) {
            const int input = plan_.inputs[i];
            if (done(input) == total(input)) continue;
            const int64_t chunk = i == 0 ? input_chunk_ : total(input);
            add(-1, input, std::min(total(input), done(input) + chunk));
            return true;
        }
        return false;
    }

    Plan& plan_;
    int64_t input_chunk_;
    std::vector<int64_t> done_;
};

void plan_memory(Plan& plan) {
    std::vector<Lifetime> lifetimes;
    std::vector<Lifetime*> pieces;
    for (const auto& buffer : plan.buffers)
        lifetimes.push_back({buffer.bytes(), buffer.first, buffer.last});
    for (Lifetime& lifetime : lifetimes) pieces.push_back(&lifetime);
    plan.arena_bytes = place(pieces, kAlignment);
    for (size_t i = 0; i < lifetimes.size(); ++i) plan.buffers[i].offset = lifetimes[i].offset;
}

// Maps that follow the photo row by row, as opposed to its copy and what is made of that.
std::vector<bool> follows_photo(const Plan& plan) {
    std::vector<bool> follows(plan.buffers.size());
    follows[size_t(plan.inputs[0])] = true;
    for (const auto& step : plan.steps)
        for (size_t i = 0; i < step->inputs.size(); ++i)
            if (follows[size_t(step->inputs[i])] &&
                row_count(plan.buffers[size_t(step->output)].shape) > 1)
                follows[size_t(step->output)] = true;
    return follows;
}

void schedule(Plan& plan, int64_t band_rows) {
    const int64_t height = row_count(plan.buffers[size_t(plan.inputs[0])].shape);
    const std::vector<bool> follows = follows_photo(plan);
    plan.band_rows = band_rows;
    plan.chunks.clear();
    for (const auto& step : plan.steps) {
        const int64_t rows = row_count(plan.buffers[size_t(step->output)].shape);
        const int64_t unit = step->row_step();
        const int64_t share = (rows * band_rows + height - 1) / height;
        const int64_t chunk = (share + unit - 1) / unit * unit;
        plan.chunks.push_back(
            band_rows >= height || !follows[size_t(step->output)] ? rows : std::min(rows, chunk));
    }
    Schedule(plan, band_rows);
    plan_memory(plan);
}

}  // namespace

int64_t place(std::span<Lifetime*> pieces, int64_t alignment) {
    std::vector<Lifetime*> order;
    for (Lifetime* piece : pieces)
        if (piece->bytes > 0) order.push_back(piece);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto* a, const auto* b) { return a->bytes > b->bytes; });
    std::vector<const Lifetime*> placed;  // by offset
    int64_t arena = 0;
    for (Lifetime* piece : order) {
        int64_t offset = 0;
        for (const Lifetime* other : placed) {
            if (other->last < piece->first || piece->last < other->first) continue;
            if (offset + piece->bytes <= other->offset) break;
            const int64_t end = other->offset + other->bytes;
            offset = std::max(offset, (end + alignment - 1) / alignment * alignment);
        }
        piece->offset = offset;
        arena = std::max(arena, offset + piece->bytes);
        placed.insert(
            std::upper_bound(placed.begin(), placed.end(), piece,
                             [](const auto* a, const auto* b) { return a->offset < b->offset; }),
            piece);
    }
    return arena;
}

Plan compile(const Graph& graph, const Exec& exec, PackedWeights& weights,
             const PlanOptions& options) {
    Plan plan;
    plan.inputs = graph.inputs;
    plan.outputs = graph.outputs;
    for (const Graph::Value& value : graph.values) plan.buffers.push_back({value.shape});
    for (const Graph::Node& node : graph.nodes)
        plan.steps.push_back(make_step(graph, node, exec, weights));
    const int64_t height = row_count(graph.values[size_t(graph.inputs[0])].shape);
    const auto fits = [&] {
        return options.max_bytes == 0 || plan.arena_bytes <= options.max_bytes;
    };
    if (options.band_rows == 0) {
        schedule(plan, height);
        if (plan.arena_bytes <= kSmallMaps && fits()) return plan;
    }
    int64_t band = options.band_rows > 0 ? options.band_rows : kBand;
    for (;; band = std::max(kLowestBand, band / 2 / kLowestBand * kLowestBand)) {
        schedule(plan, band);
        const bool lower = options.band_rows == 0 && band > kFewRows && band < height &&
                           plan.arena_bytes > kLargeMaps;
        if (!lower && fits()) return plan;
        if (band <= kLowestBand) break;
    }
    const auto mib = [](int64_t bytes) { return std::to_string((bytes >> 20) + 1) + " MiB"; };
    throw MemoryLimitError("the maps of the network need " + mib(plan.arena_bytes) +
                           " in the lowest bands, the limit leaves " + mib(options.max_bytes));
}

}  // namespace lumachrome
