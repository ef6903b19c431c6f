// A request's head as bytes, to the verdict on it: for tests and for fuzzing. Whatever the bytes
// are, a head is read from them; the library in front of the policy is stricter.
#pragma once
#include <string>
#include <string_view>

#include "apps/serve/policy.hpp"

namespace lumachrome {

inline HttpRequest request_of_head(std::string_view head) {
    const auto take = [](std::string_view& text, std::string_view end) {
        const size_t at = text.find(end);
        const std::string taken(text.substr(0, at));
        text.remove_prefix(at == text.npos ? text.size() : at + end.size());
        return taken;
    };
    HttpRequest request;
    const std::string line = take(head, "\r\n");
    std::string_view words = line;
    request.method = take(words, " ");
    request.target = take(words, " ");
    request.version = words;
    while (!head.empty()) {
        const std::string header = take(head, "\r\n");
        if (header.empty()) break;
        std::string_view rest = header;
        const std::string name = take(rest, ": ");
        request.headers.emplace_back(name, rest);
    }
    return request;
}

inline Policy example_policy() {
    Policy policy;
    policy.hosts = {"localhost:8080", "127.0.0.1:8080", "[::1]:8080"};
    policy.assets = {"/", "/page.js"};
    return policy;
}

// What any verdict must hold to, whatever was asked. Returns whether it does.
inline bool is_sound(const HttpRequest& request, const Verdict& verdict, const Policy& policy) {
    if (const auto* refusal = std::get_if<Refusal>(&verdict))
        return refusal->status >= 400 && refusal->status < 506 && !refusal->message.empty() &&
               refusal->message.find('\n') == std::string::npos;
    const Admitted& admitted = std::get<Admitted>(verdict);
    const bool has_id = admitted.endpoint != Endpoint::asset && !admitted.id.empty();
    return request.target.starts_with('/') && admitted.body_most <= policy.body_most &&
           admitted.body_bytes.value_or(0) <= admitted.body_most && (!has_id || is_id(admitted.id));
}

// The entry for a fuzzer.
inline bool judge_bytes(std::string_view bytes) {
    const HttpRequest request = request_of_head(bytes);
    Policy policy = example_policy();
    if (is_sound(request, judge(request, policy), policy)) {
        policy.token = "correct horse battery";
        policy.any_address_port = 8080;
        return is_sound(request, judge(request, policy), policy);
    }
    return false;
}

}  // namespace lumachrome
