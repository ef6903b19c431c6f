#include "train/report/tables.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/report/html.hpp"

namespace lumachrome {
namespace {

using Training = RunHistory::Training;
using Validation = RunHistory::Validation;

constexpr int64_t kMostOptionBytes = 256 << 10;

// A bar from `from` to `to` of its track (0..1).
std::string bar(double from, double to) {
    return "<span class=bar><i style=\"left:" + format_fixed(from * 100, 1) +
           "%;width:" + format_fixed(std::max(to - from, 0.0) * 100, 1) + "%\"></i></span>";
}

std::string bar_cell(double value, double from, double to, const std::string& shown) {
    if (!std::isfinite(value)) from = to = 0;
    return "<td><div>" + bar(from, to) + "<span>" + shown + "</span></div></td>";
}

std::string class_list(const std::vector<RunHistory::Class>& classes, size_t begin, size_t end) {
    std::string html = "<div class=\"card classes\">\n";
    for (size_t i = begin; i < end; ++i) {
        const RunHistory::Class& c = classes[i];
        const double share = std::isfinite(c.top1) ? std::clamp(c.top1, 0.0, 1.0) : 0;
        html += "<div class=class><span class=name>" + escape_html(c.label, kMostName) + "</span>" +
                bar(0, share) + "<small>" + format_percent(c.top1) + " of " +
                format_count(c.images) + "</small></div>\n";
    }
    return html + "</div>\n";
}

}  // namespace

std::string comparison_table(const std::vector<LoggedRun>& runs) {
    if (runs.size() < 2) return "";
    std::string html =
        "<h2>Runs side by side</h2>\n<p class=soft>Last and best figures of each; best is the "
        "validation with the smallest colour error.</p>\n<div class=\"card "
        "wide\"><table><thead><tr>"
        "<th>Run</th><th>steps</th><th>time</th><th>training<br>colour loss</th><th>colour "
        "error<br>"
        "last</th><th>colour error<br>best</th><th>at step</th><th>colourfulness<br>of "
        "truth</th><th>"
        "scenes<br>told right</th></tr></thead><tbody>\n";
    for (size_t i = 0; i < runs.size(); ++i) {
        const RunHistory& log = runs[i].log;
        const Training last = log.training.empty() ? Training{} : log.training.back();
        const Validation check = log.validation.empty() ? Validation{} : log.validation.back();
        const Validation* best = log.best();
        html += "<tr><th><i class=\"key c" + std::to_string(i) + "\"></i>" +
                escape_html(runs[i].name, kMostName) + "</th>";
        const RunHistory::Position now = log.position();
        for (const std::string& cell :
             {format_count(now.step), format_duration(now.seconds), format_figure(last.color_loss),
              format_fixed(check.rmse_ab, 2),
              best ? format_fixed(best->rmse_ab, 2) : std::string("–"),
              best ? format_count(double(best->step)) : std::string("–"),
              format_percent(check.colorfulness_share()), format_percent(check.top1)})
            html += "<td>" + cell + "</td>";
        html += "</tr>\n";
    }
    return html + "</tbody></table></div>\n";
}

std::string validation_table(const RunHistory& log) {
    if (log.validation.empty()) return "";
    const Validation& last = log.validation.back();
    const double learned =
        log.training.empty() ? RunHistory::kNone : log.training.back().color_loss;
    const Validation* found = log.best();
    const Validation& best = found ? *found : last;
    std::string html = "<h2>Latest validation</h2>\n<p class=soft>On " + format_count(last.images) +
                       " photos it has never learned from, after " +
                       format_count(double(last.step)) +
                       " steps.</p>\n<div class=\"card wide\"><table><thead><tr><th>Figure</th><th>"
                       "last</th><th>best (step " +
                       format_count(double(best.step)) +
                       ")</th><th>compare with</th><th></th></tr></thead><tbody>\n";
    const auto row = [&](const char* name, auto show, double Validation::*member,
                         const std::string& compare, const char* meaning) {
        html += std::string("<tr><th>") + name + "</th><td>" + show(last.*member) + "</td><td>" +
                show(best.*member) + "</td><td>" + compare + "</td><td class=text>" + meaning +
                "</td></tr>\n";
    };
    const auto two = [](double value) { return format_fixed(value, 2); };
    row("rmse_ab", two, &Validation::rmse_ab, "gray " + two(last.gray_rmse_ab),
        "Error of the colours a and b in Lab units; smaller is better.");
    row("psnr_rgb", two, &Validation::psnr_rgb, "",
        "Likeness of the whole picture to the truth in dB; larger is better.");
    row("delta_e2000_mean", two, &Validation::delta_e2000_mean, "1: barely visible",
        "Mean colour difference as people see it; smaller is better.");
    row("colorfulness", two, &Validation::colorfulness, "truth " + two(last.colorfulness_truth),
        "Far below the truth means sepia, far above means gaudy.");
    row("near_gray_fraction", format_percent, &Validation::near_gray_fraction, "0&thinsp;%",
        "Share of results with hardly any colour.");
    row("top1", format_percent, &Validation::top1, "100&thinsp;%",
        "Share of labelled photos whose scene is told right.");
    row("color_loss", format_figure, &Validation::color_loss, "training " + format_figure(learned),
        "What training minimises, here on unseen photos.");
    return html + "</tbody></table></div>\n";
}

std::string scene_bars(std::vector<RunHistory::Class> classes) {
    if (classes.empty()) return "";
    const auto rank = [](const RunHistory::Class& c) {
        return std::isfinite(c.top1) ? c.top1 : -1;
    };
    std::stable_sort(classes.begin(), classes.end(),
                     [&](const auto& a, const auto& b) { return rank(a) > rank(b); });
    std::string html =
        "<h2>Scenes</h2>\n<p class=soft>Share of each scene's validation photos that were told "
        "right, "
        "best first. Few photos make coarse shares.</p>\n";
    constexpr size_t kShown = 36, kEnds = 12;
    if (classes.size() <= kShown) return html + class_list(classes, 0, classes.size());
    return html + "<p class=note>The " + std::to_string(kEnds) + " best known</p>\n" +
           class_list(classes, 0, kEnds) + "<p class=note></p><p class=note>The " +
           std::to_string(kEnds) + " least known</p>\n" +
           class_list(classes, classes.size() - kEnds, classes.size()) + "<details><summary>All " +
           std::to_string(classes.size()) + " scenes</summary>\n" +
           class_list(classes, 0, classes.size()) + "</details>\n";
}

std::string layer_table(const std::vector<RunHistory::Layer>& rows) {
    if (rows.empty()) return "";
    using Layer = RunHistory::Layer;
    // Smallest and largest positive magnitude of a column.
    const auto range = [&](double Layer::*member) {
        std::pair<double, double> ends{INFINITY, 0};
        for (const Layer& row : rows) {
            const double size = std::abs(row.*member);
            if (!std::isfinite(size) || size == 0) continue;
            ends = {std::min(ends.first, size), std::max(ends.second, size)};
        }
        return ends;
    };
    const auto linear = [](double value, std::pair<double, double> ends) {
        return ends.second > 0 ? std::clamp(value / ends.second, 0.0, 1.0) : 0;
    };
    // Weights and gradients span orders of magnitude: from a tenth of the smallest to the largest.
    const auto logarithmic = [](double value, std::pair<double, double> ends) {
        if (!(value > 0) || !(ends.second > 0)) return 0.0;
        return std::log10(value / ends.first * 10) / std::log10(ends.second / ends.first * 10);
    };
    const auto mean = range(&Layer::activation_mean), std = range(&Layer::activation_std),
               weight = range(&Layer::weight_rms), gradient = range(&Layer::gradient_rms);
    std::string html =
        "<h2>Layers</h2>\n<p class=soft>At the last validation. Activations that are almost all "
        "zero "
        "are dead units; gradients that shrink by orders of magnitude towards the input vanish, "
        "ones "
        "that grow explode.</p>\n<div class=\"card wide\"><table "
        "class=bars><thead><tr><th>Layer</th>"
        "<th>activation<br>mean</th><th>activation<br>spread (std)</th><th>activation<br>share of "
        "zeros</th><th>weights<br>rms, log bar</th><th>gradient<br>rms, log bar</th></tr></thead>"
        "<tbody>\n";
    for (const Layer& row : rows) {
        // The mean grows left or right of the middle.
        const double middle = mean.second > 0 ? row.activation_mean / mean.second / 2 : 0;
        html += "<tr><th>" + escape_html(row.name, kMostName) + "</th>" +
                bar_cell(row.activation_mean, 0.5 + std::min(middle, 0.0),
                         0.5 + std::max(middle, 0.0), format_figure(row.activation_mean)) +
                bar_cell(row.activation_std, 0, linear(row.activation_std, std),
                         format_figure(row.activation_std)) +
                bar_cell(row.activation_zero, 0, std::clamp(row.activation_zero, 0.0, 1.0),
                         format_percent(row.activation_zero)) +
                bar_cell(row.weight_rms, 0, logarithmic(row.weight_rms, weight),
                         format_figure(row.weight_rms)) +
                bar_cell(row.gradient_rms, 0, logarithmic(row.gradient_rms, gradient),
                         format_figure(row.gradient_rms)) +
                "</tr>\n";
    }
    return html + "</tbody></table></div>\n";
}

std::string option_list(const std::string& run) {
    const std::string path = run + "/train.ini";
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return "";
    std::vector<uint8_t> bytes;
    try {
        bytes = read_file(path, kMostOptionBytes);
    } catch (const InputError& e) {
        return "<h2>Options</h2>\n<p class=note>" + escape_html(e.what()) + "</p>\n";
    }
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::string html =
        "<h2>Options</h2>\n<p class=soft>What the run was started with; train.ini in its folder "
        "gives "
        "them to --config.</p>\n<dl class=card>\n";
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const size_t equals = line.find('=');
        if (equals == std::string_view::npos || line.starts_with('#') || line.starts_with(';'))
            continue;
        std::string_view value = line.substr(equals + 1);
        if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
            value = value.substr(1, value.size() - 2);
        html += "<div><dt>" + escape_html(line.substr(0, equals)) + "</dt><dd>" +
                escape_html(value) + "</dd></div>\n";
    }
    return html + "</dl>\n";
}

}  // namespace lumachrome
