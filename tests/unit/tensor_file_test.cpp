#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <thread>

#include "support/random_tensor.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "tensor/tensor_file.hpp"

using namespace lumachrome;

namespace {

std::vector<uint8_t> with_header(const std::string& header, size_t buffer_bytes) {
    std::vector<uint8_t> bytes(8 + header.size() + buffer_bytes);
    const uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, 8);
    std::memcpy(bytes.data() + 8, header.data(), header.size());
    return bytes;
}

std::string error_of(std::vector<uint8_t> bytes) {
    try {
        parse_tensor_file(std::move(bytes), "file");
    } catch (const ModelError& error) {
        return error.what();
    }
    return "accepted";
}

TensorFile sample() {
    TensorFile file;
    file.metadata["licence"] = "none \"quoted\"";
    file.tensors["b.weight"] = random_tensor({2, 3}, 1);
    file.tensors["a.weight"] = to_f16(random_tensor({4}, 2));
    file.tensors["scalar"] = random_tensor({}, 3, DType::f64);
    file.tensors["empty"] = Tensor::empty({0, 3});
    return file;
}

}  // namespace

TEST_CASE("tensor files come back bit for bit") {
    const TensorFile file = sample();
    const TensorFile again = parse_tensor_file(serialize(file), "file");
    CHECK(again.metadata == file.metadata);
    REQUIRE(again.tensors.size() == file.tensors.size());
    for (const auto& [name, tensor] : file.tensors)
        CHECK(bit_equal(again.tensors.at(name), tensor));
}

TEST_CASE("tensors share the file's memory and outlive it; unaligned ones are copied") {
    TensorFile file;
    file.tensors["a"] = random_tensor({300}, 1);
    file.tensors["b"] = random_tensor({200}, 2, DType::f64);
    const std::vector<uint8_t> bytes = serialize(file);
    uint64_t length;
    std::memcpy(&length, bytes.data(), 8);
    for (uint64_t more = 0; more < 8; ++more) {  // a longer header moves the tensors
        std::vector<uint8_t> moved = bytes;
        moved.insert(moved.begin() + 8 + static_cast<ptrdiff_t>(length), more, ' ');
        const uint64_t longer = length + more;
        std::memcpy(moved.data(), &longer, 8);
        const auto begin = reinterpret_cast<uintptr_t>(moved.data()), end = begin + moved.size();
        Tensor kept;
        {
            const TensorFile again = parse_tensor_file(std::move(moved), "file");
            for (const auto& [name, tensor] : again.tensors) {
                const auto at = reinterpret_cast<uintptr_t>(tensor.raw());
                const auto size = static_cast<uintptr_t>(size_in_bytes(tensor.dtype()));
                CHECK(at % size == 0);
                CHECK((at >= begin && at < end) == (more % size == 0));
                CHECK(bit_equal(tensor, file.tensors.at(name)));
            }
            kept = again.tensors.at("a");
        }
        CHECK(bit_equal(kept, file.tensors.at("a")));
    }
}

TEST_CASE("every truncation of a tensor file is refused") {
    const std::vector<uint8_t> bytes = serialize(sample());
    for (size_t length = 0; length < bytes.size(); ++length)
        REQUIRE(error_of({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length)}) !=
                "accepted");
    std::vector<uint8_t> longer = bytes;
    longer.push_back(0);
    CHECK(error_of(longer) != "accepted");
}

TEST_CASE("each rule of strict safetensors has its message") {
    const auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
        return std::string(R"({"t":{"dtype":")") + dtype + R"(","shape":)" + shape +
               R"(,"data_offsets":)" + offsets + "}}";
    };
    struct {
        std::string header;
        size_t bytes;
        const char* message;
    } const cases[] = {
        {tensor("F32", "[2]", "[0,8]"), 8, "accepted"},
        {"  " + tensor("F32", "[2]", "[0,8]") + "  ", 8, "accepted"},
        {tensor("I32", "[2]", "[0,8]"), 8, "dtype I32"},
        {tensor("F32", "[3]", "[0,8]"), 8, "do not hold"},
        {tensor("F32", "[-2]", "[0,8]"), 8, "negative"},
        {tensor("F32", "[1,1,1,1,2]", "[0,8]"), 8, "rank exceeds 4"},
        {tensor("F32", "[2.0]", "[0,8]"), 8, "integer is needed"},
        {tensor("F32", "[2]", "[8,0]"), 8, "do not hold"},
        {tensor("F32", "[2]", "[4,12]"), 12, "hole or overlaps"},
        {tensor("F32", "[2]", "[0,8]"), 12, "the file holds 12"},
        {tensor("F32", "[2]", "[0,8]"), 4, "truncated"},
        {tensor("F32", "[9223372036854775807]", "[0,8]"), 8, "do not hold"},
        {tensor("F32", "[4611686018427387904,4]", "[0,8]"), 8, "too large"},
        {tensor("F32", "[18446744073709551615]", "[0,8]"), 8, "2^63"},
        {R"({"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"t":{}})", 0, "twice"},
        {R"({"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"x":1}})", 0, "unknown key x"},
        {R"({"t":{"dtype":"F32","shape":[0]}})", 0, "data_offsets"},
        {R"({"__metadata__":{"a":1}})", 0, "string is needed"},
        {R"([1])", 0, "object is needed"},
        {R"({"a":[[[[[[[[[[]]]]]]]]]]})", 0, "deeper"},
        {"{", 0, "not valid JSON"},
        {"{} {}", 0, "not valid JSON"},
        {"", 0, "not valid JSON"},
    };
    for (const auto& c : cases) {
        CAPTURE(c.header);
        CHECK(error_of(with_header(c.header, c.bytes)).find(c.message) != std::string::npos);
    }
    std::vector<uint8_t> huge = with_header("{}", 0);
    huge[7] = 0xff;
    CHECK(error_of(huge).find("1 MiB") != std::string::npos);
}

TEST_CASE("files are written whole or not at all") {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / "lumachrome_file_test";
    fs::remove_all(folder);
    fs::create_directories(folder);
    const std::string path = (folder / "file").string();
    const std::vector<uint8_t> one{1, 2, 3}, two{4};
    write_file_atomic(path, one, false);
    CHECK(read_file(path) == one);
    CHECK_THROWS_AS(write_file_atomic(path, two, false), UsageError);
    CHECK(read_file(path) == one);
    write_file_atomic(path, two, true);
    CHECK(read_file(path) == two);
    CHECK_THROWS_AS(write_file_atomic((folder / "none" / "file").string(), one, false),
                    ResourceError);
    const std::string late = (folder / "late").string();
    {
        AtomicFile dropped(late, false);
        dropped.write(one);
    }
    AtomicFile streamed(late, false);
    streamed.write(one);
    streamed.write(two);
    CHECK_FALSE(fs::exists(late));
    streamed.commit();
    CHECK(read_file(late) == std::vector<uint8_t>{1, 2, 3, 4});
    CHECK_THROWS_AS(AtomicFile(late, false), UsageError);
    {
        AtomicFile replacing(late, true), overtaken((folder / "new").string(), false);
        replacing.commit();
        write_file_atomic((folder / "new").string(), one, false);
        CHECK_THROWS_AS(overtaken.commit(), UsageError);
    }
    CHECK(read_file(late).empty());
    fs::remove(late), fs::remove(folder / "new");
    CHECK_THROWS_AS(read_file(folder.string()), InputError);
    CHECK_THROWS_AS(read_file((folder / "none").string()), InputError);
    CHECK_THROWS_AS(read_file(path, 0), InputError);
    CHECK(std::distance(fs::directory_iterator(folder), {}) == 1);  // no temporary file is left
    fs::remove_all(folder);
}

TEST_CASE("files, pipes and files without a size are read whole, checked by their start") {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / "lumachrome_read_test";
    fs::remove_all(folder);
    fs::create_directories(folder);
    const std::string path = (folder / "file").string(), pipe = (folder / "pipe").string();
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    // Sends `bytes` through the pipe in pieces; whoever hangs up early is not waited for.
    const auto sender = [&](std::vector<uint8_t> bytes) {
        return std::thread([&pipe, bytes = std::move(bytes)] {
            const int fd = ::open(pipe.c_str(), O_WRONLY);
            for (size_t at = 0, piece = 7; at < bytes.size(); at += piece, piece = piece * 2 + 1) {
                piece = std::min(piece, bytes.size() - at);
                if (::write(fd, bytes.data() + at, piece) != static_cast<ssize_t>(piece)) break;
            }
            ::close(fd);
        });
    };
    for (size_t size : {0, 1, 15, 16, 17, 65535, 65536, 65537, 131072, 300000}) {
        std::vector<uint8_t> bytes(size);
        for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251);
        write_file_atomic(path, bytes, true);
        int checks = 0;
        const auto check = [&](std::span<const uint8_t> start) {
            ++checks;
            CHECK(start.size() == std::min<size_t>(size, 16));
            CHECK(std::equal(start.begin(), start.end(), bytes.begin()));
        };
        CHECK(read_file(path, static_cast<int64_t>(size), check) == bytes);
        std::thread writer = sender(bytes);
        CHECK(read_file(pipe, static_cast<int64_t>(size), check) == bytes);
        writer.join();
        CHECK(checks == 2);
        if (size == 0) continue;
        CHECK_THROWS_AS(read_file(path, static_cast<int64_t>(size) - 1), InputError);
    }
    CHECK(read_file("/proc/self/cmdline").size() > 0);  // says that it is empty

    TensorFile file = sample();
    file.tensors["large"] = random_tensor({100, 1000}, 4);
    write_tensor_file(path, file, true);
    std::thread writer = sender(serialize(file));
    for (const TensorFile& again : {read_tensor_file(path), read_tensor_file(pipe)}) {
        REQUIRE(again.tensors.size() == file.tensors.size());
        for (const auto& [name, tensor] : file.tensors)
            CHECK(bit_equal(again.tensors.at(name), tensor));
    }
    writer.join();
    fs::resize_file(path, fs::file_size(path) - 1);
    CHECK_THROWS_AS(read_tensor_file(path), ModelError);
    write_file_atomic(path, std::vector<uint8_t>(7), true);
    CHECK_THROWS_AS(read_tensor_file(path), ModelError);
    CHECK_THROWS_AS(read_tensor_file(folder.string()), ModelError);
    fs::remove_all(folder);
}

TEST_CASE("JSON keeps order and numbers, and replaces keys") {
    Json json = Json::parse(R"({"b":1,"a":[true,null,-2.5,"\u00e9"]})");
    CHECK(json.dump() == R"({"b":1,"a":[true,null,-2.5,"é"]})");
    json.set("b", "x");
    CHECK(json.at("b").string() == "x");
    CHECK(Json(0.0 / 0.0).dump() == "null");
    CHECK_THROWS_AS(json.at("c"), InputError);
    CHECK_THROWS_AS(json.at("b").integer(), InputError);
}
