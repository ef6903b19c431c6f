// When each step computes which rows, and where its rows lie in memory. A plan is made once for a
// size of photo, with a place for every map; running it allocates none.
//
// A photo with small maps runs step by step. A larger one runs in bands: every map keeps only the
// rows that later steps still need (line buffers, nothing is computed twice), so memory does not
// depend on the photo's height. What a step needs of its inputs is all that an op declares
// (input_rows); the schedule follows from playing it through.
#pragma once
#include "model/infer/step.hpp"
#include "tensor/error.hpp"

namespace lumachrome {

// The memory allowed is too little for this photo, and will be the next time.
class MemoryLimitError : public ResourceError {
    using ResourceError::ResourceError;
};

struct PlanOptions {
    // Rows of the photo from band to band; 0 chooses, a multiple of 48 being best (tiles of 6 rows
    // of a map of an eighth); the photo's height or more runs in one go.
    int64_t band_rows = 0;
    // Bytes that the maps may take; 0: no limit. Bands get lower until they fit.
    int64_t max_bytes = 0;
};

// What lies in an arena during some tasks.
struct Lifetime {
    int64_t bytes = 0;
    int first = 0, last = 0;  // tasks, both included
    int64_t offset = 0;       // found by place()
};
// Largest first, each at the lowest place that is free for as long as it lives. Returns the bytes
// of the arena; pieces of no bytes get no place.
int64_t place(std::span<Lifetime*> pieces, int64_t alignment);

struct Plan {
    // Rows of a value as they come to be: `keep` is the first row still needed when they do.
    struct Task {
        int step;   // index into steps; -1: rows of input `value` are asked for
        int value;  // that is written
        Rows rows;
        int64_t keep;
    };
    struct Buffer {
        Shape shape;
        int64_t rows = 0;         // held at a time, at most
        int64_t offset = 0;       // bytes into the arena
        int first = 0, last = 0;  // tasks during which it lives
        int64_t bytes() const { return rows * row_floats(shape) * int64_t{sizeof(float)}; }
    };
    std::vector<std::unique_ptr<Step>> steps;
    std::vector<Task> tasks;
    std::vector<Buffer> buffers;  // by value; constants have none
    std::vector<int> inputs, outputs;
    std::vector<int64_t> chunks;  // by step: rows of a task, about
    int64_t arena_bytes = 0;
    int64_t band_rows = 0;
};

// Inputs and outputs are the graph's. The first input is the photo. Throws ResourceError if even
// the lowest bands need more than options.max_bytes, naming both.
Plan compile(const Graph& graph, const Exec& exec, PackedWeights& weights,
             const PlanOptions& options = {});

}  // namespace lumachrome
