// Small colour profiles (ICC.1:2010, version 2) written byte by byte, so that what reads them is
// checked against the standard and not against itself.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace lumachrome::icc {

using Bytes = std::vector<uint8_t>;

inline void put(Bytes& to, int64_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8)
        to.push_back(static_cast<uint8_t>(value >> shift));
}
inline void put(Bytes& to, const char* text) {
    for (int i = 0; i < 4; ++i) to.push_back(static_cast<uint8_t>(text[i]));
}

struct Tag {
    const char* name;
    Bytes data;
};

// `space` is "RGB ", "GRAY" or "CMYK"; `connection` "XYZ " or "Lab ".
inline Bytes profile(const char* space, const char* connection, const std::vector<Tag>& tags,
                     const char* kind = "mntr") {
    Bytes table, data;
    put(table, static_cast<int64_t>(tags.size()), 4);
    const size_t start = 128 + 4 + 12 * tags.size();
    for (const Tag& tag : tags) {
        put(table, tag.name);
        put(table, static_cast<int64_t>(start + data.size()), 4);
        put(table, static_cast<int64_t>(tag.data.size()), 4);
        data.insert(data.end(), tag.data.begin(), tag.data.end());
        data.resize((data.size() + 3) / 4 * 4);
    }
    Bytes out;
    put(out, static_cast<int64_t>(start + data.size()), 4);
    put(out, 0, 4), put(out, 0x02400000, 4);
    put(out, kind), put(out, space), put(out, connection);
    for (const int part : {2020, 1, 1, 0, 0, 0}) put(out, part, 2);
    put(out, "acsp");
    out.resize(68);
    put(out, 0xF6D6, 4), put(out, 0x10000, 4), put(out, 0xD32D, 4);  // D50
    out.resize(128);
    out.insert(out.end(), table.begin(), table.end());
    out.insert(out.end(), data.begin(), data.end());
    return out;
}

inline Bytes xyz(double x, double y, double z) {
    Bytes data;
    put(data, "XYZ "), put(data, 0, 4);
    for (const double value : {x, y, z}) put(data, std::llround(value * 65536), 4);
    return data;
}
inline Bytes gamma(double exponent) {
    Bytes data;
    put(data, "curv"), put(data, 0, 4), put(data, 1, 4);
    put(data, std::llround(exponent * 256), 2);
    return data;
}
inline Bytes curve(const std::function<double(double)>& f, int entries = 1024) {
    Bytes data;
    put(data, "curv"), put(data, 0, 4), put(data, entries, 4);
    for (int i = 0; i < entries; ++i)
        put(data, std::llround(f(1.0 * i / (entries - 1)) * 65535), 2);
    return data;
}

inline Bytes gray(const Bytes& tones) {
    return profile("GRAY", "XYZ ", {{"wtpt", xyz(0.9642, 1, 0.8249)}, {"kTRC", tones}});
}

// Columns of RGB to XYZ under D50.
using Primaries = std::array<std::array<double, 3>, 3>;
inline constexpr Primaries kSrgb = {
    {{0.43607, 0.22249, 0.01392}, {0.38515, 0.71687, 0.09708}, {0.14307, 0.06061, 0.71410}}};
inline constexpr Primaries kAdobe = {
    {{0.60974, 0.31111, 0.01947}, {0.20528, 0.62567, 0.06087}, {0.14919, 0.06322, 0.74457}}};
inline constexpr Primaries kProPhoto = {
    {{0.79767, 0.28804, 0.0}, {0.13519, 0.71187, 0.0}, {0.03135, 0.00009, 0.82491}}};

inline Bytes rgb(const Primaries& p, const Bytes& tones) {
    const auto column = [&](size_t i) { return xyz(p[i][0], p[i][1], p[i][2]); };
    return profile("RGB ", "XYZ ",
                   {{"wtpt", xyz(0.9642, 1, 0.8249)},
                    {"rXYZ", column(0)},
                    {"gXYZ", column(1)},
                    {"bXYZ", column(2)},
                    {"rTRC", tones},
                    {"gTRC", tones},
                    {"bTRC", tones}});
}

// A table of 2 nodes a channel, `node` giving the outputs for inputs of 0 and 1.
inline Bytes table(int in, int out, const std::function<Bytes(const std::vector<int>&)>& node) {
    Bytes data;
    put(data, "mft1"), put(data, 0, 4);
    for (const int part : {in, out, 2, 0}) put(data, part, 1);
    for (int i = 0; i < 9; ++i) put(data, i % 4 == 0 ? 65536 : 0, 4);
    const auto identity = [&](int channels) {
        for (int i = 0; i < 256 * channels; ++i) put(data, i % 256, 1);
    };
    identity(in);
    for (int i = 0; i < 1 << in; ++i) {
        std::vector<int> inputs;
        for (int c = in - 1; c >= 0; --c) inputs.push_back(i >> c & 1);
        const Bytes outputs = node(inputs);
        data.insert(data.end(), outputs.begin(), outputs.end());
    }
    identity(out);
    return data;
}

// Inks that darken a paper of L 100 to `black`, the coloured ones a third each; no hues.
inline Bytes cmyk(double black) {
    const auto lab = [&](const std::vector<int>& ink) {
        const double dark = ink[3] ? 1 : (ink[0] + ink[1] + ink[2]) / 3.0;
        return Bytes{static_cast<uint8_t>(std::lround((100 + (black - 100) * dark) * 2.55)), 128,
                     128};
    };
    const auto inks = [](const std::vector<int>& color) {
        return Bytes{0, 0, 0, static_cast<uint8_t>(color[0] ? 0 : 255)};
    };
    return profile(
        "CMYK", "Lab ",
        {{"wtpt", xyz(0.9642, 1, 0.8249)}, {"A2B0", table(4, 3, lab)}, {"B2A0", table(3, 4, inks)}},
        "prtr");
}

}  // namespace lumachrome::icc
