// Fits a small grid of chroma to the edges of the photo that it belongs to. A network's chroma
// passes over edges by several of its cells: sky is brown beside a wall. Luma knows where the edge
// is. So every cell gets a line over luma,
//
//     ab(Y) = slope Y + offset          Y in 0..1, ab in Lab units
//
// and a pixel of the photo reads the lines of the cells around it, interpolated, at its own luma.
//
// First cell p takes the mean of the cells q within 4 rows and columns, weighted by likeness,
//
//     t = |q - p|^2 / (2 s^2) + (Y_q - Y_p)^2 / (2 l^2) + |ab_q - ab_p|^2 / (2 c^2)
//     w = max(0, 1 - t/8)^8             nearly exp(-t), made of products
//
// with s = 2, l = 0.05, c = 8: a colour that strayed over an edge is outvoted by its own side, and
// colours that stand sharply against each other stay apart. Then its line is laid through its luma
// and mean ab, slope = cov(Y, ab) / (var Y + 0.02) over 3x3 cells weighted 1 2 1 each way. Beyond
// the border lie copies of the border's cells. image/README.md compares it with others.
// Sources: Tomasi, Manduchi, "Bilateral filtering for gray and color images", 1998; for the line
// He, Sun, Tang, "Guided image filtering", 2010.
#pragma once

#include <vector>

#include "image/resize.hpp"

namespace lumachrome {

// Rows of cells as they come from top to bottom: the last ones, as planes of luma, a and b, each
// between copies of its ends.
class CellRows {
  public:
    static constexpr int64_t kMargin = 4;  // copies at each end

    CellRows(int64_t height, int64_t width);
    int64_t end() const { return end_; }
    // How many rows from the top have all of the `reach` rows around them.
    int64_t surrounded(int64_t reach) const;

    void append(int64_t count);  // to be filled through plane(), then copy_ends()
    void copy_ends(int64_t y);
    void drop_before(int64_t y);

    // [width]. A row beyond the picture is the one at its border.
    float* plane(int64_t y, int64_t channel);
    const float* plane(int64_t y, int64_t channel) const;

  private:
    int64_t height_, width_, begin_ = 0, end_ = 0;
    std::vector<float> planes_;
};

class ChromaLines {
  public:
    // Of a grid [height,width].
    ChromaLines(int64_t height, int64_t width);

    // The next rows of cells, ab [count,width,2] and luma [count,width]. Returns the rows of lines
    // that they complete, [.,width,4] (slope of a, of b, offset of a, of b), valid until the next
    // push; all are done after the last row. Rows in any portions give the same bits.
    RowSpan push(const Exec& exec, const float* ab, const float* luma, int64_t count);

  private:
    void average_like(int64_t y);
    void fit(int64_t y, float* lines) const;

    int64_t width_, done_ = 0;
    CellRows given_, averaged_;
    std::vector<float> lines_;
};

// lines [width,4] read at luma [width]: ab [width,2].
void read_lines(const float* lines, const float* luma, int64_t width, float* ab);

}  // namespace lumachrome
