// A batch whose disk fails, or which is killed, at every call that it makes there, one after the
// other: the run after it finishes the rest, makes nothing twice, and leaves nothing behind.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <map>
#include <set>

#include "apps/place.hpp"
#include "support/faults/faulty_process.hpp"
#include "tensor/json.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

constexpr int kPhotos = 3;

struct Box : Place {
    std::string album = here / "album";
    Box() {
        fs::create_directories(album);
        for (int i = 0; i < kPhotos; ++i)
            write_image(album + "/" + std::to_string(i) + ".png", striped(30 + i, 20), true);
    }
    std::vector<std::string> words(const std::string& out, bool anew) const {
        std::vector<std::string> all = {"colorize",  album,   "-o",        out + "/", "--json",
                                        "--weights", weights, "--threads", "1"};
        if (anew) all.insert(all.end(), {"--overwrite", "--saturation", "0.5"});
        return all;
    }
    // Where a batch begins: nothing, or results made with other settings.
    void prepare(const std::string& out, bool anew) const {
        fs::remove_all(out);
        fs::create_directories(out);
        if (anew) REQUIRE(Process(words(out, false)).wait().code == 0);
    }
};

std::map<std::string, std::string> results(const std::string& folder) {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::directory_iterator(folder))
        if (!entry.path().filename().string().starts_with('.'))
            found[entry.path().filename().string()] = contents(entry.path());
    return found;
}

ino_t inode(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

}  // namespace

TEST_CASE("a batch that fails or is killed at any call goes on where it was") {
    const Box box;
    for (const bool anew : {false, true}) {
        const std::string calm = box / "calm", out = box / "out", count = box / "count";
        box.prepare(calm, anew);
        REQUIRE(start_with_fault(box.words(calm, anew), calm, {}, count).wait().code == 0);
        const auto wanted = results(calm);
        REQUIRE(wanted.size() == kPhotos);
        int calls = 0;
        std::ifstream(count) >> calls;
        REQUIRE(calls >= 10 * kPhotos);
        for (const char* kind : {"crash", "enospc", "eio", "short"})
            for (int at = 1; at <= calls; ++at) {
                CAPTURE(anew);
                CAPTURE(kind);
                CAPTURE(at);
                box.prepare(out, anew);
                const Finished failed =
                    start_with_fault(box.words(out, anew), out, {kind, at}).wait();
                CAPTURE(failed.err);
                const bool killed = std::string(kind) == "crash";
                CHECK((killed ? failed.code == 137 : failed.code == 0 || failed.code == 5));
                // Whole and new, whole and old, or not there.
                std::map<std::string, ino_t> made;
                for (const auto& [name, bytes] : results(out))
                    if (wanted.contains(name) && bytes == wanted.at(name))
                        made[name] = inode(out + "/" + name);
                const Finished last = Process(box.words(out, anew)).wait();
                CAPTURE(last.err);
                CHECK(last.code == 0);
                CHECK(Json::parse(last.out).at("skipped").integer() == int64_t(made.size()));
                CHECK(results(out) == wanted);  // and no temporary file
                for (const auto& [name, node] : made) CHECK(inode(out + "/" + name) == node);
            }
    }
}
