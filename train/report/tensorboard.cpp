#include "train/report/tensorboard.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string_view>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr std::array<uint32_t, 256> crc_table() {
    constexpr uint32_t kCastagnoli = 0x82F63B78;  // bits reversed
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kCastagnoli : 0);
        table[i] = crc;
    }
    return table;
}

// A CRC over data that hold their own CRC says little; TFRecord therefore rotates and shifts it.
uint32_t masked_crc(std::span<const uint8_t> bytes) {
    const uint32_t crc = crc32c(bytes);
    return std::rotr(crc, 15) + 0xA282EAD8u;
}

void put_fixed(Bytes& out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void put_varint(Bytes& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
    out.push_back(static_cast<uint8_t>(value));
}

// Field key: number and wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes).
void put_key(Bytes& out, uint32_t field, uint32_t wire) {
    put_varint(out, field << 3 | wire);
}

// Zero is the default of a number and stays away, as in the files TensorBoard's own writer makes.
void put_integer(Bytes& out, uint32_t field, int64_t value) {
    if (value == 0) return;
    put_key(out, field, 0);
    put_varint(out, static_cast<uint64_t>(value));
}

void put_bytes(Bytes& out, uint32_t field, std::span<const uint8_t> bytes) {
    put_key(out, field, 2);
    put_varint(out, bytes.size());
    out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_string(Bytes& out, uint32_t field, std::string_view text) {
    put_bytes(out, field, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Bytes new_event(int64_t step) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    Bytes event;
    put_key(event, 1, 1);
    put_fixed(event, std::bit_cast<uint64_t>(std::chrono::duration<double>(now).count()), 8);
    put_integer(event, 2, step);
    return event;
}

void put_record(Bytes& out, std::span<const uint8_t> data) {
    Bytes length;
    put_fixed(length, data.size(), 8);
    out.insert(out.end(), length.begin(), length.end());
    put_fixed(out, masked_crc(length), 4);
    out.insert(out.end(), data.begin(), data.end());
    put_fixed(out, masked_crc(data), 4);
}

std::string file_name() {
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    std::string host;
    for (const char* c = name; *c; ++c)
        host += std::isalnum(static_cast<unsigned char>(*c)) || *c == '.' || *c == '-' ? *c : '_';
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    std::string seconds =
        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count());
    // Files are read in the order of their names: ten digits keep that the order of time.
    if (seconds.size() < 10) seconds.insert(0, 10 - seconds.size(), '0');
    return "events.out.tfevents." + seconds + "." + (host.empty() ? "localhost" : host) + "." +
           std::to_string(::getpid());
}

}  // namespace

uint32_t crc32c(std::span<const uint8_t> bytes) {
    static constexpr std::array<uint32_t, 256> kTable = crc_table();
    uint32_t crc = ~0u;
    for (const uint8_t byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ byte) & 0xFF];
    return ~crc;
}

TensorBoardWriter::TensorBoardWriter(std::string run, int64_t done_steps)
    : run_(std::move(run)), done_steps_(done_steps) {}

TensorBoardWriter::~TensorBoardWriter() {
    if (fd_ >= 0) ::close(fd_);
}

void TensorBoardWriter::scalars(int64_t step, const Scalars& values) {
    Bytes summary;
    for (const auto& [tag, number] : values) {
        if (std::isnan(number)) continue;
        Bytes value;
        put_string(value, 1, tag);
        put_key(value, 2, 5);
        put_fixed(value, std::bit_cast<uint32_t>(static_cast<float>(number)), 4);
        put_bytes(summary, 1, value);
    }
    if (summary.empty()) return;
    open();
    Bytes event = new_event(step);
    put_bytes(event, 5, summary);
    append(event);
}

void TensorBoardWriter::image(int64_t step, const std::string& tag, std::span<const uint8_t> png,
                              int64_t width, int64_t height) {
    Bytes picture, value, summary;
    put_integer(picture, 1, height);
    put_integer(picture, 2, width);
    put_integer(picture, 3, 3);
    put_bytes(picture, 4, png);
    put_string(value, 1, tag);
    put_bytes(value, 4, picture);
    put_bytes(summary, 1, value);
    open();
    Bytes event = new_event(step);
    put_bytes(event, 5, summary);
    append(event);
}

void TensorBoardWriter::open() {
    if (fd_ >= 0) return;
    const std::string base = run_ + "/" + file_name();
    path_ = base;
    // A process that trains twice within a second needs two names.
    for (int again = 1;; ++again) {
        fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (fd_ >= 0) break;
        if (errno == EEXIST) {
            path_ = base + "." + std::to_string(again);
        } else if (errno != EINTR) {
            throw ResourceError(path_ + ": cannot create: " + std::strerror(errno));
        }
    }
    try {
        Bytes version = new_event(0);
        put_string(version, 3, "brain.Event:2");
        append(version);
        if (done_steps_ > 0) {
            // TensorBoard forgets this step too, and the last one done is to stay.
            Bytes start = new_event(done_steps_ + 1), log;
            put_integer(log, 1, 1);
            put_bytes(start, 7, log);
            append(start);
        }
    } catch (...) {
        ::close(fd_);
        ::unlink(path_.c_str());
        fd_ = -1;
        size_ = 0;
        torn_ = false;
        throw;
    }
}

void TensorBoardWriter::append(std::span<const uint8_t> event) {
    Bytes record;
    put_record(record, event);
    std::span<const uint8_t> left = record;
    // Half a record would hide all that follow.
    if (torn_ && ::ftruncate(fd_, size_) != 0)
        throw ResourceError(path_ + ": cannot write: " + std::strerror(errno));
    torn_ = false;
    while (!left.empty()) {
        const ssize_t written = ::write(fd_, left.data(), left.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            const std::string reason = std::strerror(errno);
            torn_ = ::ftruncate(fd_, size_) != 0;
            throw ResourceError(path_ + ": cannot write: " + reason);
        }
        left = left.subspan(static_cast<size_t>(written));
    }
    size_ += static_cast<int64_t>(record.size());
}

}  // namespace lumachrome
