// The data walk: sources of photos, crops and targets, batches, procedural scenes. All photos are
// made here, in a temp folder.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "image/codec.hpp"
#include "image/color.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/loader.hpp"
#include "train/scenes.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

using Bytes = std::vector<uint8_t>;

class Folder {
  public:
    Folder() {
        std::string pattern = (fs::temp_directory_path() / "lumachrome-data-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string operator/(const std::string& name) const { return (path_ / name).string(); }
    std::string path() const { return path_.string(); }
    void write(const std::string& name, const Bytes& bytes) const {
        fs::create_directories((path_ / name).parent_path());
        write_file_atomic(*this / name, bytes, true);
    }
    void write(const std::string& name, const std::string& text) const {
        write(name, Bytes(text.begin(), text.end()));
    }

  private:
    fs::path path_;
};

// Lossless, so that read photos can be compared.
Bytes png(const Image& image) {
    return encode(image, Format::png);
}
Bytes scene_png(uint32_t index) {
    return png(render_scene(index % 14, 32, 5, index));
}
Bytes gray_png() {
    Image image = Image::make(32, 32, 3, 8);
    std::fill(image.bytes.begin(), image.bytes.end(), uint8_t{90});
    return png(image);
}

constexpr size_t kBlock = 512;

void seal(uint8_t* header) {  // writes the checksum of a ustar header
    std::memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < kBlock; ++i) sum += header[i];
    std::snprintf(reinterpret_cast<char*>(header + 148), 8, "%06o", sum);
}

Bytes tar_member(const std::string& name, const Bytes& data, char type = '0') {
    Bytes member(kBlock + (data.size() + kBlock - 1) / kBlock * kBlock);
    std::memcpy(member.data(), name.data(), std::min<size_t>(name.size(), 100));
    std::snprintf(reinterpret_cast<char*>(member.data() + 124), 12, "%011zo", data.size());
    member[156] = static_cast<uint8_t>(type);
    std::memcpy(member.data() + 257,
                "ustar\0"
                "00",
                8);
    seal(member.data());
    std::copy(data.begin(), data.end(), member.begin() + kBlock);
    return member;
}

Bytes tar(const std::vector<Bytes>& members) {
    Bytes archive;
    for (const Bytes& member : members) archive.insert(archive.end(), member.begin(), member.end());
    archive.resize(archive.size() + 2 * kBlock);
    return archive;
}

template <class E>
std::string error_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const E& error) {
        return error.what();
    }
    return "";
}
bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

using Names = std::vector<std::string>;

Image flat(int64_t width, int64_t height, Rgb colour) {
    Image image = Image::make(width, height, 3, 8);
    for (int64_t i = 0; i < width * height; ++i) {
        image.bytes[static_cast<size_t>(3 * i)] = static_cast<uint8_t>(colour.r * 255);
        image.bytes[static_cast<size_t>(3 * i + 1)] = static_cast<uint8_t>(colour.g * 255);
        image.bytes[static_cast<size_t>(3 * i + 2)] = static_cast<uint8_t>(colour.b * 255);
    }
    return image;
}

bool same(const Batch& a, const Batch& b) {
    return bit_equal(a.luma, b.luma) && bit_equal(a.ab, b.ab) && a.labels == b.labels &&
           a.epoch == b.epoch && a.step == b.step;
}

// `count` photos in memory; the label is the index, `broken` ones are corrupt, `gray` ones gray.
class FakeSet : public Dataset {
  public:
    explicit FakeSet(int64_t count, std::set<int64_t> broken = {}, std::set<int64_t> gray = {})
        : count_(count), broken_(std::move(broken)), gray_(std::move(gray)) {}
    int64_t size() const override { return count_; }
    Photo read(int64_t index) const override {
        ++reads;
        std::this_thread::sleep_for(delay);
        if (index == fatal) throw std::runtime_error("the disk is on fire");
        if (broken_.count(index)) throw InputError(name(index) + ": damaged");
        if (gray_.count(index)) return {flat(32, 32, {.5, .5, .5}), index, name(index)};
        return {render_scene(index % 14, 32, 1, static_cast<uint32_t>(index)), index, name(index)};
    }
    std::string name(int64_t index) const override { return "photo " + std::to_string(index); }
    int64_t label(int64_t index) const override { return index; }

    int64_t fatal = -1;
    std::chrono::milliseconds delay{0};
    mutable std::atomic<int64_t> reads = 0;

  private:
    int64_t count_;
    std::set<int64_t> broken_, gray_;
};

constexpr AugmentSpec kSmall{.size = 16};

}  // namespace

TEST_SUITE("dataset") {
    TEST_CASE("a folder per class: sorted classes, nested and unlabeled photos, no other files") {
        const Folder folder;
        folder.write("sea/b.png", scene_png(1));
        folder.write("sea/deep/a.PNG", scene_png(2));
        folder.write("forest/a.png", scene_png(3));
        folder.write("unlabeled/a.png", scene_png(4));
        folder.write("loose.png", scene_png(5));
        folder.write("notes.md", "not a photo");
        folder.write("sea/._b.png", "a Mac's shadow file");
        const auto data = open_dataset({folder.path()}, 1);
        CHECK(data->classes() == Names{"forest", "sea"});
        REQUIRE(data->size() == 5);
        const std::vector<int64_t> labels{0, -1, 1, 1, -1};  // forest, loose, sea, sea, unlabeled
        for (int64_t i = 0; i < 5; ++i) CHECK(data->label(i) == labels[static_cast<size_t>(i)]);
        const Photo photo = data->read(0);
        CHECK(photo.label == 0);
        CHECK(photo.name == folder / "forest/a.png");
        CHECK(photo.image.bytes == render_scene(3, 32, 5, 3).bytes);
    }

    TEST_CASE("a flat folder has no classes") {
        const Folder folder;
        for (uint32_t i = 0; i < 3; ++i) folder.write(std::to_string(i) + ".png", scene_png(i));
        const auto data = open_dataset({folder.path()}, 1);
        CHECK(data->size() == 3);
        CHECK(data->classes().empty());
        CHECK(data->label(2) == -1);
    }

    TEST_CASE("a tar comes back as it was written") {
        const Folder folder;
        Bytes prefixed = tar_member("deep/c.png", scene_png(3));
        std::memcpy(prefixed.data() + 345, "sea", 3);
        seal(prefixed.data());
        folder.write("a.tar",
                     tar({tar_member("sea/", {}, '5'), tar_member("sea/a.png", scene_png(1)),
                          tar_member("./forest/b.png", scene_png(2)), prefixed,
                          tar_member("PaxHeaders/x", {'9', ' ', 'a'}, 'x'),
                          tar_member("sea/readme.txt", {'h', 'i'}), tar_member("d.png", gray_png()),
                          tar_member("sea/link.png", {}, '2'),
                          tar_member("unlabeled/e.png", scene_png(4))}));
        const auto data = open_dataset({folder / "a.tar"}, 1);
        CHECK(data->classes() == Names{"forest", "sea"});
        REQUIRE(data->size() == 5);
        CHECK(data->label(0) == 1);
        CHECK(data->label(1) == 0);
        CHECK(data->label(2) == 1);
        CHECK(data->label(3) == -1);
        CHECK(data->label(4) == -1);
        CHECK(data->name(2) == folder / "a.tar:sea/deep/c.png");
        for (uint32_t i = 0; i < 3; ++i)
            CHECK(data->read(i).image.bytes == render_scene(i + 1, 32, 5, i + 1).bytes);
    }

    TEST_CASE("hostile tar headers name the file, the byte and the rule") {
        const Folder folder;
        const Bytes good = tar_member("sea/a.png", scene_png(1));
        const auto opened = [&](const std::function<void(uint8_t*)>& change, bool sealed) {
            Bytes bad = tar_member("sea/b.png", scene_png(2));
            change(bad.data());
            if (sealed) seal(bad.data());
            folder.write("bad.tar", tar({good, bad}));
            const std::string text =
                error_of<InputError>([&] { open_dataset({folder / "bad.tar"}, 1); });
            CHECK(contains(text, folder / "bad.tar"));
            CHECK(contains(text, "at byte " + std::to_string(good.size())));
            CHECK_FALSE(contains(text, "\n"));
            return text;
        };
        const auto size_field = [](const char* digits) {
            return [=](uint8_t* header) { std::memcpy(header + 124, digits, 12); };
        };
        CHECK(contains(opened([](uint8_t* h) { h[0] ^= 1; }, false), "checksum"));
        CHECK(contains(opened([](uint8_t* h) { std::memset(h + 148, 0, 8); }, false), "checksum"));
        CHECK(contains(opened([](uint8_t* h) { h[257] = 'U'; }, true), "ustar"));
        CHECK(contains(opened(size_field("77777777777"), true), "only"));
        CHECK(contains(opened(size_field("777777777777"), true), "only"));
        CHECK(contains(opened(size_field("-0000000001"), true), "octal"));
        CHECK(contains(opened(size_field("00000000008"), true), "octal"));
        CHECK(contains(opened([](uint8_t* h) { std::memset(h + 124, 0, 12); }, true), "octal"));
        const auto base_256 = [](uint8_t* h) { std::memset(h + 124, 0xff, 12); };
        CHECK(contains(opened(base_256, true), "octal"));
    }

    TEST_CASE("a name may fill its field to the last byte, as ustar allows") {
        const Folder folder;
        Bytes member = tar_member("sea/b.png", scene_png(2));
        std::memset(member.data(), 'n', 96);
        std::memcpy(member.data() + 96, ".png", 4);
        seal(member.data());
        folder.write("long.tar", tar({member}));
        CHECK(open_dataset({folder / "long.tar"}, 1)
                  ->name(0)
                  .ends_with(std::string(96, 'n') + ".png"));
    }

    TEST_CASE("a truncated tar is an error wherever it ends") {
        const Folder folder;
        const Bytes whole = tar({tar_member("sea/a.png", scene_png(1))});
        for (const size_t size : {size_t{0}, size_t{100}, kBlock, kBlock + 7, whole.size() - 1025,
                                  whole.size() - 1024}) {
            folder.write("cut.tar", Bytes(whole.begin(), whole.begin() + static_cast<long>(size)));
            CHECK_THROWS_AS(open_dataset({folder / "cut.tar"}, 1), InputError);
        }
    }

    TEST_CASE("shards: train-*.tar when there are any, else all; labels.txt fixes the classes") {
        const Folder folder;
        folder.write("val.tar", tar({tar_member("sea/v.png", scene_png(1))}));
        folder.write("other.tar", tar({tar_member("sea/o.png", scene_png(1))}));
        CHECK(open_dataset({folder.path()}, 1)->size() == 2);
        folder.write("train-1.tar", tar({tar_member("forest/b.png", scene_png(3))}));
        folder.write("train-0.tar", tar({tar_member("sea/a.png", scene_png(2))}));
        const auto data = open_dataset({folder.path()}, 1);
        REQUIRE(data->size() == 2);
        CHECK(contains(data->name(0), "train-0.tar:sea/a.png"));
        CHECK(data->classes() == Names{"forest", "sea"});
        folder.write("labels.txt", "sea\r\nroom\n\nforest");
        const auto ordered = open_dataset({folder.path()}, 1);
        CHECK(ordered->classes() == Names{"sea", "room", "forest"});
        CHECK(ordered->label(0) == 0);
        CHECK(open_dataset({folder / "val.tar"}, 1)->classes().size() == 3);
        folder.write("labels.txt", "sea\n");
        CHECK(
            contains(error_of<InputError>([&] { open_dataset({folder.path()}, 1); }), "'forest'"));
        folder.write("labels.txt", "sea\nsea\n");
        CHECK_THROWS_AS(open_dataset({folder.path()}, 1), InputError);
    }

    TEST_CASE("mixed sources share one sorted class list") {
        const Folder folder;
        folder.write("photos/zoo/a.png", scene_png(1));
        folder.write("more.tar", tar({tar_member("attic/b.png", scene_png(2))}));
        folder.write("list.txt", "photos/zoo/a.png\tcellar\nphotos/zoo/a.png\n");
        const auto data = open_dataset(
            {folder / "photos", folder / "more.tar", folder / "list.txt", "scenes:2"}, 1);
        CHECK(data->classes() == Names{"attic", "autumn_forest", "autumn_meadow", "cellar", "zoo"});
        REQUIRE(data->size() == 6);
        const std::vector<int64_t> labels{4, 0, 3, -1, 1, 2};
        for (int64_t i = 0; i < 6; ++i) {
            CHECK(data->label(i) == labels[static_cast<size_t>(i)]);
            CHECK(data->read(i).label == data->label(i));
        }
    }

    TEST_CASE("a given class list keeps its indices; a class outside it is an error") {
        const Folder folder;
        folder.write("sea/a.png", scene_png(1));
        const auto data = open_dataset({folder.path()}, 1, {"zoo", "sea"});
        CHECK(data->classes() == Names{"zoo", "sea"});
        CHECK(data->label(0) == 1);
        const std::string text =
            error_of<InputError>([&] { open_dataset({folder.path()}, 1, {"zoo"}); });
        CHECK(contains(text, "'sea'"));
        CHECK(contains(text, folder.path()));
    }

    TEST_CASE("bad sources and bad photos") {
        const Folder folder;
        folder.write("a.doc", "x");
        folder.write("bad/sea/a.png", "not a png");
        fs::create_directories(folder / "empty");
        CHECK_THROWS_AS(open_dataset({}, 1), UsageError);
        CHECK_THROWS_AS(open_dataset({folder / "missing"}, 1), InputError);
        CHECK_THROWS_AS(open_dataset({folder / "empty"}, 1), InputError);
        CHECK_THROWS_AS(open_dataset({folder / "a.doc"}, 1), InputError);
        for (const char* scenes : {"scenes:", "scenes:0", "scenes:-1", "scenes:x",
                                   "scenes:5:", "scenes:5:8", "scenes:99999999999999999999"})
            CHECK_THROWS_AS(open_dataset({scenes}, 1), UsageError);
        const auto data = open_dataset({folder / "bad"}, 1);
        CHECK(contains(error_of<InputError>([&] { data->read(0); }), folder / "bad/sea/a.png"));
    }
}

TEST_SUITE("augment") {
    TEST_CASE("the target of one colour") {
        const Rgb colour{204 / 255.0, 51 / 255.0, 102 / 255.0};
        const Sample sample = centre_crop({flat(50, 40, colour), 7, ""}, 24);
        const Lab lab = srgb_to_lab(colour);
        CHECK(sample.luma.shape() == Shape{1, 24, 24, 1});
        CHECK(sample.ab.shape() == Shape{1, 12, 12, 2});
        CHECK(sample.label == 7);
        CHECK(sample.near_gray);  // no spread
        for (int64_t i = 0; i < sample.luma.numel(); ++i)
            CHECK(sample.luma.item(i) == doctest::Approx(luma(colour)).epsilon(1e-6));
        for (int64_t i = 0; i < sample.ab.numel(); ++i)  // lab_ab is within 1e-3 of the definition
            CHECK(std::abs(sample.ab.item(i) - ((i % 2 ? lab.b : lab.a) / 200 + .5)) <
                  1e-3 / 200 + 1e-6);
    }

    TEST_CASE("colour outside +-100 is clamped") {
        const Sample sample = centre_crop({flat(8, 8, {0, 0, 1}), 0, ""}, 8);  // b is -108
        CHECK(sample.ab.item(1) == 0);
    }

    TEST_CASE("ab is averaged from full resolution") {
        Image image = flat(8, 8, {1, 0, 0});
        for (size_t i = 0; i < 64; i += 2) image.bytes[3 * i] = 0, image.bytes[3 * i + 1] = 255;
        const Sample sample = centre_crop({image, 0, ""}, 8);
        const Lab red = srgb_to_lab({1, 0, 0}), green = srgb_to_lab({0, 1, 0});
        const double mean_a = (red.a + green.a) / 2;
        for (int64_t i = 0; i < sample.ab.numel(); i += 2)
            CHECK(std::abs(sample.ab.item(i) - (mean_a / 200 + .5)) < 1e-5);
    }

    TEST_CASE("near gray: gray, tinted and coloured photos") {
        Image noisy = flat(32, 32, {.5, .5, .5}), sepia = noisy;
        for (size_t i = 0; i < noisy.bytes.size(); i += 3) {
            const int v = static_cast<int>(i * 37 % 200);
            for (size_t c = 0; c < 3; ++c) {
                noisy.bytes[i + c] = static_cast<uint8_t>(v);
                sepia.bytes[i + c] = static_cast<uint8_t>(v + 20 - 10 * static_cast<int>(c));
            }
        }
        CHECK(centre_crop({noisy, 0, ""}, 16).near_gray);
        CHECK(centre_crop({sepia, 0, ""}, 16).near_gray);
        CHECK(centre_crop({Image::make(16, 16, 1, 8), 0, ""}, 16).near_gray);
        for (int64_t scene = 0; scene < 14; ++scene)
            CHECK_FALSE(centre_crop({render_scene(scene, 64, 1, 0), 0, ""}, 32).near_gray);
    }

    TEST_CASE("a pure function of seed, epoch and index") {
        const Photo photo{render_scene(2, 64, 1, 1), 3, ""};
        const AugmentSpec spec{.size = 32, .luma_jitter = .2};
        const Sample a = augment(photo, spec, 1, 2, 3), again = augment(photo, spec, 1, 2, 3);
        CHECK(bit_equal(a.luma, again.luma));
        CHECK(bit_equal(a.ab, again.ab));
        CHECK_FALSE(bit_equal(a.luma, augment(photo, spec, 2, 2, 3).luma));
        CHECK_FALSE(bit_equal(a.luma, augment(photo, spec, 1, 3, 3).luma));
        CHECK_FALSE(bit_equal(a.luma, augment(photo, spec, 1, 2, 4).luma));
    }

    TEST_CASE("a mirrored crop mirrors gray and colour alike") {
        const Photo photo{render_scene(0, 32, 1, 1), 0, ""};
        const AugmentSpec whole{.size = 32, .min_scale = 1};  // the only freedom left is the flip
        const Sample plain = centre_crop(photo, 32);
        int mirrored = 0;
        for (uint32_t index = 0; index < 64; ++index) {
            const Sample sample = augment(photo, whole, 1, 0, index);
            if (bit_equal(sample.luma, plain.luma)) continue;
            ++mirrored;
            for (int64_t y = 0; y < 32; ++y)
                for (int64_t x = 0; x < 32; ++x)
                    REQUIRE(sample.luma.item(y * 32 + x) == plain.luma.item(y * 32 + 31 - x));
            for (int64_t y = 0; y < 16; ++y)
                for (int64_t x = 0; x < 32; ++x)  // sums of two pixels may round the other way
                    REQUIRE(std::abs(sample.ab.item(y * 32 + x) -
                                     plain.ab.item(y * 32 + (15 - x / 2) * 2 + x % 2)) < 1e-6);
        }
        CHECK(mirrored > 16);
        CHECK(mirrored < 48);
        AugmentSpec fixed = whole;
        fixed.flip = false;
        for (uint32_t index = 0; index < 16; ++index)
            CHECK(bit_equal(augment(photo, fixed, 1, 0, index).luma, plain.luma));
    }

    TEST_CASE("any photo gives finite values in range; a bad spec is refused") {
        const AugmentSpec spec{.size = 16, .min_scale = .3, .luma_jitter = .9};
        for (const auto& [width, height] : {std::pair{1, 1}, {1, 9}, {200, 3}, {5, 300}, {17, 16}})
            for (const int channels : {1, 2, 3, 4})
                for (const int bits : {8, 16}) {
                    Image image = Image::make(width, height, channels, bits);
                    for (size_t i = 0; i < image.bytes.size(); ++i)
                        image.bytes[i] = static_cast<uint8_t>(i * 97);
                    const Sample sample = augment({image, 0, ""}, spec, 1, 0, 0);
                    for (const Tensor& tensor : {sample.luma, sample.ab})
                        for (int64_t i = 0; i < tensor.numel(); ++i) {
                            REQUIRE(tensor.item(i) >= 0);
                            REQUIRE(tensor.item(i) <= 1);
                        }
                }
        for (const AugmentSpec& bad :
             {AugmentSpec{.size = 15}, AugmentSpec{.size = 0}, AugmentSpec{.min_scale = 0},
              AugmentSpec{.min_scale = 1.1}, AugmentSpec{.luma_jitter = 1},
              AugmentSpec{.min_scale = std::nan("")}})
            CHECK_THROWS_AS(check(bad), UsageError);
    }
}

TEST_SUITE("loader") {
    TEST_CASE("every photo once an epoch, in another order each epoch") {
        const auto data = std::make_shared<FakeSet>(12);
        Loader loader(data, kSmall, 4, 1, 2);
        std::vector<std::vector<int64_t>> epochs(3);
        for (auto& epoch : epochs) {
            for (int i = 0; i < 3; ++i) {
                const Batch batch = loader.next();
                epoch.insert(epoch.end(), batch.labels.begin(), batch.labels.end());
                CHECK(batch.epoch == &epoch - epochs.data());
                CHECK(batch.luma.shape() == Shape{4, 16, 16, 1});
                CHECK(batch.ab.shape() == Shape{4, 8, 8, 2});
            }
            CHECK(std::set<int64_t>(epoch.begin(), epoch.end()).size() == 12);
        }
        CHECK(epochs[0] != epochs[1]);
        CHECK(epochs[1] != epochs[2]);
        // Later epochs come from the cache; two workers may at most both miss the same photo.
        CHECK(data->reads <= 2 * 12);
    }

    TEST_CASE("the batch at a step depends on the seed alone: workers, prefetch, cache, seek") {
        const auto data =
            std::make_shared<FakeSet>(11, std::set<int64_t>{3, 4}, std::set<int64_t>{7});
        std::vector<Batch> expected;
        std::vector<std::pair<int64_t, int64_t>> skipped;
        Loader loader(data, kSmall, 4, 1, 1);
        for (int step = 0; step < 12; ++step) {
            expected.push_back(loader.next());
            skipped.emplace_back(loader.skipped_corrupt(), loader.skipped_gray());
        }
        CHECK_FALSE(same(expected[0], Loader(data, kSmall, 4, 2, 1).next()));
        for (const int workers : {1, 2, 4}) {
            Loader other(data, kSmall, 4, 1, workers, workers == 2 ? 1 : 4,
                         workers == 1 ? 0 : 1 << 20);
            for (size_t step = 0; step < expected.size(); ++step) {
                CHECK(same(other.next(), expected[step]));
                CHECK(other.skipped_corrupt() == skipped[step].first);
                CHECK(other.skipped_gray() == skipped[step].second);
            }
            for (const int64_t step : {7, 0, 3, 4, 11}) {
                other.seek(step);
                CHECK(same(other.next(), expected[static_cast<size_t>(step)]));
            }
            other.seek(9);
            CHECK(same(other.next(), expected[9]));
            CHECK(same(other.next(), expected[10]));
            CHECK_THROWS_AS(other.seek(-1), UsageError);
        }
    }

    TEST_CASE("corrupt and near-gray photos are replaced and counted") {
        const auto data =
            std::make_shared<FakeSet>(10, std::set<int64_t>{2}, std::set<int64_t>{5, 6});
        Loader loader(data, kSmall, 5, 1, 2);
        for (int i = 0; i < 8; ++i)
            for (const int64_t label : loader.next().labels)
                CHECK((label != 2 && label != 5 && label != 6));
        CHECK(loader.skipped_corrupt() >= 4);  // at its own place in each of four epochs
        CHECK(loader.skipped_gray() >= 8);
    }

    TEST_CASE("a stand-in is cropped for its place, not as the same photo is elsewhere") {
        Loader loader(std::make_shared<FakeSet>(3, std::set<int64_t>{0, 1}), kSmall, 3, 1, 1);
        const Batch batch = loader.next();
        CHECK(batch.labels == std::vector<int64_t>{2, 2, 2});
        CHECK_FALSE(bit_equal(batch.luma.batch(0), batch.luma.batch(1)));
        CHECK_FALSE(bit_equal(batch.luma.batch(1), batch.luma.batch(2)));
    }

    TEST_CASE("a set without a usable photo is an error, not a wait") {
        Loader loader(std::make_shared<FakeSet>(2, std::set<int64_t>{0}, std::set<int64_t>{1}),
                      kSmall, 2, 1, 2);
        CHECK(contains(error_of<InputError>([&] { loader.next(); }), "no usable photo"));
        CHECK_THROWS_AS(loader.next(), InputError);
    }

    TEST_CASE("what a worker throws reaches next(), and the batch behind it comes") {
        const auto data = std::make_shared<FakeSet>(4);
        data->fatal = 2;
        Loader loader(data, kSmall, 1, 1, 2);
        int thrown = 0;
        for (int i = 0; i < 4; ++i) try {
                loader.next();
            } catch (const std::runtime_error& error) {
                CHECK(std::string(error.what()) == "the disk is on fire");
                ++thrown;
            }
        CHECK(thrown == 1);
    }

    TEST_CASE("the destructor does not finish the batches in work") {
        const auto data = std::make_shared<FakeSet>(1000);
        data->delay = std::chrono::milliseconds(10);  // ten seconds for a batch
        const auto start = std::chrono::steady_clock::now();
        { const Loader loader(data, kSmall, 1000, 1, 2); }
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
    }

    TEST_CASE("bad requests") {
        const auto data = std::make_shared<FakeSet>(4);
        CHECK_THROWS_AS(Loader(data, kSmall, 0, 1, 1), UsageError);
        CHECK_THROWS_AS(Loader(data, kSmall, 1, 1, 0), UsageError);
        CHECK_THROWS_AS(Loader(data, kSmall, 1, 1, 1, 0), UsageError);
        CHECK_THROWS_AS(Loader(data, {.size = 7}, 1, 1, 1), UsageError);
        CHECK_THROWS_AS(Loader(std::make_shared<FakeSet>(0), kSmall, 1, 1, 1), UsageError);
    }
}

TEST_SUITE("scenes") {
    TEST_CASE("a scene is a function of its arguments, and every class has its own") {
        CHECK(std::is_sorted(scene_names().begin(), scene_names().end()));
        CHECK(scene_names().size() >= 10);
        std::set<std::string> seen;
        for (int64_t scene = 0; scene < static_cast<int64_t>(scene_names().size()); ++scene)
            for (const uint32_t index : {0u, 1u})
                for (const uint64_t seed : {1u, 2u}) {
                    const Image image = render_scene(scene, 48, seed, index);
                    CHECK(image.width == 48);
                    CHECK(image.channels == 3);
                    const Image again = render_scene(scene, 48, seed, index);
                    CHECK(std::equal(image.bytes.begin(), image.bytes.end(), again.bytes.begin(),
                                     again.bytes.end()));
                    seen.emplace(image.bytes.begin(), image.bytes.end());
                }
        CHECK(seen.size() == 4 * scene_names().size());
        CHECK_THROWS_AS(render_scene(-1, 48, 1, 0), UsageError);
        CHECK_THROWS_AS(render_scene(14, 48, 1, 0), UsageError);
        CHECK_THROWS_AS(render_scene(0, 15, 1, 0), UsageError);
    }

    TEST_CASE("the same gray means another colour in another scene") {
        // Mean a and b of the mid-gray pixels in the lower half: ground, not sky.
        const auto ground = [](const std::string& name) {
            const auto at = std::find(scene_names().begin(), scene_names().end(), name);
            Lab sum{};
            for (uint32_t index = 0; index < 4; ++index) {
                const Image image = render_scene(at - scene_names().begin(), 64, 3, index);
                const Tensor gray = luma(image), ab = lab_ab(image);
                for (int64_t i = 64 * 40; i < 64 * 64; ++i)
                    if (gray.item(i) > .3 && gray.item(i) < .7)
                        sum.l += 1, sum.a += ab.item(2 * i), sum.b += ab.item(2 * i + 1);
            }
            REQUIRE(sum.l > 100);
            return Lab{0, sum.a / sum.l, sum.b / sum.l};
        };
        const Lab spring = ground("spring_meadow"), autumn = ground("autumn_meadow"),
                  sea = ground("sea");
        CHECK(spring.a < autumn.a - 15);  // green against straw
        CHECK(sea.b < spring.b - 25);     // blue against both
        CHECK(sea.b < autumn.b - 25);
    }

    TEST_CASE("scenes:N names what render_scene draws") {
        const auto data = open_dataset({"scenes:30:48"}, 9);
        CHECK(data->classes() == scene_names());
        REQUIRE(data->size() == 30);
        CHECK(data->label(17) == 3);
        CHECK(data->read(17).image.bytes == render_scene(3, 48, 9, 17).bytes);
        CHECK(open_dataset({"scenes:1"}, 9)->read(0).image.width == 128);
    }
}
