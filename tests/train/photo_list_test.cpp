// Lists of photos with class indices, and views of datasets.
#include <doctest/doctest.h>

#include <fstream>
#include <random>

#include "train/data_fixtures.hpp"
#include "train/photo_list.hpp"

using namespace lumachrome;
using namespace lumachrome::fixtures;

TEST_SUITE("photo list") {
    TEST_CASE("a Places list without class names: the indices are the names") {
        const Folder folder;
        folder.write("a/airfield/1.png", scene_png(1));
        folder.write("b/old barn/2.png", scene_png(2));
        folder.write("list.txt",
                     "/a/airfield/1.png 10\r\n\nb/old barn/2.png 9\n/b/old barn/2.png  10 \n");
        const auto data = open_dataset({folder / "list.txt"}, 1);
        CHECK(data->classes() == Names{"000009", "000010"});
        REQUIRE(data->size() == 3);
        CHECK(data->label(0) == 1);
        CHECK(data->label(1) == 0);
        CHECK(data->label(2) == 1);
        CHECK(data->read(0).image.bytes == render_scene(1, 32, 5, 1).bytes);
        CHECK(data->read(1).image.bytes == render_scene(2, 32, 5, 2).bytes);
        CHECK(data->read(2).image.bytes == data->read(1).image.bytes);
    }

    TEST_CASE("a path that exists at the root is taken there") {
        const Folder folder, other;
        folder.write("1.png", scene_png(1));
        other.write("list.txt", folder / "1.png" + " 0\n");
        CHECK(open_dataset({other / "list.txt"}, 1)->name(0) == folder / "1.png");
    }

    TEST_CASE("class names from a categories file, else from labels.txt") {
        const Folder folder;
        folder.write("1.png", scene_png(1));
        folder.write("list.txt", "1.png 2\n1.png 0\n");
        folder.write("labels.txt", "zoo\n\nattic\r\nharbor\n");
        auto data = open_dataset({folder / "list.txt"}, 1);
        CHECK(data->classes() == Names{"zoo", "attic", "harbor"});
        CHECK(data->label(0) == 2);
        CHECK(data->label(1) == 0);

        folder.write("categories_own.txt", "sea 2\n/b/barn 0\n/a/apartment_building/outdoor 5\n");
        data = open_dataset({folder / "list.txt"}, 1);
        CHECK(data->classes() == Names{"barn", "sea", "apartment_building/outdoor"});
        CHECK(data->label(0) == 1);
        CHECK(data->label(1) == 0);

        folder.write("categories_more.txt", "sea 2\nbarn 0\n");
        const auto text = error_of<InputError>([&] { open_dataset({folder / "list.txt"}, 1); });
        CHECK(contains(text, "categories_more.txt and categories_own.txt"));
        folder.write("categories_places365.txt", "/d/desert/sand 0\n/s/sky 2\n");
        data = open_dataset({folder / "list.txt"}, 1);
        CHECK(data->classes() == Names{"desert/sand", "sky"});
    }

    TEST_CASE("hostile lists name the file, the line and the rule") {
        const Folder folder;
        const auto rule = [&](const std::string& list, const std::string& categories = "") {
            fs::remove(folder / "categories.txt");
            if (!categories.empty()) folder.write("categories.txt", categories);
            folder.write("list.txt", list);
            const std::string text =
                error_of<InputError>([&] { open_dataset({folder / "list.txt"}, 1); });
            CHECK_FALSE(contains(text, "\n"));
            CHECK(text.starts_with(folder.path()));
            return text;
        };
        CHECK(
            contains(rule("a.jpg 1\n\nb.jpg -1\n"), "list.txt: line 3: the class index -1 is not"));
        CHECK(
            contains(rule("a.jpg 100001\n"), "line 1: the class index 100001 is not in 0..100000"));
        CHECK(
            contains(rule("a.jpg 99999999999999999999999999999999\n"), "line 1: the class index"));
        CHECK(contains(rule("a.jpg 0\nb.jpg 2\n", "sea 0\nsky 1\n"),
                       "line 2: the class index 2 is not in " + (folder / "categories.txt")));
        CHECK(contains(rule("a.jpg 0\nb.jpg 0\nc.j"), "line 3: must end in a blank and a class"));
        CHECK(contains(rule("a.jpg\nb.jpg 0\n"), "line 1: must end in a blank and a class"));
        CHECK(contains(rule("a.jpg 0\n", "sea 0\nsea 1\n"), "categories.txt: line 2: lists 'sea'"));
        CHECK(contains(rule("a.jpg 0\n", "sea 0\nsky 0\n"), "line 2: lists index 0 twice"));
        CHECK(contains(rule("a.jpg 0\n", "sea\n"), "line 1: must be a name, a blank and"));
        CHECK(contains(rule("a.jpg 0\n", "sea -1\n"), "line 1: the class index -1"));
        CHECK(contains(rule("a.jpg 0\n", "/ 0\n"), "line 1: the class has no name"));
        CHECK(contains(rule("a.jpg 0\n", "\n"), "the class index 0 is not in"));
        CHECK(contains(rule("\n\r\n"), "holds no photo"));
    }

    TEST_CASE("lists with tabs or plain paths mean what they did") {
        const Folder folder;
        folder.write("tabs.txt", "a 1.png\tplatform 9\nb 2.png\tplatform 9\nc.png\n");
        auto data = open_dataset({folder / "tabs.txt"}, 1);
        CHECK(data->classes() == Names{"platform 9"});
        CHECK(data->name(0) == folder / "a 1.png");
        CHECK(data->label(2) == -1);
        folder.write("plain.txt", "my photo 1.png\nother.png\n");
        data = open_dataset({folder / "plain.txt"}, 1);
        CHECK(data->name(0) == folder / "my photo 1.png");
        CHECK(data->classes().empty());
    }

    TEST_CASE("any bytes give a list or an InputError") {
        const Folder folder;
        std::mt19937 random(3);
        const std::string letters = "a/. \t\n\r-019jpg";
        for (int i = 0; i < 300; ++i) {
            std::string text;
            for (unsigned k = 0; k < random() % 60; ++k) text += letters[random() % letters.size()];
            const auto write = [&](const char* name, const std::string& content) {
                std::ofstream(folder / name) << content;  // no waiting for the disk
            };
            write(i % 2 ? "categories.txt" : "labels.txt", text);
            write("list.txt", text + (i % 3 ? " 1" : ""));
            try {
                read_photo_list(folder / "list.txt");
            } catch (const InputError&) {
            }
        }
    }

    TEST_CASE("folder, tar, both kinds of list and scenes share one class list") {
        const Folder folder;
        folder.write("photos/zoo/a.png", scene_png(1));
        folder.write("more.tar", tar({tar_member("attic/b.png", scene_png(2))}));
        folder.write("list.txt", "photos/zoo/a.png\tsea\n");
        folder.write("places/train.txt", "/a/1.png 1\n/a/1.png 0\n");
        folder.write("places/a/1.png", scene_png(3));
        folder.write("places/categories.txt", "/z/zoo 0\n/c/cellar 1\n");
        const auto data = open_dataset({folder / "photos", folder / "more.tar", folder / "list.txt",
                                        folder / "places/train.txt", "scenes:1"},
                                       1);
        // Those of the class list first, then the others, sorted.
        CHECK(data->classes() == Names{"zoo", "cellar", "attic", "autumn_forest", "sea"});
        REQUIRE(data->size() == 6);
        const std::vector<int64_t> labels{0, 2, 4, 1, 0, 3};
        for (int64_t i = 0; i < 6; ++i) {
            CHECK(data->label(i) == labels[static_cast<size_t>(i)]);
            CHECK(data->read(i).label == data->label(i));
        }
    }

    TEST_CASE("a class of two folders in an archive, when labels.txt knows it") {
        const Folder folder;
        folder.write("a.tar", tar({tar_member("church/outdoor/b.png", scene_png(2)),
                                   tar_member("church/c.png", scene_png(3))}));
        CHECK(open_dataset({folder / "a.tar"}, 1)->classes() == Names{"church"});
        folder.write("labels.txt", "church/outdoor\nchurch\n");
        const auto data = open_dataset({folder / "a.tar"}, 1);
        CHECK(data->label(0) == 0);
        CHECK(data->label(1) == 1);
    }

    TEST_CASE("many classes take no longer than many photos") {
        const Folder folder;
        std::string list;
        for (int i = 0; i < 100'000; ++i)
            list += "a.png " + std::to_string(i * 7919 % 100'001) + "\n";
        folder.write("list.txt", list);
        const auto start = std::chrono::steady_clock::now();
        CHECK(open_dataset({folder / "list.txt"}, 1)->classes().size() == 100'000);
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
    }
}

TEST_SUITE("subset") {
    TEST_CASE("a subset is a dataset of the photos named") {
        const auto data = open_dataset({"scenes:30:32"}, 9);
        const auto part = subset(data, {17, 3, 17});
        REQUIRE(part->size() == 3);
        CHECK(part->classes() == data->classes());
        CHECK(part->name(0) == data->name(17));
        CHECK(part->label(1) == data->label(3));
        CHECK(part->read(2).image.bytes == data->read(17).image.bytes);
        CHECK_THROWS_AS(subset(data, {30}), UsageError);
        CHECK_THROWS_AS(subset(data, {-1}), UsageError);
        CHECK(subset(data, {})->size() == 0);
    }

    TEST_CASE("held-out photos: each is in one part, spread evenly over order and classes") {
        const auto data = open_dataset({"scenes:2000:32"}, 9);
        for (const int64_t count : {1, 7, 100, 999, 1001, 1999}) {
            const Split split = hold_out(data, count);
            CHECK(split.validation->size() == count);
            REQUIRE(split.training->size() == 2000 - count);
            const auto numbers = [](const Dataset& part) {
                std::vector<int64_t> all;
                for (int64_t i = 0; i < part.size(); ++i)
                    all.push_back(std::stoll(part.name(i).substr(6)));  // "scene 17"
                return all;
            };
            const auto held = numbers(*split.validation), left = numbers(*split.training);
            CHECK(std::is_sorted(held.begin(), held.end()));
            CHECK(std::is_sorted(left.begin(), left.end()));
            std::set<int64_t> all(held.begin(), held.end());
            all.insert(left.begin(), left.end());
            CHECK(all.size() == 2000);
            for (int64_t i = 0; i < count; ++i) {
                CHECK(held[static_cast<size_t>(i)] >= i * 2000 / count);
                CHECK(held[static_cast<size_t>(i)] < (i + 1) * 2000 / count);
            }
        }
        // The classes take turns; one photo in twenty must still meet all fourteen.
        std::vector<int64_t> met(14);
        const Split split = hold_out(data, 100);
        for (int64_t i = 0; i < 100; ++i) ++met[static_cast<size_t>(split.validation->label(i))];
        CHECK(*std::min_element(met.begin(), met.end()) >= 3);
        for (const int64_t count : {0, -1, 2000, 2001})
            CHECK_THROWS_AS(hold_out(data, count), UsageError);
    }
}
