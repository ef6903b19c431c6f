#include "train/report/html.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace lumachrome {
namespace {

constexpr double kLarge = 1e16;  // past 2^53 digits mean nothing

std::string text(const char* format, double value) {
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}

std::string with_separators(std::string digits) {
    const size_t start = digits.starts_with("-") ? 1 : 0;
    for (size_t i = digits.size(); i > start + 3; i -= 3) digits.insert(i - 3, ",");
    return digits;
}

}  // namespace

std::string escape_html(std::string_view raw, size_t most) {
    if (raw.size() > most) {
        // Not within a character of UTF-8.
        while (most > 0 && (raw[most] & 0xC0) == 0x80) --most;
        raw = raw.substr(0, most);
    }
    std::string safe;
    for (const char c : raw) switch (c) {
            case '&':
                safe += "&amp;";
                break;
            case '<':
                safe += "&lt;";
                break;
            case '>':
                safe += "&gt;";
                break;
            case '"':
                safe += "&quot;";
                break;
            case '\'':
                safe += "&#39;";
                break;
            case '\0':
                break;  // not allowed in HTML
            default:
                safe += c;
        }
    return safe;
}

std::string format_count(double value) {
    if (!std::isfinite(value)) return "–";
    if (std::abs(value) >= kLarge) return text("%.3g", value);
    return with_separators(text("%.0f", value));
}

std::string format_figure(double value) {
    if (!std::isfinite(value)) return "–";
    const double size = std::abs(value);
    if (size == 0) return "0";
    if (size >= 1e7) return text("%.3g", value);
    if (size >= 1000) return format_count(value);
    if (size >= 1e-3) return text("%.3g", value);
    std::string digits = text("%.1e", value);  // 1.0e-05
    for (const char* superfluous : {".0", "e-0"}) {
        const size_t at = digits.find(superfluous);
        if (at != std::string::npos) digits.replace(at, 3, superfluous[0] == 'e' ? "e-" : "e");
    }
    return digits;
}

std::string format_percent(double share) {
    if (!std::isfinite(share)) return "–";
    return format_figure(std::round(share * 1000) / 10) + "&thinsp;%";
}

std::string format_fixed(double value, int decimals) {
    if (!std::isfinite(value)) return "–";
    if (std::abs(value) >= kLarge) return text("%.3g", value);
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, "%.*f", decimals, value);
    return buffer;
}

std::string format_duration(double seconds) {
    if (!(seconds >= 0) || seconds > 1e12) return "–";
    const auto whole = std::llround(seconds);
    const auto part = [](int64_t value, const char* unit) {
        return std::to_string(value) + " <em>" + unit + "</em>";
    };
    if (whole < 60) return part(whole, "s");
    if (whole < 3600) return part(whole / 60, "min") + " " + part(whole % 60, "s");
    if (whole < 48 * 3600) return part(whole / 3600, "h") + " " + part(whole % 3600 / 60, "min");
    return part(whole / 86400, "d") + " " + part(whole % 86400 / 3600, "h");
}

std::string base64(const std::vector<uint8_t>& bytes) {
    static const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string result;
    result.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t left = std::min<size_t>(3, bytes.size() - i);
        uint32_t group = 0;
        for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < left ? bytes[i + j] : 0u);
        for (size_t j = 0; j < 4; ++j)
            result += j <= left ? digits[group >> (18 - 6 * j) & 63] : '=';
    }
    return result;
}

}  // namespace lumachrome
