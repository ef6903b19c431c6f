// Cuts large segments of memory into blocks: the smallest free one that is large enough, and
// neighbours that are both free are one. What a pass has freed thus fits tensors of any size, and
// the peak of the process stays close to that of the live tensors. Not thread-safe.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace lumachrome {

// Where segments come from: the operating system, or a GPU.
struct SegmentSource {
    virtual ~SegmentSource() = default;
    virtual std::byte* take(int64_t bytes) = 0;  // null: there is no room
    virtual void give_back(std::byte* segment, int64_t bytes) = 0;
    // The contents of this part of a segment are not needed; memory behind it may be dropped.
    virtual void unused(std::byte* at, int64_t bytes) { (void)at, (void)bytes; }
};

class Arena {
  public:
    // `segment`: bytes of one segment where that many can be had.
    Arena(SegmentSource& source, int64_t segment) : source_(&source), segment_(segment) {}

    std::byte* take(int64_t bytes);  // null: grow() first
    void give_back(std::byte* at);
    bool grow(int64_t bytes);  // false: the source has no room for that much
    // Segments without a used block go back to the source, and it is told which parts of the others
    // are unused.
    void release();

  private:
    struct Block {
        int64_t bytes;
        bool first;  // of its segment
        bool used = false;
    };
    using Place = std::pair<std::byte* const, Block>;
    static bool joins(const Place& a, const Place& b);
    void add_free(std::byte* at, Block block);

    SegmentSource* source_;
    int64_t segment_;
    std::map<std::byte*, Block> blocks_;
    std::set<std::pair<int64_t, std::byte*>> free_;
};

}  // namespace lumachrome
