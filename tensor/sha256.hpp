// SHA-256 (FIPS 180-4), so that a converted file can name what it was made from.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace lumachrome {

// 64 hexadecimal digits, as `sha256sum` prints them.
std::string sha256(std::span<const uint8_t> bytes);

}  // namespace lumachrome
