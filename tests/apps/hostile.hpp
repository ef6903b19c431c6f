// Files that mean harm, or met with an accident: each with the exit code that it must end in.
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "image/codec.hpp"
#include "model/colornet.hpp"
#include "model/state.hpp"
#include "tensor/error.hpp"

namespace lumachrome {

using Bytes = std::vector<uint8_t>;

struct Hostile {
    std::string name;  // of the file
    Bytes bytes;
    int code;
};

inline Image striped(int64_t width, int64_t height, int channels = 3, int bits = 8) {
    Image image = Image::make(width, height, channels, bits);
    for (size_t i = 0; i < image.bytes.size(); ++i)
        image.bytes[i] = static_cast<uint8_t>(i * 7 + i / 97 * 13);
    return image;
}

inline Bytes cut(const Bytes& bytes, size_t length) {
    return {bytes.begin(),
            bytes.begin() + static_cast<std::ptrdiff_t>(std::min(length, bytes.size()))};
}

inline void put32(Bytes& bytes, size_t at, uint32_t value) {  // big-endian, as PNG has it
    for (size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

// CRC-32 of ISO 3309, as PNG's chunks carry it.
inline uint32_t crc32(const uint8_t* bytes, size_t count) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

inline Bytes chunk(const std::string& type, const Bytes& data) {
    Bytes out(data.size() + 12);
    put32(out, 0, static_cast<uint32_t>(data.size()));
    std::copy(type.begin(), type.end(), out.begin() + 4);
    std::copy(data.begin(), data.end(), out.begin() + 8);
    put32(out, out.size() - 4, crc32(out.data() + 4, data.size() + 4));
    return out;
}

constexpr size_t kAfterHeader = 8 + 25;  // signature and IHDR

inline Bytes with_chunk(Bytes png, const Bytes& extra) {
    png.insert(png.begin() + kAfterHeader, extra.begin(), extra.end());
    return png;
}

// The same pixels data under another size or pixel kind, checksum right.
inline Bytes with_header(Bytes png, uint32_t width, uint32_t height, int depth = 8, int kind = 2) {
    put32(png, 16, width);
    put32(png, 20, height);
    png[24] = static_cast<uint8_t>(depth);
    png[25] = static_cast<uint8_t>(kind);
    put32(png, 29, crc32(png.data() + 12, 17));
    return png;
}

// A zlib stream of `count` zero bytes: one literal, then copies of 258 at distance 1, each a length
// symbol 285 (8 bits) and a distance symbol 0 (5 bits) of the fixed code (RFC 1951, 3.2.6): 1:158.
inline Bytes bomb(int64_t count) {
    Bytes out{0x78, 0x9c};
    uint32_t pending = 0;
    int used = 0;
    const auto bit = [&](uint32_t b) {
        pending |= b << used;
        if (++used < 8) return;
        out.push_back(static_cast<uint8_t>(pending));
        pending = 0;
        used = 0;
    };
    const auto code = [&](uint32_t value, int bits) {  // codes go most significant bit first
        for (int i = bits - 1; i >= 0; --i) bit(value >> i & 1);
    };
    bit(1), bit(1), bit(0);  // last block, fixed code
    code(0x30, 8);           // literal 0
    for (int64_t done = 1; done + 258 <= count; done += 258) code(0xc5, 8), code(0, 5);
    code(0, 7);  // end of block
    while (used != 0) bit(0);
    out.insert(out.end(), 4, 0);  // a checksum; wrong, but that is known only at the end
    return out;
}

inline Bytes named_bomb(const std::string& keyword, int64_t count) {
    Bytes data(keyword.begin(), keyword.end());
    data.insert(data.end(), 2, 0);  // end of the keyword, compression method 0
    const Bytes stream = bomb(count);
    data.insert(data.end(), stream.begin(), stream.end());
    return data;
}

inline size_t find(const Bytes& bytes, const std::string& text) {
    const auto same = [](uint8_t byte, char c) { return byte == static_cast<uint8_t>(c); };
    const auto at = std::search(bytes.begin(), bytes.end(), text.begin(), text.end(), same);
    if (at == bytes.end()) throw Error("the sample has no " + text);
    return static_cast<size_t>(at - bytes.begin());
}

inline Bytes png_signature() {
    return {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
}

inline std::vector<Hostile> hostile_photos() {
    const Bytes png = encode(striped(40, 30), Format::png);
    const Bytes gray = encode(striped(40, 30, 1), Format::png);
    const Bytes jpeg = encode(striped(40, 30), Format::jpeg);
    std::vector<Hostile> all;
    Bytes data_bomb = cut(encode(striped(40, 30, 1), Format::png), kAfterHeader);
    for (const Bytes& part : {chunk("IDAT", bomb(int64_t{400} << 20)), chunk("IEND", {})})
        data_bomb.insert(data_bomb.end(), part.begin(), part.end());
    const auto bad = [&](const std::string& name, Bytes bytes) {
        all.push_back({name, std::move(bytes), 3});
    };

    bad("empty.png", {});
    bad("data-bomb.png", data_bomb);
    // Narrow and very high: a few bytes must not buy memory for all rows.
    const auto promised = [](uint32_t width, uint32_t height, uint8_t color_type) {
        Bytes fields(13);
        put32(fields, 0, width);
        put32(fields, 4, height);
        fields[8] = 8;
        fields[9] = color_type;
        Bytes bytes = png_signature();
        for (const Bytes& part :
             {chunk("IHDR", fields), chunk("IDAT", Bytes{0x78, 0x9c}), chunk("IEND", {})})
            bytes.insert(bytes.end(), part.begin(), part.end());
        return bytes;
    };
    bad("high-rgb.png", promised(680, 370'000, 2));
    bad("high-gray.png", promised(1, 200'000'000, 0));
    for (size_t at : {size_t{1}, size_t{7}, size_t{8}, size_t{20}, kAfterHeader, kAfterHeader + 4,
                      kAfterHeader + 9, png.size() / 2, png.size() - 13})
        bad("cut-" + std::to_string(at) + ".png", cut(png, at));
    for (size_t at : {size_t{2}, size_t{3}, size_t{20}, find(jpeg, "\xff\xc0"),
                      find(jpeg, "\xff\xda") + 2, find(jpeg, "\xff\xda") + 30, jpeg.size() - 2})
        bad("cut-" + std::to_string(at) + ".jpg", cut(jpeg, at));

    const std::string html = "<!DOCTYPE html><title>404</title>";
    bad("page.jpg", Bytes(html.begin(), html.end()));
    bad("zeros.png", Bytes(5000, 0));
    Bytes broken = png;
    broken[1] = 'Q';
    bad("signature.png", broken);
    broken = png;
    broken[18] ^= 1;
    bad("header-crc.png", broken);
    broken = png;
    broken[find(png, "IDAT") + 10] ^= 0x40;
    bad("data-crc.png", broken);
    bad("huge-2e31.png", with_header(png, 65536, 32768));
    bad("huge-line.png", with_header(png, 0x7fffffff, 1));
    bad("huge-square.png", with_header(png, 0x7fffffff, 0x7fffffff));
    bad("no-width.png", with_header(png, 0, 30));
    bad("more-rows.png", with_header(png, 40, 31));
    bad("depth-3.png", with_header(png, 40, 30, 3, 0));
    bad("kind-5.png", with_header(png, 40, 30, 8, 5));
    bad("no-palette.png", with_header(gray, 40, 30, 8, 3));
    bad("large-empty.png", with_header(png, 16000, 15000));
    Bytes no_data = cut(png, kAfterHeader);
    const Bytes end = chunk("IEND", {});
    no_data.insert(no_data.end(), end.begin(), end.end());
    bad("no-data.png", no_data);
    Bytes short_data = cut(png, kAfterHeader);
    const Bytes few = chunk("IDAT", bomb(1000));
    short_data.insert(short_data.end(), few.begin(), few.end());
    short_data.insert(short_data.end(), end.begin(), end.end());
    bad("short-data.png", short_data);
    bad("unknown-critical.png", with_chunk(png, chunk("QQQQ", {1, 2, 3})));
    broken = png;
    put32(broken, kAfterHeader, 0x7ffffff0);
    bad("long-chunk.png", broken);

    broken = jpeg;
    for (size_t i = 5; i < 9; ++i) broken[find(jpeg, "\xff\xc0") + i] = 0xff;  // height, width
    bad("huge.jpg", broken);
    broken = jpeg;
    for (size_t i = 5; i < 9; ++i) broken[find(jpeg, "\xff\xc0") + i] = 0;
    bad("no-size.jpg", broken);
    broken = jpeg;
    broken[find(jpeg, "\xff\xc0") + 4] = 12;
    bad("12-bit.jpg", broken);
    broken = jpeg;
    broken[find(jpeg, "\xff\xdb") + 1] = 0xfe;  // the first quantisation table becomes a comment
    bad("no-table.jpg", broken);
    broken = jpeg;
    for (size_t i = find(jpeg, "\xff\xda") + 20; i + 2 < broken.size(); ++i)
        broken[i] = uint8_t(i * 31);
    bad("noise.jpg", broken);

    const Bytes ppm = encode(striped(40, 30), Format::ppm);
    bad("cut.ppm", cut(ppm, ppm.size() - 1));
    bad("cut-header.ppm", cut(ppm, 6));
    for (const std::string header : {"P6 16000 15000 255\n", "P6 999999999 999999999 255\n",
                                     "P6 0 30 255\n", "P6 40 30 65535\n", "P6 -40 30 255\n"}) {
        Bytes bytes(header.begin(), header.end());
        bytes.resize(8000);
        bad("header-" + std::to_string(all.size()) + ".ppm", bytes);
    }
    return all;
}

// Odd, and still photos: they must come out in their size, within the same limits.
inline std::vector<Hostile> odd_photos() {
    const Bytes png = encode(striped(40, 30), Format::png);
    return {
        {"one.png", encode(striped(1, 1), Format::png), 0},
        {"one.jpg", encode(striped(1, 1), Format::jpeg), 0},
        {"wide.png", encode(striped(100'000, 1, 1), Format::png), 0},
        {"high.png", encode(striped(1, 100'000, 1), Format::png), 0},
        {"text-bomb.png", with_chunk(png, chunk("zTXt", named_bomb("a", int64_t{400} << 20))), 0},
        {"profile-bomb.png", with_chunk(png, chunk("iCCP", named_bomb("a", int64_t{400} << 20))),
         0}};
}

inline std::vector<Hostile> hostile_models() {
    ColorNet net(preset("tiny"), 1);
    const TensorFile model = model_file(net);
    const Bytes good = serialize(model);
    uint64_t header = 0;
    std::memcpy(&header, good.data(), 8);
    std::vector<Hostile> all;
    const auto bad = [&](const std::string& name, Bytes bytes) {
        all.push_back({name + ".safetensors", std::move(bytes), 4});
    };
    const auto changed = [&](const std::string& name,
                             const std::function<void(TensorFile&)>& change) {
        TensorFile file = model;
        change(file);
        bad(name, serialize(file));
    };
    bad("empty", {});
    for (size_t at :
         {size_t{1}, size_t{7}, size_t{8}, size_t{9}, size_t{100}, size_t{8 + header - 1},
          size_t{8 + header}, size_t{8 + header + 1}, good.size() / 2, good.size() - 1})
        bad("cut-" + std::to_string(at), cut(good, at));
    Bytes longer = good;
    longer.push_back(0);
    bad("trailing", longer);
    Bytes damaged = good;
    std::memset(damaged.data(), 0xff, 8);
    bad("header-length", damaged);
    damaged = good;
    damaged[8] = '[';
    bad("not-json", damaged);
    bad("photo", encode(striped(40, 30), Format::png));
    damaged = good;
    damaged[find(good, "\"F32\"") + 1] = 'Q';
    bad("dtype", damaged);

    for (const char* key : {"format", "width_divisor", "activation", "class_names"}) {
        changed(std::string("without-") + key, [&](TensorFile& f) { f.metadata.erase(key); });
        changed(std::string("wrong-") + key, [&](TensorFile& f) { f.metadata[key] = "x"; });
    }
    const auto value = [&](const std::string& key, const std::string& text) {
        changed(key + "-" + text, [&](TensorFile& f) { f.metadata[key] = text; });
    };
    value("width_divisor", "0");
    value("width_divisor", "3");
    value("width_divisor", "1");
    value("classes", "99999999999999999999");
    value("classes", "100000");
    value("classes", "-1");
    value("global_size", "1024");
    value("fusion_kernel", "2");
    value("fusion_kernel", "1");
    value("use_global", "false");
    value("ab_scale", "nan");
    value("luma_mean", "1e400");
    // Sizes that only the metadata knows, with tensors of no bytes at all.
    bad("hollow", serialize({[&] {
                                 Metadata metadata = model.metadata;
                                 metadata["width_divisor"] = "1";
                                 metadata["global_size"] = "1024";
                                 return metadata;
                             }(),
                             {{"global.fc1.linear.weight", Tensor::empty({0, 524'288})},
                              {"classifier.2.linear.weight", Tensor::empty({3, 0})}}}));
    // 2^18 values in a header of half a MiB.
    const std::string list = "{\"__metadata__\":[0" + [] {
        std::string zeros;
        for (int i = 0; i < 1 << 18; ++i) zeros += ",0";
        return zeros;
    }() + "]}";
    Bytes many(8 + list.size());
    const uint64_t length = list.size();
    std::memcpy(many.data(), &length, 8);
    std::copy(list.begin(), list.end(), many.begin() + 8);
    bad("many-values", many);
    changed("logits-not-a-number", [](TensorFile& f) {
        f.tensors.at("classifier.2.linear.bias").fill(std::numeric_limits<double>::quiet_NaN());
    });
    changed("tensor-missing", [](TensorFile& f) { f.tensors.erase("output.conv.bias"); });
    changed("tensor-extra", [](TensorFile& f) { f.tensors["mystery"] = Tensor::zeros({1}); });
    changed("tensor-shape",
            [](TensorFile& f) { f.tensors["output.conv.bias"] = Tensor::zeros({3}); });
    changed("tensor-renamed", [](TensorFile& f) {
        auto node = f.tensors.extract("output.conv.bias");
        node.key() = "output.conv.bies";
        f.tensors.insert(std::move(node));
    });
    changed("not-a-number", [](TensorFile& f) {
        const Tensor bias = Tensor::zeros({2});
        bias.fill(std::numeric_limits<double>::quiet_NaN());
        f.tensors["output.conv.bias"] = bias;
    });
    return all;
}

}  // namespace lumachrome
