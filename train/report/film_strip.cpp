#include "train/report/film_strip.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFrames = 8;
constexpr int64_t kMostSheetBytes = int64_t{7} << 19;  // 3.5 MiB, of the newest
constexpr size_t kMostStripBytes = size_t{2} << 20;
constexpr DecodeLimits kLimits = {int64_t{8} << 20, kMostSheetBytes};

struct Sheet {
    int64_t step;
    std::string path;
};

std::vector<Sheet> sheets_of(const std::string& run) {
    std::vector<Sheet> sheets;
    std::error_code error;
    for (fs::directory_iterator it(run + "/samples", error), end; !error && it != end;
         it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (!name.starts_with("step-") || !name.ends_with(".png") || name.size() < 10) continue;
        const char *first = name.data() + 5, *last = name.data() + name.size() - 4;
        int64_t step = 0;
        const auto [stop, failure] = std::from_chars(first, last, step);
        if (failure == std::errc{} && stop == last && step >= 0)
            sheets.push_back({step, it->path().string()});
    }
    std::sort(sheets.begin(), sheets.end(), [](const Sheet& a, const Sheet& b) {
        return std::pair(a.step, a.path) < std::pair(b.step, b.path);
    });
    return sheets;
}

// Much happens early and little late: steps that grow by the same factor show both.
std::vector<Sheet> spread(const std::vector<Sheet>& sheets) {
    if (sheets.size() <= kMostFrames) return sheets;
    const double first = double(std::max<int64_t>(sheets.front().step, 1)),
                 last = double(std::max<int64_t>(sheets.back().step, 1));
    std::set<size_t> chosen = {0, sheets.size() - 1};
    for (size_t i = 1; i < kMostFrames - 1; ++i) {
        const double wanted = first * std::pow(last / first, double(i) / double(kMostFrames - 1));
        size_t nearest = 0;
        for (size_t j = 1; j < sheets.size(); ++j) {
            const auto distance = [&](size_t k) {
                return chosen.contains(k) ? INFINITY : std::abs(double(sheets[k].step) - wanted);
            };
            if (distance(j) < distance(nearest)) nearest = j;
        }
        chosen.insert(nearest);
    }
    std::vector<Sheet> result;
    for (const size_t index : chosen) result.push_back(sheets[index]);
    return result;
}

struct Band {
    int64_t begin = 0, end = 0;  // rows of pixels
};

// Rows of pictures lie between rows of white pixels.
std::vector<Band> bands_of(const Image& sheet) {
    constexpr uint8_t kWhite = 250;
    std::vector<Band> bands;
    bool inside = false;
    for (int64_t y = 0; y < sheet.height; ++y) {
        const uint8_t* row = sheet.row<uint8_t>(y);
        const bool white =
            std::all_of(row, row + sheet.row_bytes(), [](uint8_t v) { return v >= kWhite; });
        if (!white && !inside) bands.push_back({y, y});
        if (!white) bands.back().end = y + 1;
        inside = !white;
    }
    return bands;
}

double change(const Image& a, const Image& b, Band band) {
    double sum = 0;
    for (int64_t y = band.begin; y < band.end; ++y)
        for (int64_t i = 0; i < a.row_bytes(); ++i)
            sum += std::abs(int{a.row<uint8_t>(y)[i]} - int{b.row<uint8_t>(y)[i]});
    return sum / double(band.end - band.begin);
}

FilmStrip::Frame cut(const Image& sheet, Band band, int64_t step) {
    Image part = Image::make(sheet.width, band.end - band.begin, sheet.channels, sheet.bits);
    std::copy_n(sheet.row<uint8_t>(band.begin), part.bytes.size(), part.bytes.data());
    return {step, part.width, part.height, encode(part, Format::png)};
}

// Photos of the run's own making; whatever else lies there is no reason to fail.
std::optional<Image> decoded(const std::vector<uint8_t>& bytes, const std::string& path) {
    try {
        Image image = decode(bytes, path, kLimits);
        if (image.bits == 8) return image;
    } catch (const InputError&) {
    }
    return {};
}

std::vector<uint8_t> bytes_of(const Sheet& sheet) {
    try {
        return read_file(sheet.path, kMostSheetBytes);
    } catch (const InputError&) {
        return {};
    }
}

bool is_png(const std::vector<uint8_t>& bytes) {
    return bytes.size() > 4 && bytes[0] == 0x89 && bytes[1] == 'P' && bytes[2] == 'N';
}

}  // namespace

FilmStrip read_film_strip(const std::string& run) {
    const std::vector<Sheet> sheets = sheets_of(run);
    FilmStrip strip;
    strip.sheets = static_cast<int64_t>(sheets.size());
    struct Picture {
        int64_t step;
        Image image;
    };
    std::vector<Picture> pictures;  // newest first, all of its size
    std::vector<Sheet> chosen = spread(sheets);
    for (auto sheet = chosen.rbegin(); sheet != chosen.rend(); ++sheet) {
        std::vector<uint8_t> bytes = bytes_of(*sheet);
        std::optional<Image> image = decoded(bytes, sheet->path);
        const Image* newest = pictures.empty() ? nullptr : &pictures.front().image;
        if (!image || !is_png(bytes) ||
            (newest && (image->width != newest->width || image->height != newest->height ||
                        image->channels != newest->channels))) {
            ++strip.unreadable;
            continue;
        }
        if (!newest) strip.newest = {sheet->step, image->width, image->height, std::move(bytes)};
        pictures.push_back({sheet->step, std::move(*image)});
    }
    if (pictures.size() < 2) return strip;
    const Image &newest = pictures.front().image, &first = pictures.back().image;
    const std::vector<Band> bands = bands_of(newest);
    if (bands.empty()) return strip;
    const Band band =
        *std::max_element(bands.begin(), bands.end(), [&](const Band& a, const Band& b) {
            return change(first, newest, a) < change(first, newest, b);
        });
    size_t total = 0;
    for (auto picture = pictures.rbegin(); picture != pictures.rend(); ++picture) {
        strip.frames.push_back(cut(picture->image, band, picture->step));
        total += strip.frames.back().png.size();
    }
    while (total > kMostStripBytes && !strip.frames.empty()) {
        const auto middle = strip.frames.begin() + static_cast<int64_t>(strip.frames.size() / 2);
        total -= middle->png.size();
        strip.frames.erase(middle);
    }
    return strip;
}

}  // namespace lumachrome
