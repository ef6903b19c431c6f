// What the server answers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "apps/serve/policy.hpp"
#include "tensor/json.hpp"

namespace lumachrome {

struct Reply {
    int status = 200;
    std::string type = "application/json";
    std::vector<uint8_t> body = {};
    Headers headers = {};
};

inline std::vector<uint8_t> bytes_of(const std::string& text) {
    return {text.begin(), text.end()};
}

inline Reply json_reply(const Json& object, int status = 200) {
    return {.status = status, .body = bytes_of(object.dump() + "\n")};
}

inline Reply error_reply(int status, const std::string& message, Headers headers = {}) {
    Reply reply = json_reply(Json::Object{{"error", message}}, status);
    reply.headers = std::move(headers);
    return reply;
}

inline Reply busy_reply(const std::string& message) {
    return error_reply(503, message, {{"Retry-After", "1"}});
}

}  // namespace lumachrome
