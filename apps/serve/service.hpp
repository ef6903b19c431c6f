// What the server does: the endpoints of README.md.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/serve/http.hpp"
#include "apps/serve/photos.hpp"
#include "apps/serve/wishes.hpp"
#include "image/tone.hpp"
#include "model/colorizer.hpp"

namespace lumachrome {

struct ServiceSettings {
    std::string name, version;        // of the program
    int64_t max_pixels = 40'000'000;  // by a photo's header
    int64_t max_memory = 0;           // bytes that the process may use for the network; 0: no limit
    std::string baseline;             // name of the second network; empty: there is none
};

class Service : public Site {
  public:
    // `baseline` may be null; our network with a zero vector for the global features then stands
    // in, where it has such a branch. Both must outlive the service.
    Service(ServiceSettings settings, Policy policy, Colorizer& colorizer, Colorizer* baseline);

    Verdict judge(const HttpRequest& request) override;
    std::variant<Reply, Work> answer(const Admitted& request, std::vector<uint8_t> body,
                                     const Traffic& traffic) override;
    void tick() override { photos_.forget_unused(); }

  private:
    struct Photo {
        std::vector<uint8_t> file;  // as it came; empty: only a style is known
        int64_t width = 0, height = 0;
        Tone tone = Tone::gray;
        Image preview;           // at most kPreviewSide
        PhotoFeatures features;  // at the automatic size; of a style only `global`
    };
    using Held = std::shared_ptr<Photo>;

    // On the worker; they throw the errors of tensor/error.hpp.
    Reply add_photo(std::vector<uint8_t> file);
    Reply add_style(std::vector<uint8_t> file);
    Reply original(const Photo& photo, int64_t longest, bool gray);
    Reply style_of(const Photo& photo);
    Reply colorize_photo(const Photo& photo, const Wishes& wishes,
                         const std::atomic<bool>& given_up);
    Reply colorize_once(std::vector<uint8_t> file, const Wishes& wishes,
                        const std::atomic<bool>& given_up);
    Reply classify(std::vector<uint8_t> file, int64_t top);

    // At once.
    std::variant<Reply, Work> work_for(const Admitted& request, std::vector<uint8_t> body);
    Reply metrics_reply(const Traffic& traffic) const;
    Held held(const std::string& id);  // throws NotFound

    Image decoded(const std::vector<uint8_t>& file) const;
    Image canvas(const Photo& photo, int64_t longest) const;
    ColorizeSettings settings_for(const Wishes& wishes);
    Reply paint(Colorizer& colorizer, Image photo, const PhotoFeatures* features,
                const ColorizeSettings& settings, const Wishes& wishes,
                const std::atomic<bool>& given_up) const;

    ServiceSettings settings_;
    Policy policy_;
    Colorizer& colorizer_;
    Colorizer* baseline_;
    Json model_;
    LruCache<Photo> photos_{{}};
};

}  // namespace lumachrome
