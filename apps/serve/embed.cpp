// Build-time tool: embed OUT.cpp FILE... writes the files as C++ data, for page.hpp.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace {

const std::map<std::string, std::string> kTypes = {
    {".html", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".svg", "image/svg+xml"},
};

std::string as_numbers(const std::string& bytes) {
    std::string out;
    for (size_t i = 0; i < bytes.size(); ++i)
        out += std::to_string(static_cast<int>(static_cast<signed char>(bytes[i]))) +
               (i % 24 == 23 ? ",\n" : ",");
    return out;
}

}  // namespace

int main(int count, char** words) {
    std::string data, table;
    for (int i = 2; i < count; ++i) {
        const std::filesystem::path file = words[i];
        std::ifstream in(file, std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(in), {}};
        const auto type = kTypes.find(file.extension());
        if (bytes.empty() || type == kTypes.end()) {
            std::fprintf(stderr, "embed: %s: is empty, or of a kind it does not know\n", words[i]);
            return 1;
        }
        const std::string name = file.filename(), number = std::to_string(i);
        data += "constexpr char kFile" + number + "[] = {\n" + as_numbers(bytes) + "};\n";
        table += "    {\"/" + (name == "index.html" ? "" : name) + "\", \"" + type->second +
                 "\", {kFile" + number + ", sizeof kFile" + number + "}},\n";
    }
    std::ofstream(words[1]) << "#include \"apps/serve/page.hpp\"\n\nnamespace lumachrome {\n"
                            << "namespace {\n\n"
                            << data << "\nconstexpr Asset kAssets[] = {\n"
                            << table << "};\n\n}  // namespace\n\n"
                            << "std::span<const Asset> page_assets() {\n    return kAssets;\n}\n\n"
                            << "}  // namespace lumachrome\n";
}
