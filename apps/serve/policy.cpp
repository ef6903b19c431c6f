#include "apps/serve/policy.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace lumachrome {
namespace {

using std::string_view;

constexpr int64_t kSettingsMost = 64 << 10;                 // bytes of JSON
constexpr size_t kTargetMost = 4096, kHeadMost = 16 << 10;  // bytes

enum class Body { none, photo, settings };
enum class Guard {
    open,      // for anyone who reaches us: says only that we are here
    page,      // a link from elsewhere may lead there
    own_page,  // for our page and for programs
};

struct Route {
    string_view method, path;  // ID stands for a photo's id
    Endpoint endpoint;
    Body body = Body::none;
    Guard guard = Guard::own_page;
    string_view query = {};  // the names it may have, each with a comma behind
};

constexpr Route kAsset{"GET", "", Endpoint::asset, Body::none, Guard::page};
constexpr string_view kWishes = "size,saturation,class,format,quality,";
constexpr Route kRoutes[] = {
    {"GET", "/healthz", Endpoint::health, Body::none, Guard::open},
    {"GET", "/metrics", Endpoint::metrics},
    {"GET", "/api/v1/model", Endpoint::model},
    {"POST", "/api/v1/photos", Endpoint::add_photo, Body::photo},
    {"DELETE", "/api/v1/photos/ID", Endpoint::forget_photo},
    {"GET", "/api/v1/photos/ID/original", Endpoint::original, Body::none, Guard::own_page,
     "max,variant,"},
    {"POST", "/api/v1/photos/ID/colorize", Endpoint::colorize_photo, Body::settings},
    {"GET", "/api/v1/photos/ID/style", Endpoint::style_of_photo},
    {"POST", "/api/v1/styles", Endpoint::add_style, Body::photo},
    {"POST", "/api/v1/colorize", Endpoint::colorize, Body::photo, Guard::own_page, kWishes},
    {"POST", "/api/v1/classify", Endpoint::classify, Body::photo, Guard::own_page, "top,"},
};

// Headers that decide something: a second one could mean another thing to another reader.
constexpr string_view kOnce[] = {
    "host",         "origin",         "sec-fetch-site",    "x-lumachrome",    "authorization",
    "content-type", "content-length", "transfer-encoding", "content-encoding"};

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string lowered(string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), lower);
    return out;
}

bool same_word(string_view a, string_view b) {  // names of headers
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

const std::string* find(const HttpRequest& request, string_view name) {
    for (const auto& [key, value] : request.headers)
        if (same_word(key, name)) return &value;
    return nullptr;
}

bool matches(string_view path, string_view pattern, std::string& id) {
    const size_t at = pattern.find("ID");
    if (at == pattern.npos) return path == pattern;
    constexpr size_t kDigits = 32;
    const string_view before = pattern.substr(0, at), after = pattern.substr(at + 2);
    if (path.size() != before.size() + kDigits + after.size() || !path.starts_with(before) ||
        !path.ends_with(after) || !is_id(path.substr(at, kDigits)))
        return false;
    id = path.substr(at, kDigits);
    return true;
}

int hex(char c) {
    c = lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// As a browser's form or URLSearchParams writes it. Control characters are refused.
std::optional<std::string> unescaped(string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        int c = static_cast<unsigned char>(text[i]);
        if (c == '+') c = ' ';
        if (c == '%') {
            if (i + 2 >= text.size() || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0) return {};
            c = hex(text[i + 1]) * 16 + hex(text[i + 2]);
            i += 2;
        }
        if (c < 0x20 || c == 0x7f) return {};
        out.push_back(static_cast<char>(c));
    }
    return out;
}

// "Basic" carries name:password in base64 (RFC 4648): what a browser asks people for by itself.
std::optional<std::string> from_base64(string_view text) {
    constexpr string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    while (text.ends_with('=')) text.remove_suffix(1);
    std::string out;
    uint32_t bits = 0;
    int count = 0;
    for (char c : text) {
        const size_t digit = kDigits.find(c);
        if (digit == kDigits.npos) return {};
        bits = bits << 6 | static_cast<uint32_t>(digit);
        count += 6;
        if (count < 8) continue;
        count -= 8;
        out.push_back(static_cast<char>(bits >> count & 0xff));
    }
    return out;
}

// Takes as long for a wrong first letter as for a wrong last one.
bool same_secret(string_view given, string_view secret) {
    size_t difference = given.size() ^ secret.size();
    for (size_t i = 0; i < given.size(); ++i)
        difference |= static_cast<unsigned char>(given[i] ^ secret[i % secret.size()]);
    return difference == 0;
}

bool knows_token(const HttpRequest& request, const std::string& token) {
    const std::string* given = find(request, "authorization");
    if (!given) return false;
    const size_t space = given->find(' ');
    if (space == given->npos) return false;
    const string_view scheme = string_view(*given).substr(0, space),
                      rest = string_view(*given).substr(space + 1);
    if (same_word(scheme, "bearer")) return same_secret(rest, token);
    if (!same_word(scheme, "basic")) return false;
    const auto pair = from_base64(rest);
    const size_t colon = pair ? pair->find(':') : string_view::npos;
    return colon != string_view::npos && same_secret(string_view(*pair).substr(colon + 1), token);
}

// "192.168.0.7:8080" or "[fe80::1]:8080": an address, so no name that could be rebound. Clients
// leave out the port 80.
bool is_address_with_port(string_view host, int port) {
    const std::string end = ":" + std::to_string(port);
    if (host.ends_with(end))
        host.remove_suffix(end.size());
    else if (port != 80)
        return false;
    std::string address(host);
    std::array<unsigned char, sizeof(in6_addr)> room;
    if (!address.starts_with('[')) return inet_pton(AF_INET, address.c_str(), room.data()) == 1;
    if (!address.ends_with(']')) return false;
    address = address.substr(1, address.size() - 2);
    return inet_pton(AF_INET6, address.c_str(), room.data()) == 1;
}

using Check = std::optional<Refusal>;

Check check_form(const HttpRequest& request) {
    if (request.version != "HTTP/1.1" && request.version != "HTTP/1.0")
        return Refusal{505, "HTTP/1.1 is spoken here"};
    if (request.target.size() > kTargetMost) return Refusal{414, "the address is too long"};
    size_t head = request.target.size();
    for (const auto& [name, value] : request.headers) head += name.size() + value.size();
    if (head > kHeadMost) return Refusal{431, "the headers are too long"};
    const auto printable = [](char c) { return c > 0x20 && c < 0x7f && c != '#'; };
    if (!request.target.starts_with('/') ||
        !std::all_of(request.target.begin(), request.target.end(), printable))
        return Refusal{400, "the address must be a path that starts with / in plain characters"};
    for (string_view name : kOnce) {
        const auto is_it = [name](const auto& header) { return same_word(header.first, name); };
        if (std::count_if(request.headers.begin(), request.headers.end(), is_it) > 1)
            return Refusal{400, "the header " + std::string(name) + " came twice"};
    }
    return {};
}

Check check_host(const HttpRequest& request, const Policy& policy) {
    const std::string* given = find(request, "host");
    const std::string host = given ? lowered(*given) : "";
    const bool ours =
        std::find(policy.hosts.begin(), policy.hosts.end(), host) != policy.hosts.end() ||
        (policy.any_address_port != 0 && is_address_with_port(host, policy.any_address_port));
    if (ours) return {};
    return Refusal{421,
                   policy.any_address_port != 0
                       ? "this server is not called that; open it by its address in numbers"
                       : "this server is not called that; open http://" + policy.hosts[0] + "/"};
}

Check check_site(const HttpRequest& request) {
    const std::string* origin = find(request, "origin");
    if (origin && lowered(*origin) != "http://" + lowered(*find(request, "host")))
        return Refusal{403, "another site's page may not use this server"};
    const std::string* site = find(request, "sec-fetch-site");
    if (site && *site != "same-origin" && *site != "none")
        return Refusal{403, "another site's page may not use this server"};
    return {};
}

Check check_guard(const HttpRequest& request, const Policy& policy, const Route& route) {
    if (route.guard == Guard::open) return {};
    if (!policy.token.empty() && !knows_token(request, policy.token))
        return Refusal{401,
                       "the token is needed: \"Authorization: Bearer WORD\", or as the password "
                       "that the browser asks for",
                       {{"WWW-Authenticate", "Basic realm=\"lumachrome\", charset=\"UTF-8\""}}};
    if (route.guard == Guard::page) return {};
    if (Check refusal = check_site(request)) return refusal;
    const std::string* mark = find(request, "x-lumachrome");
    if (route.method != "GET" && (!mark || *mark != "1"))
        return Refusal{403, "the header \"X-Lumachrome: 1\" is missing"};
    return {};
}

Check check_body(const HttpRequest& request, const Policy& policy, const Route& route,
                 Admitted& admitted) {
    const std::string *length = find(request, "content-length"),
                      *coding = find(request, "transfer-encoding");
    if (length && coding)
        return Refusal{400, "Content-Length and Transfer-Encoding contradict each other"};
    if (coding && !same_word(*coding, "chunked"))
        return Refusal{400, "Transfer-Encoding may only be chunked"};
    if (coding && request.version == "HTTP/1.0")
        return Refusal{400, "HTTP/1.0 knows no Transfer-Encoding"};
    if (length) {
        constexpr int64_t kMost = int64_t{1} << 62;
        admitted.body_bytes = whole_number(*length, 0, kMost);
        if (!admitted.body_bytes) return Refusal{400, "Content-Length must be a number"};
    }
    if (route.body == Body::none) {
        if (coding || admitted.body_bytes.value_or(0) > 0)
            return Refusal{400, "this request takes no body"};
        return {};
    }
    if (!length && !coding) return Refusal{411, "Content-Length is missing"};
    admitted.body_most = route.body == Body::photo ? policy.body_most : kSettingsMost;
    if (admitted.body_bytes.value_or(0) > admitted.body_most)
        return Refusal{413, "at most " + std::to_string(admitted.body_most) + " bytes are taken"};
    const std::string *type = find(request, "content-type"),
                      *packed = find(request, "content-encoding");
    if (type && lowered(*type).starts_with("multipart/"))
        return Refusal{415, "send the bytes themselves, not a form: curl --data-binary @photo.jpg"};
    if (packed && !same_word(*packed, "identity"))
        return Refusal{415, "Content-Encoding is not understood; send the bytes themselves"};
    return {};
}

Check read_query(string_view text, string_view known, Query& query) {
    while (!text.empty()) {
        const string_view pair = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(text.size(), pair.size() + 1));
        const std::string name(pair.substr(0, pair.find('=')));
        const auto value = unescaped(pair.substr(std::min(pair.size(), name.size() + 1)));
        const auto same = [&](const auto& entry) { return entry.first == name; };
        const bool is_known = !name.empty() && name.find(',') == name.npos &&
                              ("," + std::string(known)).find("," + name + ",") != known.npos;
        if (!is_known)
            return Refusal{400, known.empty() ? "this address takes no parameters"
                                              : "there is an unknown parameter; known are " +
                                                    std::string(known.substr(0, known.size() - 1))};
        if (!value) return Refusal{400, "parameter " + name + " is not escaped as it must be"};
        if (std::any_of(query.begin(), query.end(), same))
            return Refusal{400, "parameter " + name + " came twice"};
        query.emplace_back(name, *value);
    }
    return {};
}

// The route of the path and method, or why there is none. HEAD is a GET whose answer stays at home.
std::variant<const Route*, Refusal> find_route(string_view method, string_view path,
                                               const Policy& policy, std::string& id) {
    if (method == "HEAD") method = "GET";
    std::string allowed;
    const auto suits = [&](const Route& route) {
        if (route.method == method) return true;
        allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
        return false;
    };
    if (std::find(policy.assets.begin(), policy.assets.end(), path) != policy.assets.end()) {
        id = path;
        if (suits(kAsset)) return &kAsset;
    }
    for (const Route& route : kRoutes)
        if (matches(path, route.path, id) && suits(route)) return &route;
    if (allowed.empty()) return Refusal{404, "there is nothing at this address"};
    return Refusal{405, "only " + allowed + " is known here", {{"Allow", allowed}}};
}

}  // namespace

std::optional<int64_t> whole_number(string_view text, int64_t least, int64_t most) {
    int64_t value = 0;
    const char* const end = text.data() + text.size();
    if (text.empty() || text[0] < '0' || text[0] > '9') return {};
    const auto [at, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || at != end || value < least || value > most) return {};
    return value;
}

std::optional<double> decimal_number(string_view text, double least, double most) {
    double value = 0;
    const char* const end = text.data() + text.size();
    if (text.empty() || text.find_first_not_of("0123456789.") != text.npos) return {};
    const auto [at, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
    if (error != std::errc() || at != end || !(value >= least && value <= most)) return {};
    return value;
}

bool is_id(string_view text) {
    return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Verdict judge(const HttpRequest& request, const Policy& policy) {
    if (Check refusal = check_form(request)) return *refusal;
    if (Check refusal = check_host(request, policy)) return *refusal;
    const string_view target = request.target;
    const string_view path = target.substr(0, target.find('?'));
    Admitted admitted{};
    const auto found = find_route(request.method, path, policy, admitted.id);
    if (const Refusal* refusal = std::get_if<Refusal>(&found)) return *refusal;
    const Route& route = *std::get<const Route*>(found);
    admitted.endpoint = route.endpoint;
    if (Check refusal = check_guard(request, policy, route)) return *refusal;
    if (Check refusal = check_body(request, policy, route, admitted)) return *refusal;
    const string_view query = target.substr(std::min(target.size(), path.size() + 1));
    if (Check refusal = read_query(query, route.query, admitted.query)) return *refusal;
    return admitted;
}

}  // namespace lumachrome
