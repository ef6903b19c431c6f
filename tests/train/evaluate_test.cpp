// The evaluation protocol: intervals, scenes, comparisons.
#include "train/evaluate.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "image/color.hpp"
#include "tensor/error.hpp"
#include "tensor/random.hpp"
#include "train/sample_sheet.hpp"

using namespace lumachrome;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Random random_numbers(uint32_t series) {
    return Random(1, Random::Purpose::test, series);
}

Ratio mean_of(std::vector<double> values) {
    const size_t count = values.size();
    return {std::move(values), std::vector<double>(count, 1.0)};
}

Interval interval_of(const Ratio& ratio, int threads = 1) {
    return middle(resample(Exec{{}, threads}, {&ratio, 1}).front());
}

// The ends of the interval are quantiles of 2,000 draws: their standard deviation is
// sqrt(0.025 * 0.975 / 2000) / 0.0584 = 0.06 standard errors of the mean (0.0584: the normal
// density at 1.96). Five of those.
constexpr double kQuantileNoise = 0.3;

Colorizer untrained(std::vector<std::string> classes, uint64_t seed = 1, bool global = true) {
    Spec spec = preset("tiny");
    spec.classes = std::max<int64_t>(1, std::ssize(classes));
    spec.class_names = std::move(classes);
    spec.use_global = global;
    return Colorizer(std::make_unique<ColorNet>(spec, seed), {}, Exec{{}, 2});
}

const Estimate& figure(const GroupQuality& group, const std::string& name) {
    for (const Estimate& estimate : group.figures)
        if (estimate.figure == name) return estimate;
    FAIL("no figure ", name);
    return group.figures.front();
}

const Difference& figure(const std::vector<Difference>& differences, const std::string& name) {
    for (const Difference& difference : differences)
        if (difference.figure == name) return difference;
    FAIL("no figure ", name);
    return differences.front();
}

// Photos of different difficulty, as two models might do on them: b a little better in rmse_ab,
// less colourful than a, which is too colourful by as much as b is too pale.
std::pair<Evaluation, Evaluation> two_models(int photos) {
    Random random = random_numbers(3);
    Evaluation a, b;
    for (int i = 0; i < photos; ++i) {
        PhotoQuality photo;
        photo.name = std::to_string(i);
        photo.colorfulness_truth = 40;
        photo.rank = i % 3;
        photo.gray.rmse_ab = 14 + 3 * random.normal();
        photo.result.rmse_ab = photo.gray.rmse_ab - 2;
        photo.result.colorfulness = 45;
        a.photos.push_back(photo);
        photo.result.rmse_ab += -0.3 + 0.2 * random.normal();
        photo.result.colorfulness = 35;
        b.photos.push_back(photo);
    }
    return {a, b};
}

// Scenes, of which some cannot be read and others are gray.
class Damaged : public Dataset {
  public:
    Damaged(int64_t photos, std::vector<int64_t> corrupt, std::vector<int64_t> gray)
        : scenes_(open_dataset({"scenes:" + std::to_string(photos) + ":32"}, 2)),
          corrupt_(std::move(corrupt)),
          gray_(std::move(gray)) {
        classes_ = scenes_->classes();
    }
    int64_t size() const override { return scenes_->size(); }
    Photo read(int64_t index) const override {
        Photo photo = scenes_->read(index);
        if (std::count(corrupt_.begin(), corrupt_.end(), index) > 0)
            throw InputError(photo.name + ": is cut short");
        if (std::count(gray_.begin(), gray_.end(), index) > 0)
            photo.image = Image::make(32, 32, 1, 8);
        return photo;
    }
    std::string name(int64_t index) const override { return scenes_->name(index); }
    int64_t label(int64_t index) const override { return scenes_->label(index); }

  private:
    std::shared_ptr<const Dataset> scenes_;
    std::vector<int64_t> corrupt_, gray_;
};

}  // namespace

TEST_CASE("the interval of a mean and of a share is that of the normal theory") {
    Random random = random_numbers(1);
    std::vector<double> values;
    for (int i = 0; i < 400; ++i) values.push_back(5 + 2 * random.normal());
    const Ratio mean = mean_of(values);
    double squares = 0;
    for (double v : values) squares += (v - mean.value()) * (v - mean.value());
    const double error = std::sqrt(squares) / 400;
    const Interval interval = interval_of(mean);
    CHECK(std::abs(interval.low - (mean.value() - 1.96 * error)) < kQuantileNoise * error);
    CHECK(std::abs(interval.high - (mean.value() + 1.96 * error)) < kQuantileNoise * error);
    CHECK(interval.contains(5));

    // 60 of the 200 photos that count; the other 100 do not.
    Ratio share;
    for (int i = 0; i < 300; ++i) {
        share.above.push_back(i < 60);
        share.below.push_back(i < 200);
    }
    CHECK(share.value() == 0.3);
    const double share_error = std::sqrt(0.3 * 0.7 / 200);
    const Interval among = interval_of(share);
    CHECK(std::abs(among.low - (0.3 - 1.96 * share_error)) < kQuantileNoise * share_error);
    CHECK(std::abs(among.high - (0.3 + 1.96 * share_error)) < kQuantileNoise * share_error);
}

TEST_CASE("intervals are the same on every run and for any number of threads") {
    Random random = random_numbers(2);
    std::vector<double> values;
    for (int i = 0; i < 50; ++i) values.push_back(random.uniform());
    const Ratio mean = mean_of(values);
    const auto once = resample(Exec{{}, 1}, {&mean, 1});
    CHECK(once == resample(Exec{{}, 1}, {&mean, 1}));
    CHECK(once == resample(Exec{{}, 4}, {&mean, 1}));
    CHECK(std::ssize(once.front()) == kResamples);
    CHECK(once.front()[0] != once.front()[1]);
    // The draws do not depend on what is asked besides.
    const Ratio both[] = {mean_of(std::vector<double>(50, 1.0)), mean};
    CHECK(resample(Exec{}, both)[1] == once.front());
}

TEST_CASE("what too few photos say has no interval") {
    CHECK(std::isnan(interval_of(mean_of({7})).low));
    const Ratio none = {{0, 0, 0}, {0, 0, 0}}, single = {{0, 1, 0}, {0, 1, 0}},
                two = {{1, 1, 0}, {1, 1, 0}};
    CHECK(std::isnan(none.value()));
    CHECK(std::isnan(interval_of(none).high));
    CHECK(single.value() == 1);
    CHECK(std::isnan(interval_of(single).low));
    // Some resamples hold neither of the two; they are left out.
    CHECK(interval_of(two).low == 1);
    CHECK(interval_of(two).high == 1);
    CHECK_FALSE(interval_of(none).contains(0));
    CHECK(std::isnan(middle({kNan, kNan}).low));
    const Interval kept = middle({kNan, 3, kNan});
    CHECK(kept.low == 3);
    CHECK(kept.high == 3);
    const Ratio uneven[] = {mean_of({1, 2}), mean_of({1, 2, 3})};
    CHECK_THROWS_AS(resample(Exec{}, uneven), ShapeError);
    CHECK(resample(Exec{}, {}).empty());
}

TEST_CASE("a photo's figures follow their definition, in bands and on any number of threads") {
    // More pixels than one band, and a number that no chunk divides.
    Random random = random_numbers(4);
    Image truth = Image::make(301, 257, 3, 8), result = truth;
    for (size_t i = 0; i < truth.bytes.size(); ++i) {
        truth.bytes[i] = static_cast<uint8_t>(random.below(256));
        result.bytes[i] = static_cast<uint8_t>(random.below(256));
    }
    const ColorQuality one = compare(result, truth), four = compare(result, truth, Exec{{}, 4});
    CHECK(one.rmse_ab == four.rmse_ab);
    CHECK(one.delta_e2000_mean == four.delta_e2000_mean);
    CHECK(one.psnr_rgb == four.psnr_rgb);
    double error = 0, delta = 0;
    const int64_t pixels = truth.width * truth.height;
    const auto lab = [](const Image& image, int64_t i) {
        const uint8_t* p = &image.bytes[size_t(i) * 3];
        return srgb_to_lab({p[0] / 255.0, p[1] / 255.0, p[2] / 255.0});
    };
    for (int64_t i = 0; i < pixels; ++i) {
        const Lab ours = lab(result, i), theirs = lab(truth, i);
        error += (ours.a - theirs.a) * (ours.a - theirs.a);
        error += (ours.b - theirs.b) * (ours.b - theirs.b);
        delta += delta_e2000(ours, theirs);
    }
    CHECK(one.rmse_ab == doctest::Approx(std::sqrt(error / double(2 * pixels))).epsilon(1e-12));
    CHECK(one.delta_e2000_mean == doctest::Approx(delta / double(pixels)).epsilon(1e-12));
    CHECK_THROWS_AS(compare(result, Image::make(301, 256, 3, 8)), ShapeError);
}

TEST_CASE("the scenes' figures add up to the whole") {
    const auto data = open_dataset({"scenes:30:32"}, 2);
    Colorizer colorizer = untrained(data->classes());
    const Evaluation e = evaluate(colorizer, *data, 0, {});
    CHECK(e.images == 30);
    REQUIRE(e.photos.size() == 30);
    REQUIRE(e.classes.size() > 3);
    double images = 0, rmse = 0, gray = 0, first = 0, five = 0, colorful = 0, truth = 0;
    for (const ClassQuality& scene : e.classes) {
        const auto weight = double(scene.images);
        images += weight;
        rmse += weight * scene.rmse_ab;
        gray += weight * scene.gray_baseline.rmse_ab;
        first += weight * scene.top1;
        five += weight * scene.top5;
        colorful += weight * scene.colorfulness;
        truth += weight * scene.colorfulness_truth;
        CHECK(scene.rmse_ab_share ==
              doctest::Approx(scene.rmse_ab / scene.gray_baseline.rmse_ab).epsilon(1e-12));
    }
    CHECK(images == 30);
    CHECK(rmse / 30 == doctest::Approx(e.rmse_ab).epsilon(1e-12));
    CHECK(gray / 30 == doctest::Approx(e.gray_baseline.rmse_ab).epsilon(1e-12));
    CHECK(first / 30 == doctest::Approx(e.top1).epsilon(1e-12));
    CHECK(five / 30 == doctest::Approx(e.top5).epsilon(1e-12));
    CHECK(rmse / gray == doctest::Approx(e.rmse_ab_share).epsilon(1e-12));
    CHECK(colorful / truth == doctest::Approx(e.colorfulness_share).epsilon(1e-12));

    REQUIRE(e.figures.size() == 10);
    CHECK(e.gray_figures.size() == 5);
    CHECK(figure(e, "rmse_ab").value == e.rmse_ab);
    CHECK(figure(e, "colorfulness_truth").value == e.colorfulness_truth);
    for (const Estimate& estimate : e.figures) {
        CAPTURE(estimate.figure);
        CHECK(estimate.interval.contains(estimate.value));
    }
    for (const PhotoQuality& photo : e.photos) CHECK(photo.rank >= 0);
    CHECK(e.photos.front().name == data->name(0));

    const Evaluation limited = evaluate(colorizer, *data, 7, {});
    CHECK(limited.images == 7);
    CHECK(limited.photos.back().result.rmse_ab == e.photos[6].result.rmse_ab);
}

TEST_CASE("photos that are corrupt or gray are skipped and named, unless none is left") {
    const Damaged data(6, {0, 4}, {5});
    Colorizer colorizer = untrained(data.classes());
    int64_t told = 0;
    const Evaluation e =
        evaluate(colorizer, data, 0, {}, [&](int64_t done, int64_t) { told = done; });
    CHECK(told == 6);
    CHECK(e.images == 3);
    REQUIRE(e.photos.size() == 3);
    REQUIRE(e.skipped.size() == 3);
    CHECK(e.skipped[0] == data.name(0) + ": is cut short");
    CHECK(e.skipped[2].starts_with(data.name(5) + ": is gray"));
    for (int64_t i = 0; i < 3; ++i) {
        CHECK(e.photos[size_t(i)].index == i + 1);
        CHECK(e.photos[size_t(i)].name == data.name(i + 1));
    }
    // The figures are those of the photos that are left.
    const auto left = subset(open_dataset({"scenes:6:32"}, 2), {1, 2, 3});
    CHECK(evaluate(colorizer, *left, 0, {}).rmse_ab == e.rmse_ab);
    CHECK(evaluate(colorizer, data, 2, {}).images == 1);  // a limit counts what is skipped, too
    CHECK_THROWS_AS(evaluate(colorizer, data, 1, {}), InputError);
}

TEST_CASE("scenes the model does not know, or cannot name, are not judged") {
    const auto data = open_dataset({"scenes:6:32"}, 2);
    std::vector<std::string> some(data->classes().begin(), data->classes().end() - 1);
    for (Colorizer& colorizer :
         std::array{untrained({"attic", "cellar"}), untrained(some), untrained({})}) {
        CHECK_FALSE(judges_scenes(colorizer.spec(), *data));
        const Evaluation e = evaluate(colorizer, *data, 0, {});
        CHECK(std::isnan(e.top1));
        CHECK(std::isnan(e.top5));
        CHECK(std::isnan(figure(e, "top5").interval.low));
        CHECK(e.rmse_ab > 0);
        REQUIRE(!e.classes.empty());
        CHECK(std::isnan(e.classes.front().top1));
        CHECK(e.classes.front().rmse_ab > 0);
        for (const PhotoQuality& photo : e.photos) CHECK(photo.rank == -1);
    }
    // No class head: the baseline of the paper.
    Colorizer local = untrained(data->classes(), 1, false);
    CHECK(judges_scenes(local.spec(), *data));
    CHECK(std::isnan(evaluate(local, *data, 2, {}).top1));
    // More scenes than the data has do no harm, whatever their order.
    std::vector<std::string> more = data->classes();
    more.insert(more.begin(), "attic");
    Colorizer knows_more = untrained(more), knows_none = untrained({"attic"});
    const Evaluation judged = evaluate(knows_more, *data, 0, {}),
                     not_judged = evaluate(knows_none, *data, 0, {});
    CHECK(judged.top1 >= 0);
    const auto differences = paired_differences(judged, not_judged);
    CHECK(std::isnan(figure(differences, "top1").mean));
    CHECK(figure(differences, "top1").better == Better::neither);
    CHECK(std::isfinite(figure(differences, "rmse_ab").mean));
}

TEST_CASE("a model differs from itself by exactly nothing") {
    const auto data = open_dataset({"scenes:8:32"}, 2);
    Colorizer model = untrained(data->classes()), same = untrained(data->classes());
    const auto differences =
        paired_differences(evaluate(model, *data, 0, {}), evaluate(same, *data, 0, {}));
    CHECK(differences.size() == 9);  // all but the truth's colorfulness
    for (const Difference& difference : differences) {
        CAPTURE(difference.figure);
        CHECK(difference.mean == 0);
        CHECK(difference.interval.low == 0);
        CHECK(difference.interval.high == 0);
        CHECK(difference.better == Better::neither);
    }
}

TEST_CASE("a paired comparison sees what the separate intervals hide") {
    auto [a, b] = two_models(100);
    const auto differences = paired_differences(a, b);
    const Difference& rmse = figure(differences, "rmse_ab");
    CHECK(rmse.better == Better::b);
    CHECK(rmse.mean == doctest::Approx(-0.3).epsilon(0.2));
    const auto errors = [](const Evaluation& e) {
        std::vector<double> values;
        for (const PhotoQuality& photo : e.photos) values.push_back(photo.result.rmse_ab);
        return mean_of(std::move(values));
    };
    const Interval of_a = interval_of(errors(a)), of_b = interval_of(errors(b));
    CHECK(of_a.low < of_b.high);  // they overlap
    CHECK(rmse.interval.high - rmse.interval.low < 0.2 * (of_b.high - of_b.low));
    CHECK(figure(differences, "rmse_ab_share").better == Better::b);
    CHECK(figure(differences, "top1").better == Better::neither);
    CHECK(figure(paired_differences(b, a), "rmse_ab").better == Better::a);
    CHECK(figure(paired_differences(b, a), "rmse_ab").mean == -rmse.mean);

    // As far above the truth as below: different, yet neither is better.
    const Difference& colorful = figure(differences, "colorfulness");
    CHECK(colorful.mean == -10);
    CHECK(colorful.interval.high == -10);
    CHECK(colorful.better == Better::neither);
    for (PhotoQuality& photo : b.photos) photo.result.colorfulness = 38;
    CHECK(figure(paired_differences(a, b), "colorfulness").better == Better::b);
    CHECK(figure(paired_differences(a, b), "colorfulness_share").better == Better::b);

    b.photos.pop_back();
    CHECK_THROWS_AS(paired_differences(a, b), UsageError);
    b.photos.push_back(a.photos.front());
    CHECK_THROWS_AS(paired_differences(a, b), UsageError);
}

TEST_CASE("a sample sheet has a column for every model") {
    const auto data = open_dataset({"scenes:2:32"}, 2);
    Colorizer a = untrained({}), b = untrained({}, 2);
    Colorizer* const both[] = {&a, &b};
    const Image one = sample_sheet({both, 1}, *data, 0, 2, 2, 32, {}),
                two = sample_sheet(both, *data, 0, 2, 2, 32, {});
    CHECK(one.height == two.height);
    CHECK(two.width - one.width == 2 * (32 + 4));  // one more in each of two groups, with its gap
}
