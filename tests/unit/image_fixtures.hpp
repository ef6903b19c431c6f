// What several suites of images need: noise, and the one line that decoding must fail with.
#pragma once
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "image/codec.hpp"
#include "tensor/error.hpp"

namespace lumachrome {

using Bytes = std::vector<uint8_t>;

inline Image random_image(int64_t width, int64_t height, int channels, int bits,
                          unsigned seed = 1) {
    Image image = Image::make(width, height, channels, bits);
    std::mt19937 random(seed);
    for (uint8_t& byte : image.bytes) byte = static_cast<uint8_t>(random());
    return image;
}

// The text of the InputError that decoding must throw.
inline std::string error_of(const Bytes& bytes, const DecodeLimits& limits = {}) {
    try {
        decode(bytes, "photo", limits);
    } catch (const InputError& error) {
        const std::string text = error.what();
        CHECK(text.rfind("photo: ", 0) == 0);
        CHECK(text.find('\n') == std::string::npos);
        return text;
    }
    return "no error";
}

inline bool contains(const std::string& text, const char* part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
    return text.find(part) != std::string::npos;
}

}  // namespace lumachrome
