#include "apps/serve/photos.hpp"

#include <sys/random.h>

#include <array>

#include "tensor/error.hpp"

namespace lumachrome {

std::string random_id() {
    std::array<unsigned char, 16> random;
    if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        throw ResourceError("the system gives no random numbers");
    constexpr char kDigits[] = "0123456789abcdef";
    std::string id;
    for (const unsigned char byte : random) {
        id.push_back(kDigits[byte >> 4]);
        id.push_back(kDigits[byte & 15]);
    }
    return id;
}

}  // namespace lumachrome
