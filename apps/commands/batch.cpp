#include "apps/commands/batch.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "apps/stop.hpp"
#include "image/metadata.hpp"
#include "image/tone.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kMostNetworks = 8;        // at a time; two photos more may be in memory
constexpr uintmax_t kLargeFile = 8 << 20;  // bytes; such a photo has the memory for itself
constexpr size_t kLargeImage = 64 << 20;   // bytes; its result is not kept as well
constexpr int64_t kEncodedRows = 64;       // at a time

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void write_stdout(std::span<const uint8_t> bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() ||
        std::fflush(stdout) != 0)
        throw ResourceError("standard output: cannot write");
}

// The half-written file goes away with the exception.
void check_not_stopped() {
    if (stop_requested()) throw Error("stopped, nothing written");
}

}  // namespace

class PhotoBatch::Network {
  public:
    explicit Network(PhotoBatch& batch) : batch_(batch) {
        std::unique_lock lock(batch.mutex_);
        batch.returned_.wait(lock, [&] { return !batch.free_.empty(); });
        colorizer_ = batch.free_.back();
        batch.free_.pop_back();
    }
    ~Network() {
        {
            const std::lock_guard lock(batch_.mutex_);
            batch_.free_.push_back(colorizer_);
        }
        batch_.returned_.notify_one();
    }
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;
    Colorizer* operator->() const { return colorizer_; }

  private:
    PhotoBatch& batch_;
    Colorizer* colorizer_;
};

PhotoBatch::PhotoBatch(Colorizer& colorizer, const ColorizeOptions& options,
                       const ColorizeSettings& settings,
                       std::shared_future<std::string> weights_sha256, size_t photos)
    : whole_(colorizer),
      options_(options),
      settings_(settings),
      weights_sha256_(std::move(weights_sha256)) {
    const Exec& exec = colorizer.exec();
    const size_t most = std::min({photos, size_t(exec.threads), kMostNetworks});
    if (options.settings.max_memory == 0 && most > 1) {
        // Two more than there are networks: they wait for the disk.
        at_a_time_ = static_cast<int>(std::min(photos, most + 2));
        const int threads = exec.threads / static_cast<int>(most);
        if (exec.device.kind == Device::cpu)
            for (size_t i = 0; i < most; ++i) shares_.push_back(colorizer.twin(threads));
    }
    for (const auto& share : shares_) free_.push_back(share.get());
    if (free_.empty()) free_.push_back(&whole_);
}

std::optional<Colorization> PhotoBatch::color_file(const PhotoPath& photo, const Target& target,
                                                   Json& record, Times& times,
                                                   const Written& written) {
    std::shared_lock among_others(alone_, std::defer_lock);
    std::unique_lock by_itself(alone_, std::defer_lock);
    std::error_code ignored;
    const bool large =
        at_a_time_ == 1 || photo.path == "-" || fs::file_size(photo.path, ignored) > kLargeFile;
    if (large)
        by_itself.lock();
    else
        among_others.lock();
    check_not_stopped();

    const Clock::time_point start = Clock::now();
    Image image =
        read_image(photo.path, {.max_pixels = options_.max_pixels}, large ? whole_.exec() : Exec{});
    set_warnings(record, image);
    if (options_.strip_metadata) image.metadata = {};
    if (!options_.no_mark) add_provenance(image.metadata, provenance_of(weights_sha256_.get()));
    times.decode = milliseconds_since(start);
    record.set("width", image.width);
    record.set("height", image.height);
    const Tone tone = tone_of(image);
    record.set("tone", name(tone));
    if (tone == Tone::color && options_.if_color == "error")
        throw InputError(photo.path + ": is in colour already (--if-color recolor takes it)");
    if (tone == Tone::color && options_.if_color == "skip") return {};
    Colorization result = write_colored(image, target, large, times, written);
    times.total = milliseconds_since(start);
    return result;
}

// Into a file that appears once it is whole; standard output gets it at the end, so that an error
// in between leaves nothing there either.
Colorization PhotoBatch::write_colored(const Image& photo, const Target& target, bool alone,
                                       Times& times, const Written& written) {
    std::optional<AtomicFile> file;
    std::vector<uint8_t> piped;
    if (target.path != "-") file.emplace(target.path, options_.overwrite);
    const auto encoder = make_encoder(merged(photo), target.format, options_.quality,
                                      [&](std::span<const uint8_t> bytes) {
                                          if (file)
                                              file->write(bytes);
                                          else
                                              piped.insert(piped.end(), bytes.begin(), bytes.end());
                                      });
    const auto encode = [&](const uint8_t* rows, int64_t count) {
        check_not_stopped();
        const Clock::time_point start = Clock::now();
        encoder->write(rows, count);
        times.encode += milliseconds_since(start);
    };
    Colorization result;
    if (alone) {
        result = whole_.colorize(photo, settings_, encode);
    } else if (photo.bytes.size() > kLargeImage) {
        result = Network(*this)->colorize(photo, settings_, encode);
    } else {
        Colorized colored = Network(*this)->colorize(photo, settings_);
        const Image& image = colored.image;
        for (int64_t row = 0; row < image.height; row += kEncodedRows)
            encode(image.bytes.data() + row * image.row_bytes(),
                   std::min(kEncodedRows, image.height - row));
        result = std::move(colored);
    }
    const Clock::time_point start = Clock::now();
    encoder->finish();
    if (file) {
        written(file->sync());
        file->commit();
    } else {
        write_stdout(piped);
    }
    times.encode += milliseconds_since(start);
    return result;
}

}  // namespace lumachrome
