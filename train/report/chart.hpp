// Curves as SVG, inside pages that must work without anything else, or as files. Colours, fonts and
// the read-out under the pointer come from the style and script of the page (style.hpp); without
// the script the picture is the same.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace lumachrome {

inline constexpr int kCurveColors = 8;           // classes c0..c7 of the page's style
inline constexpr size_t kMostCurvePoints = 600;  // more than a screen shows

struct CurvePoint {
    double step, value;
};

struct Curve {
    enum class Style { line, faint, dashed, marked };
    std::string name;  // in the legend; empty: not there
    int color = 0;     // 0..kCurveColors-1
    Style style = Style::line;
    std::vector<CurvePoint> points;  // by step; NaN and what is beyond 1e100 is not drawn
};

struct Chart {
    // automatic: logarithmic when positive values differ by more than a factor of 5.
    enum class Scale { linear, automatic };
    std::string title, unit, caption;
    Scale scale = Scale::linear;
    std::vector<double> include;  // values that the axis must show, e.g. 0 and 1 for shares
    std::vector<Curve> curves;
};

// A <figure>. Empty when no curve has a point.
std::string draw(const Chart& chart);
// The same as an SVG file of its own, with its title and legend inside.
std::string draw_file(const Chart& chart);

// Averages of equally long runs of points, so that at most `most` remain.
std::vector<CurvePoint> decimate(const std::vector<CurvePoint>& points, size_t most);

// The mean of each point and its neighbours. The first point stays put, since curves start steep;
// near the end, where neighbours to the right run out, those to the left remain.
std::vector<CurvePoint> smooth(const std::vector<CurvePoint>& points);

}  // namespace lumachrome
