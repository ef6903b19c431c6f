#include "tensor/arena.hpp"

#include <algorithm>
#include <iterator>

namespace lumachrome {

std::byte* Arena::take(int64_t bytes) {
    const auto fit = free_.lower_bound({bytes, nullptr});
    if (fit == free_.end()) return nullptr;
    std::byte* const at = fit->second;
    free_.erase(fit);
    Block& block = blocks_.at(at);
    if (block.bytes > bytes) {
        add_free(at + bytes, {block.bytes - bytes, false});
        block.bytes = bytes;
    }
    block.used = true;
    return at;
}

void Arena::give_back(std::byte* at) {
    auto block = blocks_.find(at);
    block->second.used = false;
    if (const auto next = std::next(block); next != blocks_.end() && joins(*block, *next)) {
        free_.erase({next->second.bytes, next->first});
        block->second.bytes += next->second.bytes;
        blocks_.erase(next);
    }
    if (block != blocks_.begin())
        if (const auto before = std::prev(block); joins(*before, *block)) {
            free_.erase({before->second.bytes, before->first});
            before->second.bytes += block->second.bytes;
            blocks_.erase(block);
            block = before;
        }
    free_.insert({block->second.bytes, block->first});
}

bool Arena::grow(int64_t bytes) {
    for (int64_t size = std::max(bytes, segment_);; size = std::max(bytes, size / 2)) {
        std::byte* const at = source_->take(size);
        if (at) add_free(at, {size, true});
        if (at || size == bytes) return at != nullptr;
    }
}

void Arena::release() {
    for (auto block = blocks_.begin(); block != blocks_.end();) {
        const auto next = std::next(block);
        const auto& [at, b] = *block;
        if (!b.used && b.first && (next == blocks_.end() || next->second.first)) {
            free_.erase({b.bytes, at});
            source_->give_back(at, b.bytes);
            blocks_.erase(block);
        } else if (!b.used) {
            source_->unused(at, b.bytes);
        }
        block = next;
    }
}

bool Arena::joins(const Place& a, const Place& b) {
    return !a.second.used && !b.second.used && !b.second.first;
}

void Arena::add_free(std::byte* at, Block block) {
    blocks_.emplace(at, block);
    free_.insert({block.bytes, at});
}

}  // namespace lumachrome
