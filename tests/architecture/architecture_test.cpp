// The house rules, enforced: floors, third-party names, file sizes, reading walks.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <vector>

namespace fs = std::filesystem;

namespace {

fs::path source() {
    const char* folder = std::getenv("LUMACHROME_SOURCE");
    return folder ? folder : ".";
}

const std::map<std::string, int> kFloor = {{"tensor", 0}, {"image", 1}, {"autograd", 1},
                                           {"layers", 2}, {"model", 3}, {"train", 4},
                                           {"apps", 5}};

std::string text_of(const fs::path& path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

std::vector<fs::path> code_files() {
    std::vector<fs::path> files;
    for (const auto& [room, floor] : kFloor)
        for (const auto& entry : fs::recursive_directory_iterator(source() / room)) {
            const std::string extension = entry.path().extension().string();
            if (extension == ".hpp" || extension == ".cpp" || extension == ".cu" ||
                extension == ".cuh")
                files.push_back(entry.path());
        }
    return files;
}

std::vector<std::string> includes(const std::string& text) {
    static const std::regex pattern("#include [\"<]([^\">]+)[\">]");
    std::vector<std::string> result;
    for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it)
        result.push_back((*it)[1]);
    return result;
}

}  // namespace

TEST_CASE("no include goes up") {
    REQUIRE(code_files().size() > 50);
    for (const fs::path& file : code_files()) {
        const std::string room = fs::relative(file, source()).begin()->string();
        for (const std::string& include : includes(text_of(file))) {
            const auto target = kFloor.find(include.substr(0, include.find('/')));
            if (include.find('/') == std::string::npos || target == kFloor.end()) continue;
            CAPTURE(file.string());
            CAPTURE(include);
            CHECK((target->first == room || target->second < kFloor.at(room)));
        }
    }
}

TEST_CASE("third-party names appear in one file each, and in no header") {
    const std::map<std::string, std::set<std::string>> allowed = {
        {"Eigen/", {"tensor/gemm_cpu.cpp"}},
        {"nlohmann/", {"tensor/json.cpp"}},
        {"png.h", {"image/png.cpp"}},
        {"jpeglib.h", {"image/jpeg.cpp"}},
        {"CLI/", {"apps/cli.cpp"}},
        {"mpi.h", {"train/distributed/mpi.cpp"}},
        {"microhttpd.h", {"apps/serve/http.cpp"}},
        {"lcms2.h", {"image/profile_lcms2.cpp"}},
    };
    for (const fs::path& file : code_files())
        for (const std::string& include : includes(text_of(file))) {
            if (include.starts_with("cuda")) {
                CAPTURE(file.string());
                CHECK((file.extension() == ".cu" || file.extension() == ".cuh"));
            }
            for (const auto& [name, places] : allowed)
                if (include.starts_with(name)) {
                    CAPTURE(file.string());
                    CHECK(places.contains(fs::relative(file, source()).string()));
                }
        }
}

TEST_CASE("no file is longer than 600 lines, and the library neither prints nor exits") {
    static const std::regex forbidden(
        R"(\b(std::cout|std::cerr|printf|std::exit|std::abort|rand\(\)))");
    for (const fs::path& file : code_files()) {
        const std::string text = text_of(file);
        CAPTURE(file.string());
        CHECK(std::count(text.begin(), text.end(), '\n') <= 600);
        if (fs::relative(file, source()).begin()->string() != "apps")
            CHECK_FALSE(std::regex_search(text, forbidden));
    }
}

TEST_CASE("the stops of the reading walks exist, in order, and the README links them") {
    const std::string readme = text_of(source() / "README.md");
    static const std::regex stop("Walk ([0-9]), stop ([0-9]+):");
    std::map<int, std::map<int, std::string>> walks;
    for (const fs::path& file : code_files()) {
        const std::string text = text_of(file);
        for (std::sregex_iterator it(text.begin(), text.end(), stop), end; it != end; ++it) {
            const std::string path = fs::relative(file, source()).string();
            const int walk = std::stoi((*it)[1]), number = std::stoi((*it)[2]);
            CAPTURE(path);
            CHECK(walks[walk].emplace(number, path).second);
            CHECK(readme.find("](" + path + ")") != std::string::npos);
        }
    }
    CHECK(walks.size() >= 2);
    for (const auto& [walk, stops] : walks) {
        CHECK(stops.size() >= 4);
        CHECK(stops.begin()->first == 1);
        CHECK(stops.rbegin()->first == static_cast<int>(stops.size()));
    }
    // Every relative link of the README leads somewhere.
    static const std::regex link(R"(\]\(([^)#:]+)\))");
    for (std::sregex_iterator it(readme.begin(), readme.end(), link), end; it != end; ++it) {
        CAPTURE((*it)[1].str());
        CHECK(fs::exists(source() / (*it)[1].str()));
    }
}

// Two types of one name are one type to the linker: it keeps either's inline functions for both.
TEST_CASE("a type has its name for itself") {
    const std::regex type(R"(^(?:struct|class|enum class) (\w+)[^;]*\{)");
    const std::regex place(R"(^namespace (\S+) \{)");
    std::map<std::string, std::string> owners;
    for (const fs::path& file : code_files()) {
        if (file.extension() != ".hpp") continue;
        std::istringstream lines(text_of(file));
        std::string scope;
        for (std::string line; std::getline(lines, line);) {
            std::smatch found;
            if (std::regex_search(line, found, place)) scope = found[1].str() + "::";
            if (!std::regex_search(line, found, type)) continue;
            const std::string name = scope + found[1].str(), here = file.string();
            const std::string owner = owners.try_emplace(name, here).first->second;
            CHECK_MESSAGE(owner == here, name << " is in " << owner << " and " << here);
        }
    }
    CHECK(owners.size() > 100);
}
