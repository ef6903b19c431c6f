// Text for web pages: escaping, and numbers as people read them. Not a number becomes a dash.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lumachrome {

// Safe between tags and in quoted attributes. A name from a file may be of any length: more than
// `most` bytes are cut off.
std::string escape_html(std::string_view raw, size_t most = std::string_view::npos);

std::string base64(const std::vector<uint8_t>& bytes);  // for data: addresses

std::string format_count(double value);                // 12,300
std::string format_figure(double value);               // three digits: 0.0123, 1.2e-5, 12,300
std::string format_fixed(double value, int decimals);  // 10.40
std::string format_percent(double share);              // 0.755 -> 75.5 %
std::string format_duration(double seconds);           // 3 h 12 min, units in <em>

}  // namespace lumachrome
