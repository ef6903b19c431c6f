#include "train/tar.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Header fields by byte offset: name 0..99, mode 100..107, uid 108..115, gid 116..123, size
// 124..135, time 136..147, checksum 148..155, type 156, magic 257..262, version 263..264, prefix
// 345..499; numbers are octal digits.
constexpr int64_t kBlock = 512;
constexpr size_t kNameBytes = 100, kPrefixAt = 345, kPrefixBytes = 155;
using Header = std::array<uint8_t, kBlock>;

InputError damaged(const std::string& path, int64_t offset, const std::string& rule) {
    return InputError(path + ": at byte " + std::to_string(offset) + ": " + rule);
}

// nullopt: not an octal number (a sign, base-256, nothing at all).
std::optional<int64_t> octal(std::span<const uint8_t> field) {
    size_t i = 0;
    while (i < field.size() && field[i] == ' ') ++i;
    const size_t first = i;
    int64_t value = 0;  // at most 12 digits: 36 bits
    for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i)
        value = value * 8 + (field[i] - '0');
    const bool ended = i == field.size() || field[i] == 0 || field[i] == ' ';
    return i > first && ended ? std::optional(value) : std::nullopt;
}

// Ends at a NUL, or with the field.
std::string text(std::span<const uint8_t> field) {
    std::string result(field.begin(), std::find(field.begin(), field.end(), 0));
    for (char& c : result)
        if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
    return result;
}

// The checksum counts its own field as blanks.
int64_t checksum(std::span<const uint8_t> header) {
    int64_t sum = 8 * ' ';
    for (size_t i = 0; i < header.size(); ++i) sum += i < 148 || i >= 156 ? header[i] : 0;
    return sum;
}

int64_t padded(int64_t bytes) {
    return (bytes + kBlock - 1) / kBlock * kBlock;
}

}  // namespace

TarReader::TarReader(std::string path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw InputError(path_ + ": cannot open: " + std::strerror(errno));
    struct stat info {};
    if (::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode)) {
        size_ = info.st_size;
        return;
    }
    ::close(fd_);
    throw InputError(path_ + ": an archive must be a regular file");
}

TarReader::~TarReader() {
    ::close(fd_);
}

// pread has no shared position, so threads need no lock.
void TarReader::read(int64_t offset, uint8_t* out, int64_t count) const {
    while (count > 0) {
        const ssize_t got = ::pread(fd_, out, static_cast<size_t>(count), offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            throw damaged(path_, offset, std::string("cannot read: ") + std::strerror(errno));
        if (got == 0) throw damaged(path_, offset, "the file has become shorter");
        out += got, offset += got, count -= got;
    }
}

std::vector<TarMember> TarReader::members() const {
    std::vector<TarMember> members;
    for (int64_t offset = 0;;) {
        const auto bad = [&](const std::string& rule) { return damaged(path_, offset, rule); };
        if (size_ - offset < kBlock) throw bad("the archive ends without an end-of-archive block");
        Header header;
        read(offset, header.data(), kBlock);
        const std::span<const uint8_t> all(header);
        if (std::all_of(all.begin(), all.end(), [](uint8_t byte) { return byte == 0; }))
            return members;

        if (!std::equal(all.begin() + 257, all.begin() + 262, "ustar"))
            throw bad("not a ustar header");
        const int64_t sum = checksum(all);
        if (octal(all.subspan(148, 8)) != sum)
            throw bad("the header's checksum is not " + std::to_string(sum));
        const auto size = octal(all.subspan(124, 12));
        if (!size) throw bad("the size is not an octal number");
        const uint8_t type = header[156];
        const bool has_data = type < '1' || type > '6';  // links, devices, folders have none
        const int64_t data = offset + kBlock, room = size_ - data;
        if (has_data && *size > room)
            throw bad("a member of " + std::to_string(*size) + " bytes, but only " +
                      std::to_string(room) + " follow");
        std::string name = text(all.subspan(0, kNameBytes));
        if (header[262] == 0) {  // old GNU archives have blanks here and other uses for the prefix
            const std::string prefix = text(all.subspan(kPrefixAt, kPrefixBytes));
            if (!prefix.empty()) name = prefix + "/" + name;
        }
        if (type == '0' || type == 0) members.push_back({std::move(name), data, *size});
        offset = data + (has_data ? padded(*size) : 0);
    }
}

int64_t TarWriter::member_bytes(int64_t count) {
    return kBlock + padded(count);
}

void TarWriter::add(const std::string& name, std::span<const uint8_t> bytes) {
    // A long name is split at its last slash.
    const size_t slash = name.size() <= kNameBytes ? name.npos : name.rfind('/');
    const std::string prefix = slash == name.npos ? "" : name.substr(0, slash);
    const std::string rest = slash == name.npos ? name : name.substr(slash + 1);
    constexpr size_t kMaxBytes = (size_t{1} << 33) - 1;  // 11 octal digits
    if (rest.empty() || rest.size() > kNameBytes || prefix.size() > kPrefixBytes)
        throw InputError(name + ": the name is too long for an archive");
    if (bytes.size() > kMaxBytes) throw InputError(name + ": too large for an archive");

    block_.assign(static_cast<size_t>(member_bytes(static_cast<int64_t>(bytes.size()))), 0);
    const auto put = [&](size_t at, const std::string& value) {
        std::copy(value.begin(), value.end(), block_.begin() + static_cast<std::ptrdiff_t>(at));
    };
    const auto octal_text = [](size_t value, int digits) {
        char field[24];
        std::snprintf(field, sizeof field, "%0*zo", digits, value);
        return std::string(field);
    };
    put(0, rest);
    put(100, octal_text(0644, 7));
    put(108, octal_text(0, 7));
    put(116, octal_text(0, 7));
    put(124, octal_text(bytes.size(), 11));
    put(136, octal_text(0, 11));
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    put(kPrefixAt, prefix);
    put(148, octal_text(static_cast<size_t>(checksum({block_.data(), kBlock})), 6));
    block_[155] = ' ';
    std::copy(bytes.begin(), bytes.end(), block_.begin() + kBlock);
    file_.write(block_);
    bytes_ += static_cast<int64_t>(block_.size());
}

void TarWriter::finish() {
    block_.assign(2 * kBlock, 0);
    file_.write(block_);
    bytes_ += 2 * kBlock;
    file_.commit();
}

}  // namespace lumachrome
