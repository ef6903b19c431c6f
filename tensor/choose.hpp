// Selection from an ordered list of implementations: best first, the definition last. Each one says
// why it rejects a problem, so the choice explains itself.
//   LUMACHROME_FORCE=conv2d:naive,linear:gemm   takes the named one where it accepts, and where it
//   does
//                                               not, the first that does
#pragma once
#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "tensor/error.hpp"

namespace lumachrome {

// `Kernel` is a struct of function pointers, `Problem` the shapes they are called with.
template <class Problem, class Kernel>
struct Implementation {
    const char* name;
    const char* (*reject)(const Problem&);  // a reason, or null: accepted
    Kernel kernel;
    struct Traits {
        // A reason to leave a problem that it accepts to others, unless it is forced; or null.
        const char* (*avoid)(const Problem&) = nullptr;
        bool exact = true;  // sums and products only: small integers come out exactly
    } traits = {};
};

std::string forced_implementation(std::string_view op);  // empty: none
// Overrides LUMACHROME_FORCE for what this thread chooses: "conv2d:naive", "" ends it.
void force_implementations(std::string choices);
const std::string& forced_choices();

// The same for a scope.
class ForcedImplementations {
  public:
    explicit ForcedImplementations(std::string choices) : kept_(forced_choices()) {
        force_implementations(std::move(choices));
    }
    ~ForcedImplementations() { force_implementations(kept_); }
    ForcedImplementations(const ForcedImplementations&) = delete;
    ForcedImplementations& operator=(const ForcedImplementations&) = delete;

  private:
    std::string kept_;
};
inline constexpr const char* kNaivePath = "conv2d:naive,linear:naive";

// Receives one line per decision; null (the default) means nobody listens.
using ExplainSink = std::function<void(const std::string&)>;
ExplainSink& explain_sink();

template <class Problem, class Kernel>
const Implementation<Problem, Kernel>& choose_implementation(
    std::string_view op, std::span<const Implementation<Problem, Kernel>> list,
    const Problem& problem) {
    const std::string forced = forced_implementation(op);
    if (!forced.empty() &&
        std::none_of(list.begin(), list.end(), [&](const auto& i) { return i.name == forced; }))
        throw UsageError("LUMACHROME_FORCE: " + std::string(op) + " has no implementation named " +
                         forced);
    const bool obey = std::any_of(list.begin(), list.end(), [&](const auto& i) {
        return i.name == forced && !i.reject(problem);
    });
    std::string reasons;
    for (const auto& candidate : list) {
        const char* reason = candidate.reject(problem);
        if (!reason && obey && forced != candidate.name) reason = "not the forced one";
        if (!reason && !obey && candidate.traits.avoid) reason = candidate.traits.avoid(problem);
        if (!reason) {
            if (const auto& sink = explain_sink())
                sink(std::string(op) + ": " + candidate.name + reasons);
            return candidate;
        }
        if (explain_sink()) reasons += std::string(" (") + candidate.name + ": " + reason + ")";
    }
    throw Error(std::string(op) + ": no implementation accepts the problem");
}

template <class Problem, class Kernel>
const Kernel& choose(std::string_view op, std::span<const Implementation<Problem, Kernel>> list,
                     const Problem& problem) {
    return choose_implementation(op, list, problem).kernel;
}

template <class Problem>
const char* accepts_all(const Problem&) {
    return nullptr;
}

}  // namespace lumachrome
