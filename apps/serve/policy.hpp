// Who may ask for what: decided on a request's first line and headers alone, before a byte of its
// body is read. Any web page that someone has open can send requests to this machine; so a server
// on a loopback address needs these rules as much as a public one.
//
//   Host             one of ours, else 421: stops DNS rebinding, where a stranger's name leads here
//   Origin           absent or ours, never null; Sec-Fetch-Site absent, same-origin or none: 403
//   X-Lumachrome: 1  on all that computes or changes: a form of another site cannot set it
//   Authorization    the token, where --listen opened the door to other machines: 401
//
// Nothing here knows sockets or the HTTP library.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace lumachrome {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
    std::string method, target, version;  // as they came: nothing is unescaped
    Headers headers;                      // in the order of arrival, names in any case
};

enum class Endpoint {
    asset,  // a file of the page
    health,
    metrics,
    model,
    add_photo,
    forget_photo,
    original,
    colorize_photo,
    style_of_photo,
    add_style,
    colorize,
    classify,
};

using Query = std::vector<std::pair<std::string, std::string>>;  // unescaped, no name twice

struct Admitted {
    Endpoint endpoint;
    std::string id;                     // of a photo: 32 hexadecimal digits; of an asset: its path
    Query query;                        // only names that the endpoint knows
    int64_t body_most;                  // bytes; 0: there is no body
    std::optional<int64_t> body_bytes;  // as announced; none: in chunks
};
struct Refusal {
    int status;
    std::string message;  // one line a person can act on
    Headers headers = {};
};
using Verdict = std::variant<Admitted, Refusal>;

// The rules of one running server.
struct Policy {
    std::vector<std::string> hosts;  // what Host may say, lower case: "localhost:8080"
    // Not 0: every literal address with this port as well; 80 may be left out.
    int any_address_port = 0;
    std::string token;                // empty: none is needed
    std::vector<std::string> assets;  // paths of the page's files: "/", "/page.css"
    int64_t body_most = 32 << 20;
};

Verdict judge(const HttpRequest& request, const Policy& policy);

// Digits alone, the whole text, within the limits.
std::optional<int64_t> whole_number(std::string_view text, int64_t least, int64_t most);
// Digits with at most one point; no sign, exponent, infinity.
std::optional<double> decimal_number(std::string_view text, double least, double most);
bool is_id(std::string_view text);  // 32 digits 0-9a-f

}  // namespace lumachrome
