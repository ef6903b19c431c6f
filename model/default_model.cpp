#include "model/default_model.hpp"

#include <cstdlib>
#include <filesystem>

#include "tensor/error.hpp"

namespace lumachrome {

std::string default_model_path() {
    namespace fs = std::filesystem;
    constexpr const char* kFile = "lumachrome-compact.safetensors";
    if (const char* named = std::getenv("LUMACHROME_WEIGHTS")) return named;
    std::error_code error;
    fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
    while (!error && !folder.empty()) {
        for (const char* place : {"weights", "share/lumachrome"})
            if (fs::exists(folder / place / kFile, error)) return (folder / place / kFile).string();
        if (folder == folder.root_path()) break;
        folder = folder.parent_path();
    }
    throw ModelError(std::string("the default model, weights/") + kFile +
                     ", is missing; name another with --weights");
}

}  // namespace lumachrome
