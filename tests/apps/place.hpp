// A folder with a network that nobody trained and two photos, and `colorize` in it.
#pragma once
#include "image/codec.hpp"
#include "tensor/file.hpp"
#include "tests/apps/hostile.hpp"
#include "tests/apps/process.hpp"

namespace lumachrome {

inline void write_bytes(const std::string& path, const Bytes& bytes) {
    write_file_atomic(path, bytes, true);
}

struct Place : TemporaryFolder {
    const TemporaryFolder& here = *this;
    std::string weights = here / "tiny.safetensors";
    std::string photo = here / "photo.png", other = here / "other.jpg";

    Place() {
        write_network(weights, 1);
        write_image(photo, striped(41, 30), true);
        write_image(other, striped(24, 24), true);
    }
    static void write_network(const std::string& path, uint64_t seed) {
        Spec spec = preset("tiny");
        spec.classes = 3;
        spec.class_names = {"desert", "forest", "sea"};
        ColorNet net(spec, seed);
        write_tensor_file(path, model_file(net, {{"licence", "CC0-1.0"}}), true);
    }
    Finished colorize(std::vector<std::string> words,
                      const std::string& input = "/dev/null") const {
        words.insert(words.begin(), {"colorize", "--weights", weights});
        return run(std::move(words), input);
    }
};

}  // namespace lumachrome
