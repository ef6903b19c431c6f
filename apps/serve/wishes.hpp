// How somebody wants a photo coloured: the same words in a query and in JSON.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "apps/serve/policy.hpp"
#include "image/codec.hpp"
#include "tensor/json.hpp"

namespace lumachrome {

struct Wishes {
    struct Share {
        std::string id;  // of a photo or style
        double weight;   // 0..1
    };
    int64_t size = 0;  // shorter side of the network's input; 0: auto
    bool full = false;
    double saturation = 1;
    std::vector<Share> styles;
    std::string scene_class;
    int64_t longest = 0;           // side of the result; 0: the photo's own
    std::optional<Format> format;  // none: JPEG, or PNG where there is transparency
    int quality = 90;
    bool baseline = false;
};

// Throw UsageError naming the key and what it may be. Unknown keys are errors.
Wishes wishes_of(const Json& object);
Wishes wishes_of(const Query& query);
Wishes parse_wishes(const std::string& json);  // empty: all as usual

}  // namespace lumachrome
