#include "train/report/report.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <set>
#include <utility>

#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/report/chart.hpp"
#include "train/report/film_strip.hpp"
#include "train/report/html.hpp"
#include "train/report/style.hpp"
#include "train/report/tables.hpp"

namespace lumachrome {
namespace {

using Training = RunHistory::Training;
using Validation = RunHistory::Validation;
using Style = Curve::Style;

// ---- key figures -------------------------------------------------------------------------------

std::string tile(const std::string& name, const std::string& value, const std::string& small) {
    return "<div class=tile><span>" + name + "</span><b>" + value + "</b><small>" + small +
           "</small></div>\n";
}

std::string gain_over_gray(const Validation& v) {
    if (!(v.gray_rmse_ab > 0) || !std::isfinite(v.rmse_ab)) return "";
    const double gain = 1 - v.rmse_ab / v.gray_rmse_ab;
    return format_percent(std::abs(gain)) + (gain >= 0 ? " below" : " above") + " gray (" +
           format_fixed(v.gray_rmse_ab, 2) + ")";
}

std::string key_figures(const RunHistory& log) {
    const Training last = log.training.empty() ? Training{} : log.training.back();
    const RunHistory::Position now = log.position();
    std::string html = "<div class=tiles>\n";
    html += tile("Steps", format_count(now.step), "batches learned from");
    html += tile("Epochs", format_count(now.epoch), "times through all photos");
    html += tile("Training time", format_duration(now.seconds), "over all resumes");
    html += tile("Speed", format_figure(last.images_per_second) + " <em>photos/s</em>",
                 "at the last line of the log");
    if (log.validation.empty()) {
        html += tile("Colour loss", format_figure(last.color_loss), "on photos it learns from");
        html +=
            tile("Scenes told right", format_percent(last.top1), "of the photos it learns from");
        return html +
               "</div>\n<p class=note>No validation yet: how it does on photos it has never seen "
               "is not known.</p>\n";
    }
    const Validation& check = log.validation.back();
    const Validation* best = log.best();
    html += tile("Colour error, last", format_fixed(check.rmse_ab, 2), gain_over_gray(check));
    html += tile("Colour error, best", format_fixed(best ? best->rmse_ab : RunHistory::kNone, 2),
                 best ? "at step " + format_count(double(best->step)) : "");
    html += tile("Colourfulness", format_percent(check.colorfulness_share()),
                 "of what the true photos have");
    html += tile("Scenes told right", format_percent(check.top1), "of the validation photos");
    return html + "</div>\n";
}

// ---- film strip --------------------------------------------------------------------------------

std::string picture(const FilmStrip::Frame& frame) {
    return "<img width=" + std::to_string(frame.width) + " height=" + std::to_string(frame.height) +
           " alt=\"Sample photos after " + format_count(double(frame.step)) +
           " steps\" src=\"data:image/png;base64," + base64(frame.png) + "\">";
}

std::string film_strip(const std::string& run) {
    const FilmStrip strip = read_film_strip(run);
    if (strip.sheets == 0) return "";
    std::string html =
        "<h2>What it sees</h2>\n<p class=soft>The same validation photos at every check: gray "
        "(what "
        "the network gets), its colours, and the truth.</p>\n";
    if (!strip.newest.png.empty())
        html += "<figure class=\"card sheet\"><figcaption>After " +
                format_count(double(strip.newest.step)) + " steps, the newest of " +
                format_count(double(strip.sheets)) + (strip.sheets == 1 ? " sheet" : " sheets") +
                " in samples/</figcaption><div class=wide>" + picture(strip.newest) +
                "</div></figure>\n";
    if (!strip.frames.empty()) {
        html += "<div class=\"card strip wide\"><ol>";
        for (const FilmStrip::Frame& frame : strip.frames)
            html += "<li><span>step " + format_count(double(frame.step)) + "</span>" +
                    picture(frame) + "</li>\n";
        html +=
            "</ol></div>\n<p class=note>One row of the sheets over time, the one that changed the "
            "most: first come cautious browns, then the colours of large surfaces, then of "
            "objects.</p>\n";
    }
    if (strip.unreadable > 0)
        html += "<p class=note>" + format_count(double(strip.unreadable)) +
                " more could not be shown: damaged, too large, or of another layout.</p>\n";
    return html;
}

// ---- curves ------------------------------------------------------------------------------------

template <class Line, class Value>
std::vector<CurvePoint> points(const std::vector<Line>& lines, Value value) {
    std::vector<CurvePoint> all;
    for (const Line& line : lines) all.push_back({double(line.step), value(line)});
    return decimate(all, kMostCurvePoints);
}

// Collects curves of each run. With one run the colour tells training (blue) from validation
// (orange); with several it tells the runs, and validation has dots.
class Curves {
  public:
    explicit Curves(const std::vector<LoggedRun>& runs) : runs_(runs) {}

    template <class Value>
    Curves& training(Value value) {
        for (size_t i = 0; i < runs_.size(); ++i) {
            std::vector<CurvePoint> raw = points(runs_[i].log.training, value);
            std::vector<CurvePoint> mean = smooth(raw);
            if (single()) add(i, "", Style::faint, std::move(raw));
            add(i, kTraining, Style::line, std::move(mean));
        }
        return *this;
    }
    // Not averaged: a planned course has no noise, and its corners are real.
    template <class Value>
    Curves& schedule(Value value) {
        for (size_t i = 0; i < runs_.size(); ++i)
            add(i, kTraining, Style::line, points(runs_[i].log.training, value));
        return *this;
    }
    template <class Value>
    Curves& validation(Value value) {
        for (size_t i = 0; i < runs_.size(); ++i)
            add(i, kValidation, Style::marked, points(runs_[i].log.validation, value));
        return *this;
    }
    // A level to compare with, of the first run.
    template <class Value>
    Curves& baseline(const std::string& name, Value value) {
        constexpr int kGrayColor = 7;
        baselines_.push_back(
            {name, kGrayColor, Style::dashed, points(runs_[0].log.validation, value)});
        return *this;
    }
    std::vector<Curve> take() {
        // Among runs, the kind is named only where there are two.
        std::set<std::string> kinds;
        for (const Curve& curve : curves_)
            if (!curve.points.empty()) kinds.insert(curve.name);
        if (!single())
            for (size_t i = 0; i < curves_.size(); ++i) {
                const std::string& run = runs_[i % runs_.size()].name;
                curves_[i].name = kinds.size() > 1 ? run + ", " + curves_[i].name : run;
            }
        curves_.insert(curves_.end(), baselines_.begin(), baselines_.end());
        return std::move(curves_);
    }

  private:
    static constexpr const char *kTraining = "training", *kValidation = "validation";
    bool single() const { return runs_.size() == 1; }
    void add(size_t run, const char* kind, Style style, std::vector<CurvePoint> curve) {
        const int color = single() ? style == Style::marked : static_cast<int>(run);
        curves_.push_back({kind, color, style, std::move(curve)});
    }
    const std::vector<LoggedRun>& runs_;
    std::vector<Curve> curves_, baselines_;
};

std::vector<Chart> charts(const std::vector<LoggedRun>& runs) {
    using Scale = Chart::Scale;
    return {
        {"Colour loss",
         "mean squared error of ab",
         "How far predicted colours are from the true ones, in the units that training minimises. "
         "Training falls while validation rises: it learns photos by heart.",
         Scale::automatic,
         {},
         Curves(runs)
             .training([](auto& t) { return t.color_loss; })
             .validation([](auto& v) { return v.color_loss; })
             .take()},
        {"Colour error",
         "rmse_ab, Lab units",
         "Root mean square error of a and b on the validation crops. A model above the dashed "
         "line would do better to leave the photos gray.",
         Scale::linear,
         {},
         Curves(runs)
             .validation([](auto& v) { return v.rmse_ab; })
             .baseline("gray photos", [](auto& v) { return v.gray_rmse_ab; })
             .take()},
        {"Colourfulness",
         "Hasler and Süsstrunk",
         "How colourful the results are. Caution lowers the error but leaves sepia: a good model "
         "comes close to the dashed line of the true photos.",
         Scale::linear,
         {0},
         Curves(runs)
             .validation([](auto& v) { return v.colorfulness; })
             .baseline("true photos", [](auto& v) { return v.colorfulness_truth; })
             .take()},
        {"Scenes told right",
         "top-1 share",
         "How often the likeliest scene is the right one. Knowing the scene is what gives the "
         "global features their meaning.",
         Scale::linear,
         {0, 1},
         Curves(runs)
             .training([](auto& t) { return t.top1; })
             .validation([](auto& v) { return v.top1; })
             .take()},
        {"Scene loss",
         "cross-entropy, nats",
         "Surprise at the right scene; guessing among C scenes costs ln C. It counts in the total "
         "with the small weight alpha.",
         Scale::automatic,
         {},
         Curves(runs)
             .training([](auto& t) { return t.class_loss; })
             .validation([](auto& v) { return v.class_loss; })
             .take()},
        {"Gradient norm",
         "length over all weights",
         "Length of the gradient. Sudden peaks announce instability, a norm near zero a network "
         "that has stopped learning.",
         Scale::automatic,
         {},
         Curves(runs).training([](auto& t) { return t.gradient_norm; }).take()},
        {"Learning rate",
         "factor on each step",
         "How large a step the optimizer takes; a schedule starts it gently and lowers it towards "
         "the end.",
         Scale::linear,
         {0},
         Curves(runs).schedule([](auto& t) { return t.learning_rate; }).take()},
        {"Speed",
         "photos per second",
         "Training speed, reading and augmenting photos included. Dips are checkpoints, "
         "validations, or a busy machine.",
         Scale::linear,
         {0},
         Curves(runs).training([](auto& t) { return t.images_per_second; }).take()},
    };
}

std::string curves(const std::vector<LoggedRun>& runs) {
    std::string html;
    for (const Chart& chart : charts(runs)) html += draw(chart);
    if (html.empty()) return "";
    return "<h2>Curves</h2>\n<p class=soft>Faint lines are the logged values, strong ones their "
           "mean "
           "over neighbouring steps.</p>\n<div class=charts>\n" +
           html + "</div>\n";
}

// ---- the page ----------------------------------------------------------------------------------

std::string page(const std::vector<LoggedRun>& runs) {
    const LoggedRun& run = runs.front();
    std::string others;
    for (size_t i = 1; i < runs.size(); ++i)
        others += (i == 1 ? " against " : ", ") + escape_html(runs[i].name, kMostName);
    return "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
           "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n"
           "<meta http-equiv=Content-Security-Policy content=\"default-src 'none';img-src data:;"
           "style-src 'unsafe-inline';script-src 'unsafe-inline'\">\n<title>" +
           escape_html(run.name, kMostName) + others + " · lumachrome</title>\n<style>" +
           kReportStyle + "</style>\n</head>\n<body>\n<main>\n<h1>" +
           escape_html(run.name, kMostName) + others +
           "</h1>\n<p class=\"soft lead\">A network learns to colour: " +
           escape_html(run.path, kMostName) + "</p>\n" + key_figures(run.log) +
           comparison_table(runs) + film_strip(run.path) + curves(runs) +
           validation_table(run.log) + scene_bars(run.log.classes) + layer_table(run.log.layers) +
           option_list(run.path) +
           "<footer>Written by lumachrome from metrics.jsonl, samples/ and train.ini of the run.</"
           "footer>\n</main>\n<script>" +
           kReportScript + "</script>\n</body>\n</html>\n";
}

std::vector<LoggedRun> read_runs(const std::vector<std::string>& runs) {
    if (runs.empty() || runs.size() > size_t{kCurveColors})
        throw UsageError("report: " + std::to_string(runs.size()) + " runs; name 1 to " +
                         std::to_string(kCurveColors));
    std::vector<LoggedRun> read;
    for (const std::string& path : runs) {
        std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
        if (!folder.has_filename()) folder = folder.parent_path();
        std::string name = folder.filename().string();
        if (name.empty() || name == "." || name == "..") name = path;
        for (const LoggedRun& other : read)
            if (other.name == name) name = path;
        read.push_back({path, name, read_run_history(path)});
    }
    return read;
}

}  // namespace

std::string report_path(const std::string& run) {
    return run + "/report.html";
}

void write_report(const std::string& run) {
    write_report(std::vector<std::string>{run}, report_path(run));
}

void write_report(const std::vector<std::string>& runs, const std::string& out) {
    const std::string html = page(read_runs(runs));
    write_file_atomic(out, {reinterpret_cast<const uint8_t*>(html.data()), html.size()}, true);
}

std::vector<std::string> write_figures(const std::vector<std::string>& runs,
                                       const std::string& folder, bool overwrite) {
    std::vector<std::pair<std::string, std::string>> files;
    for (const Chart& chart : charts(read_runs(runs))) {
        std::string name = chart.title;
        for (char& c : name) c = c == ' ' ? '-' : static_cast<char>(std::tolower(c));
        std::string svg = draw_file(chart);
        if (!svg.empty()) files.emplace_back(folder + "/" + name + ".svg", std::move(svg));
    }
    std::vector<std::string> paths;
    for (const auto& [path, svg] : files) check_overwrite(path, overwrite);
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw ResourceError(folder + ": cannot create: " + error.message());
    for (const auto& [path, svg] : files) {
        write_file_atomic(path, {reinterpret_cast<const uint8_t*>(svg.data()), svg.size()},
                          overwrite);
        paths.push_back(path);
    }
    return paths;
}

}  // namespace lumachrome
