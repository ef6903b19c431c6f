#include "train/report/chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "train/report/html.hpp"

namespace lumachrome {
namespace {

// The picture's own units; the page scales it to the width it has.
constexpr double kWidth = 480, kHeight = 250;
constexpr double kLeft = 56, kRight = 22, kTop = 28, kBottom = 40;

template <class... A>
std::string text(const char* format, A... values) {
    char buffer[512];
    const int length = std::snprintf(buffer, sizeof buffer, format, values...);
    return std::string(buffer,
                       std::min(static_cast<size_t>(std::max(length, 0)), sizeof buffer - 1));
}

// 1, 2, 2.5 or 5 times a power of ten, for about `count` steps over the range.
double nice_step(double range, double count) {
    const double rough = range / count, power = std::pow(10, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 2.5, 5.0})
        if (rough <= factor * power * 1.0001) return factor * power;
    return 10 * power;
}

constexpr double kLeast = 1e-100, kMost = 1e100;  // beyond, sums and quotients overflow
constexpr double kLogarithmicRatio = 5;           // of the largest to the smallest value

bool drawable(const CurvePoint& p) {
    return std::isfinite(p.step) && std::abs(p.value) <= kMost;
}

struct Axis {
    double low = 0, high = 1;  // in logarithms if `logarithmic`
    bool logarithmic = false;
    std::vector<double> ticks;  // values

    double place(double value) const {  // 0..1
        return ((logarithmic ? std::log10(value) : value) - low) / (high - low);
    }
};

Axis linear_axis(double low, double high, double count) {
    // Equal values, but for rounding, get room around them.
    const double size = std::max(std::abs(low), std::abs(high));
    if (high - low <= 1e-9 * size || size < kLeast) {
        const double margin = size < kLeast ? 1 : size * 0.1;
        low -= margin;
        high += margin;
    }
    Axis axis;
    const double step = nice_step(high - low, count);
    axis.low = std::floor(low / step + 1e-6) * step;
    axis.high = std::ceil(high / step - 1e-6) * step;
    const auto ticks = std::llround((axis.high - axis.low) / step);
    for (int64_t i = 0; i <= ticks; ++i) {
        const double tick = axis.low + double(i) * step;
        axis.ticks.push_back(std::abs(tick) < step * 1e-6 ? 0 : tick);
    }
    return axis;
}

Axis logarithmic_axis(double low, double high) {
    Axis axis;
    axis.logarithmic = true;
    const double room = 0.02 * std::log10(high / low);
    axis.low = std::log10(low) - room;
    axis.high = std::log10(high) + room;
    // As dense as fits; many decades thin out further.
    const double decades = axis.high - axis.low;
    const std::vector<double> factors = decades < 1.2   ? std::vector<double>{1, 2, 3, 4, 5, 7}
                                        : decades < 1.8 ? std::vector<double>{1, 2, 5}
                                        : decades < 3.2 ? std::vector<double>{1, 3}
                                                        : std::vector<double>{1};
    const int every = std::max(1, static_cast<int>(std::ceil(decades / 7)));
    for (int power = static_cast<int>(std::floor(axis.low)); power <= axis.high; ++power)
        for (const double factor : factors) {
            const double tick = factor * std::pow(10, power), place = std::log10(tick);
            if (power % every == 0 && place >= axis.low && place <= axis.high)
                axis.ticks.push_back(tick);
        }
    return axis;
}

Axis value_axis(const Chart& chart) {
    double low = INFINITY, high = -INFINITY;
    const auto see = [&](double value) {
        low = std::min(low, value);
        high = std::max(high, value);
    };
    for (const Curve& curve : chart.curves)
        for (const CurvePoint& p : curve.points)
            if (drawable(p)) see(p.value);
    const bool logarithmic =
        low >= kLeast && chart.scale == Chart::Scale::automatic && high > kLogarithmicRatio * low;
    if (logarithmic) return logarithmic_axis(low, high);
    for (const double value : chart.include) see(value);
    return linear_axis(low, high, 5);
}

Axis step_axis(const Chart& chart) {
    double low = 0, high = 0;
    for (const Curve& curve : chart.curves)
        for (const CurvePoint& p : curve.points)
            if (drawable(p)) {
                low = std::min(low, p.step);
                high = std::max(high, p.step);
            }
    Axis axis = linear_axis(low, high, 5);
    if (high > low) axis.high = high;  // the curves end at the frame
    std::erase_if(axis.ticks, [&](double tick) { return tick > axis.high; });
    return axis;
}

std::string format_step(double step) {
    const double size = std::abs(step);
    if (size >= 1e9) return text("%.4gG", step / 1e9);
    if (size >= 1e6) return text("%.4gM", step / 1e6);
    if (size >= 1e4) return text("%.4gk", step / 1e3);
    return format_figure(step);
}

double x_of(const Axis& axis, double step) {
    return kLeft + axis.place(step) * (kWidth - kLeft - kRight);
}
double y_of(const Axis& axis, double value) {
    return kHeight - kBottom - axis.place(value) * (kHeight - kTop - kBottom);
}

std::string draw_axes(const Axis& x, const Axis& y, const std::string& unit) {
    std::string svg;
    for (const double tick : y.ticks) {
        const double at = y_of(y, tick);
        svg += text("<line class=\"grid\" x1=\"%g\" y1=\"%.1f\" x2=\"%g\" y2=\"%.1f\" />", kLeft,
                    at, kWidth - kRight, at);
        svg += text("<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">", kLeft - 7, at + 4) +
               format_figure(tick) + "</text>";
    }
    for (const double tick : x.ticks) {
        const double at = x_of(x, tick);
        svg += text("<line class=\"tick\" x1=\"%.1f\" y1=\"%g\" x2=\"%.1f\" y2=\"%g\" />", at,
                    kHeight - kBottom, at, kHeight - kBottom + 4);
        svg +=
            text("<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">", at, kHeight - kBottom + 17) +
            format_step(tick) + "</text>";
    }
    svg += text("<line class=\"axis\" x1=\"%g\" y1=\"%g\" x2=\"%g\" y2=\"%g\" />", kLeft,
                kHeight - kBottom, kWidth - kRight, kHeight - kBottom);
    svg += text("<text class=\"unit\" x=\"%g\" y=\"13\">", 2.0) + escape_html(unit) +
           (y.logarithmic ? ", logarithmic" : "") + "</text>";
    svg += text("<text class=\"unit\" x=\"%g\" y=\"%g\" text-anchor=\"end\">step</text>",
                kWidth - kRight, kHeight - 6);
    return svg;
}

const char* style_class(Curve::Style style) {
    switch (style) {
        case Curve::Style::faint:
            return " faint";
        case Curve::Style::dashed:
            return " dashed";
        case Curve::Style::marked:
            return " marked";
        case Curve::Style::line:
            break;
    }
    return "";
}

std::string draw_curve(const Curve& curve, const Axis& x, const Axis& y) {
    std::string places, marks;
    size_t count = 0;
    for (const CurvePoint& p : curve.points) {
        if (!drawable(p)) continue;
        const std::string place = text("%.1f,%.1f", x_of(x, p.step), y_of(y, p.value));
        if (count++ > 0) places += ' ';
        places += place;
        if (curve.style == Curve::Style::marked)
            marks += text("<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" />", curve.color,
                          x_of(x, p.step), y_of(y, p.value));
    }
    if (count == 0) return "";
    // One value has no line; the dot says where it is.
    if (count == 1 && marks.empty() && curve.style != Curve::Style::faint) {
        const size_t comma = places.find(',');
        marks = text("<circle class=\"c%d\" cx=\"%s\" cy=\"%s\" r=\"2.6\" />", curve.color,
                     places.substr(0, comma).c_str(), places.substr(comma + 1).c_str());
    }
    // Marks crowd when there are many; then the line is enough.
    constexpr size_t kMostMarks = 60;
    if (count > kMostMarks) marks.clear();
    return text("<polyline class=\"curve c%d%s\" data-name=\"", curve.color,
                style_class(curve.style)) +
           escape_html(curve.name) + "\" points=\"" + places + "\" />" + marks;
}

struct Plot {
    Axis x, y;
    std::string drawn;               // axes and curves, in the picture's own units
    std::vector<const Curve*> keys;  // of the legend
};

// Nothing drawn when no curve has a point.
Plot plot(const Chart& chart) {
    const bool any = std::any_of(chart.curves.begin(), chart.curves.end(), [](const Curve& c) {
        return std::any_of(c.points.begin(), c.points.end(), drawable);
    });
    if (!any) return {};
    Plot plot{.x = step_axis(chart), .y = value_axis(chart), .drawn = {}, .keys = {}};
    plot.drawn = draw_axes(plot.x, plot.y, chart.unit);
    for (const Curve& curve : chart.curves) {
        const std::string drawn = draw_curve(curve, plot.x, plot.y);
        plot.drawn += drawn;
        if (!drawn.empty() && !curve.name.empty()) plot.keys.push_back(&curve);
    }
    return plot;
}

// The page's light colours, written out: programs that are no browser know no variables.
constexpr const char* kFileStyle =
    "svg{background:#fff;font:11.5px system-ui,sans-serif}text{fill:#5d6670}"
    ".title{font-size:14px;font-weight:600;fill:#1c2126}.grid{stroke:#e2e3e0}"
    ".axis,.tick{stroke:#9ba1a7}.curve{fill:none;stroke-width:1.8;stroke-linejoin:round;"
    "stroke:currentColor}.faint{stroke-width:1;opacity:.28}.dashed{stroke-dasharray:5 4}"
    ".marked{stroke-width:1.5}circle{fill:currentColor}"
    ".c0{color:#2762b3}.c1{color:#cc5a1d}.c2{color:#2b8a5a}.c3{color:#8550b5}.c4{color:#a87b06}"
    ".c5{color:#0d8390}.c6{color:#b83a6f}.c7{color:#66707a}";

}  // namespace

std::string draw(const Chart& chart) {
    const Plot plot = lumachrome::plot(chart);
    if (plot.drawn.empty()) return "";
    std::string legend;
    for (const Curve* curve : plot.keys)
        legend +=
            text("<span><i class=\"key c%d%s\"></i>", curve->color, style_class(curve->style)) +
            escape_html(curve->name) + "</span>";
    // The script reads positions back into values.
    const std::string frame =
        text("data-box=\"%g %g %g %g\" data-x=\"%.9g %.9g\" data-y=\"%.9g %.9g\" data-log=%d",
             kLeft, kTop, kWidth - kRight, kHeight - kBottom, plot.x.low, plot.x.high, plot.y.low,
             plot.y.high, plot.y.logarithmic ? 1 : 0);
    return "<figure class=\"card chart\"><h3>" + escape_html(chart.title) +
           "</h3><div class=legend>" + legend + "</div><div class=plot>" +
           text("<svg viewBox=\"0 0 %g %g\" role=img aria-label=\"", kWidth, kHeight) +
           escape_html(chart.title) + " over steps\" " + frame + ">" + plot.drawn +
           "</svg></div><figcaption>" + escape_html(chart.caption) + "</figcaption></figure>\n";
}

std::string draw_file(const Chart& chart) {
    const Plot plot = lumachrome::plot(chart);
    if (plot.drawn.empty()) return "";
    constexpr double kMargin = 12, kKey = 16, kGap = 6, kLetter = 6.3, kLine = 18;
    double x = kMargin, y = 44;
    std::string legend;
    for (const Curve* curve : plot.keys) {
        const double width = kKey + kGap + kLetter * double(curve->name.size()) + kKey;
        if (x > kMargin && x + width > kWidth) x = kMargin, y += kLine;
        if (curve->style == Curve::Style::marked)
            legend += text("<circle class=\"c%d\" cx=\"%.1f\" cy=\"%g\" r=\"2.6\" />", curve->color,
                           x + kKey / 2, y - 4);
        legend += text("<polyline class=\"curve c%d%s\" points=\"%.1f,%g %.1f,%g\" />",
                       curve->color, style_class(curve->style), x, y - 4, x + kKey, y - 4) +
                  text("<text x=\"%.1f\" y=\"%g\">", x + kKey + kGap, y) +
                  escape_html(curve->name) + "</text>";
        x += width;
    }
    const double top = y + kMargin;
    return text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\">",
                kWidth, top + kHeight, kWidth) +
           "<title>" + escape_html(chart.title) + "</title><desc>" + escape_html(chart.caption) +
           "</desc><style>" + kFileStyle + "</style>" +
           text("<text class=\"title\" x=\"%g\" y=\"22\">", kMargin) + escape_html(chart.title) +
           "</text>" + legend + text("<g transform=\"translate(0 %g)\">", top) + plot.drawn +
           "</g></svg>\n";
}

std::vector<CurvePoint> decimate(const std::vector<CurvePoint>& points, size_t most) {
    std::vector<CurvePoint> kept;
    std::copy_if(points.begin(), points.end(), std::back_inserter(kept), drawable);
    if (kept.size() <= most) return kept;
    std::vector<CurvePoint> means(most, {0, 0});
    for (size_t bucket = 0; bucket < most; ++bucket) {
        const size_t begin = bucket * kept.size() / most, end = (bucket + 1) * kept.size() / most;
        for (size_t i = begin; i < end; ++i) {
            means[bucket].step += kept[i].step / double(end - begin);
            means[bucket].value += kept[i].value / double(end - begin);
        }
    }
    return means;
}

std::vector<CurvePoint> smooth(const std::vector<CurvePoint>& points) {
    const size_t count = points.size(), reach = count / 40;
    std::vector<CurvePoint> means = points;
    for (size_t i = 0; i < count; ++i) {
        const size_t before = std::min(reach, i);
        const size_t after = std::min({reach, i, count - 1 - i});
        double sum = 0;
        for (size_t j = i - before; j <= i + after; ++j) sum += points[j].value;
        means[i].value = sum / double(before + after + 1);
    }
    return means;
}

}  // namespace lumachrome
