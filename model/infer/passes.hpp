// What inference may assume and training may not, one rewrite each. Every pass leaves the results
// as they are, but for rounding, so each can be switched off and tested alone.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "model/infer/graph.hpp"

namespace lumachrome {

struct Pass {
    const char* name;
    const char* summary;
    Graph (*run)(Graph);
};
// In the order in which they run.
std::span<const Pass> passes();

// "-fold_batch_norm,-fuse_activation" leaves these out; empty: all run. Throws UsageError for
// another word.
Graph run_passes(Graph graph, std::string_view choice = {});

Graph drop_unused(Graph graph);         // nodes on which no output depends
Graph fold_batch_norm(Graph graph);     // running statistics scale the weights in front of them
Graph fuse_activation(Graph graph);     // a step finishes its own outputs while they are in cache
Graph fuse_upsample_conv(Graph graph);  // the doubled map is never written
// For a GPU, not among passes(): columns of the weights change places instead of the map.
Graph fuse_flatten(Graph graph);

}  // namespace lumachrome
