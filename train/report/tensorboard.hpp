// The curves of a run as a TensorBoard event file, for those who watch their runs there. Nothing of
// TensorFlow is needed to write one. A file is a row of records (TFRecord framing, little-endian)
//
//   uint64 length | uint32 masked CRC32C of the length | data | uint32 masked CRC32C of the data
//
// whose data are Event messages of protocol buffers (tensorflow/core/util/event.proto):
//
//   Event       1 wall_time: double   2 step: int64   3 file_version: string
//               5 summary: Summary    7 session_log: SessionLog
//   Summary     1 value: repeated { 1 tag: string   2 simple_value: float   4 image: Image }
//   Image       1 height   2 width   3 colorspace (3: RGB)   4 encoded_image_string: PNG
//   SessionLog  1 status (1: START)
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace lumachrome {

// CRC-32 with the Castagnoli polynomial (RFC 3720, appendix B.4).
uint32_t crc32c(std::span<const uint8_t> bytes);

class TensorBoardWriter {
  public:
    // Nothing is written before the first call of scalars() or image(). A run that resumes after
    // `done_steps` steps gets a file of its own, which tells TensorBoard to forget what earlier
    // files say about later steps.
    explicit TensorBoardWriter(std::string run, int64_t done_steps = 0);
    ~TensorBoardWriter();
    TensorBoardWriter(const TensorBoardWriter&) = delete;
    TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

    // Each call is one append, handed to the system before it returns. A failed one leaves no part
    // of itself in the file, or the next one removes it. Both throw ResourceError naming the file
    // when the disk says no.
    //
    // NaN means "no value at this step" and is left out. Tags group by what stands before the "/".
    using Scalars = std::vector<std::pair<std::string, double>>;
    void scalars(int64_t step, const Scalars& values);
    void image(int64_t step, const std::string& tag, std::span<const uint8_t> png, int64_t width,
               int64_t height);

    const std::string& path() const { return path_; }  // empty before the first write

  private:
    void open();
    void append(std::span<const uint8_t> event);
    std::string run_, path_;
    int64_t done_steps_;
    int64_t size_ = 0;   // bytes of whole records
    bool torn_ = false;  // more than these are there
    int fd_ = -1;
};

}  // namespace lumachrome
