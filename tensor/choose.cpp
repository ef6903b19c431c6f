#include "tensor/choose.hpp"

#include <cstdlib>

namespace lumachrome {
namespace {

std::string& choices() {
    thread_local std::string text = [] {
        const char* value = std::getenv("LUMACHROME_FORCE");
        return std::string(value ? value : "");
    }();
    return text;
}

}  // namespace

void force_implementations(std::string text) {
    choices() = std::move(text);
}
const std::string& forced_choices() {
    return choices();
}

std::string forced_implementation(std::string_view op) {
    std::string_view rest = choices();
    while (!rest.empty()) {
        const std::string_view entry = rest.substr(0, rest.find(','));
        if (entry.starts_with(op) && entry.size() > op.size() && entry[op.size()] == ':')
            return std::string(entry.substr(op.size() + 1));
        rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    }
    return {};
}

ExplainSink& explain_sink() {
    static ExplainSink sink;
    return sink;
}

}  // namespace lumachrome
