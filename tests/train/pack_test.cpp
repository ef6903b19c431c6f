// Which photos are worth training on, and shards of them.
#include <doctest/doctest.h>

#include <map>

#include "train/data_fixtures.hpp"
#include "train/pack.hpp"
#include "train/tar.hpp"

using namespace lumachrome;
using namespace lumachrome::fixtures;

namespace {

Bytes scene_of(uint32_t index, int64_t side) {
    return png(render_scene(index % 14, side, 5, index));
}

// 6 usable photos, 2 duplicates, 2 gray ones, 1 corrupt.
void fill(const Folder& folder) {
    folder.write("in/sea/a.png", scene_png(1));
    folder.write("in/sea/b.png", gray_png());
    folder.write("in/sea/c.png", scene_of(4, 64));
    folder.write("in/sea/deep/a.png", scene_png(5));
    folder.write("in/forest/a.png", scene_png(2));
    folder.write("in/forest/again.png", scene_png(2));
    folder.write("in/forest/bad.png", "not a photo");
    folder.write("in/free.png", scene_png(3));
    folder.write("more.tar", tar({tar_member("sea/a.png", scene_png(6)),
                                  tar_member("sea/copy.png", scene_png(1)),
                                  tar_member("gray.png", gray_png())}));
}

std::shared_ptr<const Dataset> opened(const Folder& folder) {
    return open_dataset({folder / "in", folder / "more.tar"}, 1);
}

std::map<std::string, Bytes> contents(const std::string& path) {
    std::map<std::string, Bytes> files;
    for (const auto& file : fs::directory_iterator(path))
        files[file.path().filename().string()] = read_file(file.path().string());
    return files;
}

}  // namespace

TEST_SUITE("pack") {
    TEST_CASE("a scan counts each photo once, by the first reason") {
        const Folder folder;
        fill(folder);
        const auto data = opened(folder);
        for (const int threads : {1, 3}) {
            Names rejected;
            int64_t last = -1;
            ScanListener listener;
            listener.progress = [&](int64_t done) {
                CHECK(done > last);
                last = done;
            };
            listener.rejected = [&](const std::string& name, const std::string& reason) {
                rejected.push_back(name.substr(name.rfind('/') + 1) + " " + reason);
            };
            const ScanCounts counts = scan(*data, {{}, threads}, listener);
            CHECK(counts.images == 11);
            CHECK(counts.corrupt == 1);
            CHECK(counts.duplicate == 3);
            CHECK(counts.near_gray == 1);
            CHECK(counts.rejected() == 5);
            REQUIRE(rejected.size() == 5);
            CHECK(rejected[0] == "again.png duplicate of " + (folder / "in/forest/a.png"));
            CHECK(contains(rejected[1], "bad.png corrupt: "));
            CHECK(rejected[2] == "b.png near gray");
            CHECK(rejected[3] == "copy.png duplicate of " + (folder / "in/sea/a.png"));
            CHECK(contains(rejected[4], "gray.png duplicate of "));
        }
        CHECK(scan(*data, {}, {}).images == 11);
    }

    TEST_CASE("packed photos come back as they were, shrunk, with classes and unique names") {
        const Folder folder;
        fill(folder);
        const auto data = opened(folder);
        const PackReport report = pack(*data, {folder / "out/deep", 40}, {{}, 2}, {});
        CHECK(report.scan.rejected() == 5);
        CHECK(report.packed == 6);
        CHECK(report.shards == 1);
        CHECK(report.bytes ==
              static_cast<int64_t>(fs::file_size(folder / "out/deep/train-00.tar")));
        CHECK(contents(folder / "out/deep").size() == 2);  // no temporary file
        const auto packed = open_dataset({folder / "out/deep"}, 1);
        CHECK(packed->classes() == data->classes());
        const Names names{"forest/a.ppm", "unlabeled/free.ppm", "sea/a.ppm",
                          "sea/c.ppm",    "sea/a-2.ppm",        "sea/a-3.ppm"};
        const std::vector<uint32_t> scenes{2, 3, 1, 4, 5, 6};
        REQUIRE(packed->size() == 6);
        for (int64_t i = 0; i < 6; ++i) {
            const auto at = static_cast<size_t>(i);
            CHECK(packed->name(i) == folder / "out/deep/train-00.tar:" + names[at]);
            const Image image = packed->read(i).image;
            if (scenes[at] == 4)
                CHECK(image.width == 40);
            else
                CHECK(image.bytes == render_scene(scenes[at], 32, 5, scenes[at]).bytes);
        }
        CHECK(packed->label(0) == 0);
        CHECK(packed->label(1) == -1);
        CHECK(packed->label(5) == 1);
    }

    TEST_CASE("the bytes depend on the photos alone, and shards keep their limit") {
        const Folder folder;
        fill(folder);
        const auto data = opened(folder);
        constexpr int64_t kShard = 8192;  // two photos of 32 pixels: 2 (512 + 3584) would be full
        PackOptions options{folder / "one", 32, kShard};
        const PackReport report = pack(*data, options, {{}, 1}, {});
        CHECK(report.shards == 6);
        options.out = folder / "three";
        pack(*data, options, {{}, 3}, {});
        const auto one = contents(folder / "one");
        CHECK(one == contents(folder / "three"));
        CHECK(one.size() == 7);
        options.out = folder / "pairs", options.shard_bytes = kShard + 1024;
        CHECK(pack(*data, options, {}, {}).shards == 3);
        for (const auto& [name, bytes] : contents(folder / "pairs")) CHECK(bytes.size() <= 9216);
        // The order is kept across shards.
        CHECK(open_dataset({folder / "pairs"}, 1)->name(5).ends_with("sea/a-3.ppm"));
    }

    TEST_CASE("a folder that holds shards or labels is refused; other files do no harm") {
        const Folder folder;
        fill(folder);
        const auto data = opened(folder);
        const auto refused = [&](const std::string& out) {
            return error_of<UsageError>([&] { pack(*data, {folder / out}, {}, {}); });
        };
        folder.write("tar/old.tar", "x");
        folder.write("labels/labels.txt", "sea\n");
        folder.write("notes/readme.md", "x");
        CHECK(contains(refused("tar"), "tar/old.tar: exists already"));
        CHECK(contains(refused("labels"), "labels/labels.txt: exists already"));
        CHECK(contents(folder / "tar").size() == 1);
        CHECK(pack(*data, {folder / "notes"}, {}, {}).packed == 6);
        CHECK(contains(refused("notes"), "exists already"));
        folder.write("file", "x");
        CHECK_THROWS_AS(pack(*data, {folder / "file"}, {}, {}), ResourceError);
        CHECK_THROWS_AS(pack(*data, {folder / "file/out"}, {}, {}), ResourceError);
        CHECK_THROWS_AS(pack(*data, {folder / "new", 0}, {}, {}), UsageError);
        CHECK_THROWS_AS(pack(*data, {folder / "new", 32, 0}, {}, {}), UsageError);
        CHECK_FALSE(fs::exists(folder / "new"));
    }

    TEST_CASE("classes that cannot be folders are refused before anything is written") {
        const Folder folder;
        folder.write("a.png", scene_png(1));
        for (const std::string& name :
             {std::string(".."), std::string("a/../b"), std::string("/root"), std::string("a//b"),
              std::string("a/"), std::string("bell\a"), std::string(200, 'n')}) {
            folder.write("list.txt", "a.png\t" + name + "\n");
            const auto data = open_dataset({folder / "list.txt"}, 1);
            CHECK(contains(error_of<InputError>([&] { pack(*data, {folder / "out"}, {}, {}); }),
                           "cannot be a folder"));
            CHECK_FALSE(fs::exists(folder / "out"));
        }
        const std::string name = std::string(120, 'n') + "/outdoor side";
        folder.write("list.txt", "a.png\t" + name + "\n");
        pack(*open_dataset({folder / "list.txt"}, 1), {folder / "out"}, {}, {});
        const auto packed = open_dataset({folder / "out"}, 1);
        CHECK(packed->classes() == Names{name});
        CHECK(packed->label(0) == 0);
        CHECK(packed->name(0).ends_with(name + "/a.ppm"));
    }

    TEST_CASE("any name of a photo becomes one that an archive can hold") {
        const Folder folder;
        folder.write("in/" + std::string(200, 'x') + ".png", scene_png(1));
        folder.write("in/" + std::string(200, 'x') + "y.png", scene_png(2));
        folder.write("in/a b:c\n.png", scene_png(3));
        folder.write("in/a_b_c_.png", scene_png(4));
        folder.write("in/a_b_c_-2.png", scene_png(5));
        std::string umlauts = "z";
        for (int i = 0; i < 60; ++i) umlauts += "\xc3\xa4";
        folder.write("in/" + umlauts + ".png", scene_png(6));
        pack(*open_dataset({folder / "in", "scenes:1:32"}, 1), {folder / "out"}, {}, {});
        const auto packed = open_dataset({folder / "out"}, 1);
        std::set<std::string> names;
        for (int64_t i = 0; i < packed->size(); ++i) {
            const std::string name = packed->name(i);
            names.insert(name.substr(name.find(".tar:") + 5));
        }
        CHECK(names == std::set<std::string>{"unlabeled/" + std::string(80, 'x') + ".ppm",
                                             "unlabeled/" + std::string(80, 'x') + "-2.ppm",
                                             "unlabeled/a_b_c_.ppm", "unlabeled/a_b_c_-2.ppm",
                                             "unlabeled/a_b_c_-3.ppm",
                                             "unlabeled/" + umlauts.substr(0, 79) + ".ppm",
                                             "autumn_forest/scene_0.ppm"});
    }

    TEST_CASE("a set without a usable photo is an error") {
        const Folder folder;
        folder.write("in/b.png", gray_png());
        const auto data = open_dataset({folder / "in"}, 1);
        CHECK(contains(error_of<InputError>([&] { pack(*data, {folder / "out"}, {}, {}); }),
                       "none of the 1 photos is usable"));
    }

    TEST_CASE("an archive that is not finished leaves nothing") {
        const Folder folder;
        {
            TarWriter writer(folder / "a.tar");
            writer.add("sea/a.ppm", Bytes(700));
            CHECK(writer.bytes() == 512 + 1024);
        }
        CHECK(fs::is_empty(folder.path()));
        TarWriter writer(folder / "a.tar");
        CHECK_THROWS_AS(writer.add(std::string(101, 'n'), Bytes(1)), InputError);
        CHECK_THROWS_AS(writer.add(std::string(156, 'n') + "/a", Bytes(1)), InputError);
        CHECK_THROWS_AS(writer.add("a/" + std::string(101, 'n'), Bytes(1)), InputError);
        writer.add(std::string(155, 'n') + "/" + std::string(100, 'm'), Bytes(512, 7));
        writer.add(std::string(100, 'k'), Bytes());
        writer.finish();
        const TarReader reader(folder / "a.tar");
        const auto members = reader.members();
        REQUIRE(members.size() == 2);
        CHECK(members[0].name == std::string(155, 'n') + "/" + std::string(100, 'm'));
        CHECK(members[1].name == std::string(100, 'k'));
        CHECK(members[1].bytes == 0);
        Bytes back(512);
        reader.read(members[0].offset, back.data(), 512);
        CHECK(back == Bytes(512, 7));
    }

    TEST_CASE("damaged PPM members are corrupt photos, however they are read") {
        const Folder folder;
        const Bytes whole = encode(render_scene(1, 32, 5, 1), Format::ppm);
        const auto text = [](const std::string& start, size_t zeros) {
            Bytes bytes(start.begin(), start.end());
            bytes.insert(bytes.end(), zeros, uint8_t{0});
            return bytes;
        };
        const Bytes cut(whole.begin(), whole.end() - 1);
        folder.write("a.tar",
                     tar({tar_member("whole.ppm", whole), tar_member("cut.ppm", cut),
                          tar_member("huge.ppm", text("P6 1000000 1000000 255\n", 100)),
                          tar_member("deep.ppm", text("P6 2 2 65535\n", 24)),
                          tar_member("empty.ppm", {}), tar_member("png.ppm", scene_png(2)),
                          tar_member("comment.ppm",
                                     text("P5\n#" + std::string(300, 'c') + "\n2 1\n255\n", 2)),
                          tar_member("cutheader.ppm", text("P6 2 2 ", 0))}));
        const auto data = open_dataset({folder / "a.tar"}, 1);
        CHECK(data->read(0).image.bytes == render_scene(1, 32, 5, 1).bytes);
        const std::map<int64_t, std::string> rules{{1, "too short"},
                                                   {2, "exceed the limit"},
                                                   {3, "samples up to 65535"},
                                                   {4, "empty"},
                                                   {7, "truncated"}};
        for (const auto& entry : rules) {
            const int64_t index = entry.first;
            const std::string error = error_of<InputError>([&] { data->read(index); });
            CHECK(contains(error, data->name(index)));
            CHECK(contains(error, entry.second));
        }
        CHECK(data->read(5).image.bytes == render_scene(2, 32, 5, 2).bytes);
        CHECK(data->read(6).image.bytes == Bytes(2));
    }
}
