#include "apps/serve/service.hpp"

#include <algorithm>
#include <new>

#include "apps/commands/photos.hpp"
#include "apps/serve/page.hpp"
#include "apps/serve/pixels.hpp"
#include "image/codec.hpp"
#include "image/color.hpp"
#include "image/metadata.hpp"
#include "model/infer/plan.hpp"
#include "model/summary.hpp"
#include "tensor/error.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kPreviewSide = 2048;  // longer side of what is kept decoded
constexpr int64_t kScenesShown = 5, kMostScenes = 1000;
constexpr int kPageQuality = 90;  // of JPEG
constexpr const char* kPhoto = "the photo";

class NotFound : public Error {
    using Error::Error;
};

// Whose turn it is: 4xx the client's, 5xx ours.
Reply reply_for(const std::exception& error) {
    const std::string text = error.what();
    if (dynamic_cast<const NotFound*>(&error)) return error_reply(404, text);
    if (dynamic_cast<const UsageError*>(&error)) return error_reply(400, text);
    if (dynamic_cast<const InputError*>(&error)) return error_reply(422, text);
    if (dynamic_cast<const ModelError*>(&error)) return error_reply(422, text);
    if (dynamic_cast<const MemoryLimitError*>(&error)) return error_reply(422, text);
    if (dynamic_cast<const ResourceError*>(&error)) return busy_reply(text);
    if (dynamic_cast<const std::bad_alloc*>(&error)) return busy_reply("out of memory");
    return error_reply(500, text);
}

int64_t parameters_of(const Spec& spec) {
    ColorNet net(spec);
    return summarize(net, spec.global_size, spec.global_size).parameters;
}

const std::string* find(const Query& query, const std::string& name) {
    const auto at = std::find_if(query.begin(), query.end(),
                                 [&](const auto& entry) { return entry.first == name; });
    return at == query.end() ? nullptr : &at->second;
}

int64_t whole_or(const Query& query, const std::string& name, int64_t absent, int64_t least,
                 int64_t most) {
    const std::string* text = find(query, name);
    if (!text) return absent;
    if (const auto value = whole_number(*text, least, most)) return *value;
    throw UsageError("\"" + name + "\" must be a whole number, " + std::to_string(least) + ".." +
                     std::to_string(most));
}

bool wants_gray(const Query& query) {
    const std::string* variant = find(query, "variant");
    if (!variant || *variant == "truth") return false;
    if (*variant == "gray") return true;
    throw UsageError("\"variant\" must be gray or truth");
}

const char* type_of(Format format) {
    return format == Format::png ? "image/png" : "image/jpeg";
}

Reply asset_reply(const std::string& path) {
    for (const Asset& asset : page_assets())
        if (asset.path == path)
            return {.type = std::string(asset.type),
                    .body = {asset.bytes.begin(), asset.bytes.end()}};
    throw NotFound("there is nothing at this address");
}

}  // namespace

Service::Service(ServiceSettings settings, Policy policy, Colorizer& colorizer, Colorizer* baseline)
    : settings_(std::move(settings)),
      policy_(std::move(policy)),
      colorizer_(colorizer),
      baseline_(baseline) {
    for (const Asset& asset : page_assets()) policy_.assets.emplace_back(asset.path);
    const Spec& spec = colorizer_.spec();
    Json::Array classes;  // what a photo can be coloured as
    if (spec.has_class_head()) classes.assign(spec.class_names.begin(), spec.class_names.end());
    const bool styles = colorizer_.has_styles();
    model_ = Json::Object{{"name", settings_.name},
                          {"version", settings_.version},
                          {"preset", spec.preset},
                          {"parameters", parameters_of(spec)},
                          {"sha256", colorizer_.weights_sha256()},
                          {"classes", std::move(classes)},
                          {"styles", styles},
                          {"baseline", baseline_ ? settings_.baseline
                                       : styles  ? "zero"
                                                 : "none"},
                          {"limits", Json::Object{{"body_bytes", policy_.body_most},
                                                  {"pixels", settings_.max_pixels}}}};
}

Verdict Service::judge(const HttpRequest& request) {
    return lumachrome::judge(request, policy_);
}

std::variant<Reply, Site::Work> Service::answer(const Admitted& request, std::vector<uint8_t> body,
                                                const Traffic& traffic) try {
    switch (request.endpoint) {
        case Endpoint::asset:
            return asset_reply(request.id);
        case Endpoint::health:
            return json_reply(Json::Object{{"status", "ok"}});
        case Endpoint::metrics:
            return metrics_reply(traffic);
        case Endpoint::model:
            return json_reply(model_);
        case Endpoint::forget_photo:
            if (!photos_.forget(request.id)) throw NotFound("this photo is not here any more");
            return Reply{.status = 204};
        default:
            return work_for(request, std::move(body));
    }
} catch (const std::exception& error) {
    return reply_for(error);
}

// What can be said at once is: a wrong request does not wait for the worker to hear so.
std::variant<Reply, Site::Work> Service::work_for(const Admitted& request,
                                                  std::vector<uint8_t> body) {
    const auto guarded = [](auto work) -> Work {
        return [work = std::move(work)](const std::atomic<bool>& given_up) mutable -> Reply {
            try {
                if (given_up) return busy_reply("nobody waits for this any more");
                return work(given_up);
            } catch (const std::exception& error) {
                return reply_for(error);
            }
        };
    };
    switch (request.endpoint) {
        case Endpoint::original: {
            const int64_t longest = whole_or(request.query, "max", 0, 0, 65500);
            return guarded([this, photo = held(request.id), longest,
                            gray = wants_gray(request.query)](const auto&) {
                return original(*photo, longest, gray);
            });
        }
        case Endpoint::style_of_photo:
            return guarded(
                [this, photo = held(request.id)](const auto&) { return style_of(*photo); });
        case Endpoint::colorize_photo: {
            const std::string text(body.begin(), body.end());
            Wishes wishes = parse_wishes(text);
            return guarded(
                [this, photo = held(request.id), wishes = std::move(wishes)](const auto& given_up) {
                    return colorize_photo(*photo, wishes, given_up);
                });
        }
        case Endpoint::add_photo:
            return guarded([this, file = std::move(body)](const auto&) mutable {
                return add_photo(std::move(file));
            });
        case Endpoint::add_style:
            return guarded([this, file = std::move(body)](const auto&) mutable {
                return add_style(std::move(file));
            });
        case Endpoint::colorize:
            return guarded([this, file = std::move(body),
                            wishes = wishes_of(request.query)](const auto& given_up) mutable {
                return colorize_once(std::move(file), wishes, given_up);
            });
        default:
            return guarded([this, file = std::move(body),
                            top = whole_or(request.query, "top", kScenesShown, 1, kMostScenes)](
                               const auto&) mutable { return classify(std::move(file), top); });
    }
}

Service::Held Service::held(const std::string& id) {
    Held photo = photos_.find(id);
    if (!photo) throw NotFound("this photo is not here any more; send it again");
    return photo;
}

Image Service::decoded(const std::vector<uint8_t>& file) const {
    return decode(file, kPhoto, {.max_pixels = settings_.max_pixels});
}

Reply Service::add_photo(std::vector<uint8_t> file) {
    const Image image = decoded(file);
    Photo photo;
    photo.width = image.width, photo.height = image.height;
    photo.tone = tone_of(image);
    photo.preview = shrunk(image, kPreviewSide, colorizer_.exec());
    photo.features = colorizer_.features(image, settings_for({}));
    photo.file = std::move(file);
    photo.file.shrink_to_fit();
    Json reply = Json::Object{{"id", ""},
                              {"width", photo.width},
                              {"height", photo.height},
                              {"tone", name(photo.tone)},
                              {"scene", scene_json(photo.features.global.scene, kScenesShown)},
                              {"network_width", photo.features.network_width},
                              {"network_height", photo.features.network_height}};
    const auto bytes = static_cast<int64_t>(photo.file.size() + photo.preview.bytes.size()) +
                       photo.features.middle.bytes();
    reply.set("id", photos_.add(std::move(photo), bytes));
    set_warnings(reply, image);
    return json_reply(reply, 201);
}

Reply Service::add_style(std::vector<uint8_t> file) {
    colorizer_.require_styles();
    Photo photo;
    GlobalView& global = photo.features.global;
    if (is_tensor_file(file))
        global.style = parse_style(std::move(file), "the style", colorizer_.spec(),
                                   colorizer_.weights_sha256());
    else
        global = colorizer_.global_view(decoded(file));
    Json reply = Json::Object{{"id", ""}, {"scene", scene_json(global.scene, kScenesShown)}};
    const int64_t bytes = global.style.bytes();
    reply.set("id", photos_.add(std::move(photo), bytes));
    return json_reply(reply, 201);
}

// The photo at that size, from the preview where it has pixels enough.
Image Service::canvas(const Photo& photo, int64_t longest) const {
    if (photo.file.empty()) throw NotFound("this is a style, not a photo");
    const int64_t longer = std::max(photo.width, photo.height);
    const bool own_size = longest == 0 || longest >= longer;
    if (!own_size && longest <= kPreviewSide)
        return shrunk(photo.preview, longest, colorizer_.exec());
    Image image = decoded(photo.file);
    return own_size ? image : shrunk(image, longest, colorizer_.exec());
}

Reply Service::original(const Photo& photo, int64_t longest, bool gray) {
    Image image = canvas(photo, longest);
    image = gray ? gray_of(image, colorizer_.exec())
                 : without_alpha(std::move(image), colorizer_.exec());
    return {.type = "image/jpeg", .body = encode(image, Format::jpeg, kPageQuality)};
}

Reply Service::style_of(const Photo& photo) {
    colorizer_.require_styles();
    return {.type = "application/octet-stream",
            .body = style_bytes(photo.features.global.style, colorizer_.weights_sha256()),
            .headers = {{"Content-Disposition", "attachment; filename=\"photo.style\""}}};
}

ColorizeSettings Service::settings_for(const Wishes& wishes) {
    ColorizeSettings settings;
    settings.size = wishes.size;
    settings.full = wishes.full;
    settings.saturation = wishes.saturation;
    settings.max_memory = settings_.max_memory;
    settings.scene_class = wishes.scene_class;
    for (const auto& [id, weight] : wishes.styles)
        settings.styles.push_back({held(id)->features.global.style, weight});
    return settings;
}

Reply Service::colorize_photo(const Photo& photo, const Wishes& wishes,
                              const std::atomic<bool>& given_up) {
    Image image = canvas(photo, wishes.longest);
    ColorizeSettings settings = settings_for(wishes);
    const bool automatic = wishes.size == 0 && !wishes.full;
    const PhotoFeatures* features = automatic ? &photo.features : nullptr;
    if (!wishes.baseline)
        return paint(colorizer_, std::move(image), features, settings, wishes, given_up);
    settings.styles.clear();
    settings.scene_class.clear();
    if (baseline_) return paint(*baseline_, std::move(image), nullptr, settings, wishes, given_up);
    if (!colorizer_.has_styles())
        throw UsageError("there is no baseline: serve --baseline FILE names one");
    settings.styles = {{Tensor::zeros(photo.features.global.style.shape()), 1}};
    return paint(colorizer_, std::move(image), features, settings, wishes, given_up);
}

Reply Service::colorize_once(std::vector<uint8_t> file, const Wishes& wishes,
                             const std::atomic<bool>& given_up) {
    Image image = decoded(file);
    file = {};
    return paint(colorizer_, std::move(image), nullptr, settings_for(wishes), wishes, given_up);
}

Reply Service::paint(Colorizer& colorizer, Image photo, const PhotoFeatures* features,
                     const ColorizeSettings& settings, const Wishes& wishes,
                     const std::atomic<bool>& given_up) const {
    const Format coding = wishes.format.value_or(photo.has_alpha() ? Format::png : Format::jpeg);
    if (coding == Format::jpeg) photo = without_alpha(std::move(photo), colorizer.exec());
    add_provenance(photo.metadata, provenance_of(colorizer.weights_sha256()));
    Reply reply{.type = type_of(coding)};
    const auto encoder =
        make_encoder(merged(photo), coding, wishes.quality, [&](std::span<const uint8_t> bytes) {
            reply.body.insert(reply.body.end(), bytes.begin(), bytes.end());
        });
    const auto encode_rows = [&](const uint8_t* rows, int64_t count) {
        if (given_up) throw ResourceError("nobody waits for this any more");
        encoder->write(rows, count);
    };
    const Colorization done = features ? colorizer.colorize(photo, *features, settings, encode_rows)
                                       : colorizer.colorize(photo, settings, encode_rows);
    encoder->finish();
    reply.headers = {{"X-Network-Width", std::to_string(done.network_width)},
                     {"X-Network-Height", std::to_string(done.network_height)},
                     {"X-Network-Milliseconds", std::to_string(done.network_milliseconds)}};
    return reply;
}

Reply Service::classify(std::vector<uint8_t> file, int64_t top) {
    const std::vector<SceneScore> scene = colorizer_.classify(decoded(file));
    return json_reply(Json::Object{{"scene", scene_json(scene, top)}});
}

// https://prometheus.io/docs/instrumenting/exposition_formats/
Reply Service::metrics_reply(const Traffic& traffic) const {
    std::string text;
    const auto head = [&](const char* name, const char* type, const char* help) {
        text +=
            format("# HELP lumachrome_%s %s\n# TYPE lumachrome_%s %s\n", name, help, name, type);
    };
    const auto add = [&](const char* name, const char* type, const char* help, double value) {
        head(name, type, help);
        text += format("lumachrome_%s %.17g\n", name, value);
    };
    head("requests_total", "counter", "Requests by the status of their reply.");
    for (const auto& [status, count] : traffic.replies)
        text += format("lumachrome_requests_total{status=\"%d\"} %ld\n", status, count);
    add("queue_length", "gauge", "Requests that wait for the network.", double(traffic.waiting));
    add("busy_seconds_total", "counter", "Time spent on photos.", traffic.busy_seconds);
    add("connections", "gauge", "Clients connected.", double(traffic.connections));
    add("transfer_bytes", "gauge", "Bodies and replies in memory.", double(traffic.bytes));
    add("photos", "gauge", "Photos and styles held.", double(photos_.count()));
    add("photo_bytes", "gauge", "Their memory.", double(photos_.bytes()));
    return {.type = "text/plain; version=0.0.4", .body = bytes_of(text)};
}

}  // namespace lumachrome
