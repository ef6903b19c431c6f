// Sources of photos, crops and targets, procedural scenes.
#include <doctest/doctest.h>

#include <cmath>

#include "image/resize.hpp"
#include "train/data_fixtures.hpp"

using namespace lumachrome;
using namespace lumachrome::fixtures;

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
        folder.write("sea/.thumbnails/a.png", scene_png(1));
        folder.write(".trash/a.png", scene_png(1));
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
                          tar_member("./sea/.thumbnails/f.png", scene_png(1)),
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

    TEST_CASE(
        "shards: train-*.tar when there are any, else all but val.tar; labels.txt fixes the "
        "classes") {
        const Folder folder;
        folder.write("val.tar", tar({tar_member("sea/v.png", scene_png(1))}));
        CHECK(contains(open_dataset({folder.path()}, 1)->name(0), "val.tar"));  // nothing else
        folder.write("other.tar", tar({tar_member("sea/o.png", scene_png(1))}));
        CHECK(open_dataset({folder.path()}, 1)->size() == 1);
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

    TEST_CASE("jitter changes brightness and contrast of the gray, and no colour") {
        const Photo photo{render_scene(2, 64, 1, 1), 3, ""};
        AugmentSpec spec{.size = 32};
        double lowest = 2, highest = 0;
        for (uint32_t index = 0; index < 20; ++index) {
            spec.luma_jitter = 0;
            const Sample plain = augment(photo, spec, 1, 0, index);
            spec.luma_jitter = .3;
            const Sample changed = augment(photo, spec, 1, 0, index);
            CHECK(bit_equal(changed.ab, plain.ab));
            // Two pixels that are not clamped give the straight line that all follow.
            int64_t dark = -1, bright = -1;
            for (int64_t i = 0; i < plain.luma.numel(); ++i) {
                if (changed.luma.item(i) <= 0 || changed.luma.item(i) >= 1) continue;
                if (dark < 0 || plain.luma.item(i) < plain.luma.item(dark)) dark = i;
                if (bright < 0 || plain.luma.item(i) > plain.luma.item(bright)) bright = i;
            }
            REQUIRE(plain.luma.item(bright) - plain.luma.item(dark) > .1);
            const double contrast = (changed.luma.item(bright) - changed.luma.item(dark)) /
                                    (plain.luma.item(bright) - plain.luma.item(dark));
            const double gray = changed.luma.item(dark) - (plain.luma.item(dark) - .5) * contrast;
            CHECK(std::abs(contrast - 1) < .3 + 1e-4);
            CHECK(std::abs(gray - .5) < .15 + 1e-4);
            for (int64_t i = 0; i < plain.luma.numel(); ++i) {
                const double line = (plain.luma.item(i) - .5) * contrast + gray;
                REQUIRE(std::abs(changed.luma.item(i) - std::clamp(line, 0., 1.)) < 1e-4);
            }
            lowest = std::min(lowest, contrast), highest = std::max(highest, contrast);
        }
        CHECK(lowest < .9);
        CHECK(highest > 1.1);
    }

    TEST_CASE("the centre mode leaves nothing to chance") {
        const Photo photo{render_scene(2, 64, 1, 1), 3, ""};
        const AugmentSpec spec{.size = 32, .min_scale = .3, .luma_jitter = .5, .centre = true};
        const Sample plain = centre_crop(photo, 32);
        for (uint32_t index = 0; index < 8; ++index) {
            const Sample sample = augment(photo, spec, index, index + 1, index);
            CHECK(bit_equal(sample.luma, plain.luma));
            CHECK(bit_equal(sample.ab, plain.ab));
            CHECK(sample.label == 3);
        }
        AugmentSpec wide = spec;
        wide.ab_scale = 50;
        CHECK_FALSE(bit_equal(augment(photo, wide, 0, 0, 0).ab, plain.ab));
    }

    TEST_CASE("shrink: 8-bit RGB, never larger, area averages whatever the bands") {
        const Image scene = render_scene(3, 97, 1, 1);
        CHECK(shrink(scene, 97).bytes == scene.bytes);
        CHECK(shrink(scene, 500).bytes == scene.bytes);
        Image high = Image::make(50, 211, 3, 8);
        for (size_t i = 0; i < high.bytes.size(); ++i)
            high.bytes[i] = static_cast<uint8_t>(i * 97 % 251);
        const Image small = shrink(high, 13);
        CHECK(small.width == 13);
        CHECK(small.height == 55);  // 211 * 13 / 50 = 54.86
        Tensor whole = Tensor::empty({211, 50, 3});
        for (int64_t i = 0; i < whole.numel(); ++i)
            whole.data<float>()[i] = high.bytes[static_cast<size_t>(i)];
        const Tensor wanted = resize(whole, 55, 13);
        for (int64_t i = 0; i < wanted.numel(); ++i)
            REQUIRE(std::abs(wanted.item(i) - small.bytes[static_cast<size_t>(i)]) < .5 + 1e-3);
        for (const int channels : {1, 2, 3, 4})
            for (const int bits : {8, 16}) {
                Image image = Image::make(40, 60, channels, bits);
                std::fill(image.bytes.begin(), image.bytes.end(), uint8_t{77});
                const Image result = shrink(image, 20);
                CHECK(result.channels == 3);
                CHECK(result.bits == 8);
                CHECK(result.bytes == Bytes(20 * 30 * 3, 77));
            }
        CHECK(shrink(Image::make(3, 4000, 3, 8), 1).height == 1333);
        CHECK_THROWS_AS(shrink(scene, 0), UsageError);
    }

    TEST_CASE("training photos of usual sizes are kept as they are, large ones shrunk") {
        for (const int64_t size : {64, 112, 128, 224})
            for (const double min_scale : {.3, .6, 1.})
                for (const bool centre : {false, true}) {
                    const AugmentSpec spec{.size = size, .min_scale = min_scale, .centre = centre};
                    for (const int64_t side : {128, 144, 160}) {
                        Photo photo{Image::make(side, side + 7, 4, 16), 5, "name"};
                        photo.image.icc = {1, 2, 3};
                        const Photo kept = working_copy(photo, spec);
                        CHECK(kept.image.bytes == photo.image.bytes);
                        CHECK(kept.image.icc.empty());
                        CHECK(kept.label == 5);
                        CHECK(kept.name == "name");
                    }
                }
        const AugmentSpec spec{.size = 112, .min_scale = .7};
        CHECK(working_side(spec) == 320);
        const Photo kept = working_copy({render_scene(1, 400, 1, 1), 0, ""}, spec);
        CHECK(kept.image.width == 320);
        CHECK(working_copy(kept, spec).image.bytes == kept.image.bytes);
        CHECK(working_side({.size = 224, .min_scale = 1e-300}) == 1'000'000'000);
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
