#include "tiles.hpp"

#include <algorithm>

namespace sparse {
namespace {

struct Place {
    int y, x, shape;
};

// A row from column x on, in ever shorter runs.
void fill_row(std::vector<Place> &places, int y, int x, int width, int registers, bool runs_only) {
    for (int run = runs_only ? kRuns - 2 : kRuns - 1; run >= 0; run--)
        while (kShapes[run].columns <= registers && width - x >= kShapes[run].columns) {
            places.push_back({y, x, run});
            x += kShapes[run].columns;
        }
}

std::vector<Place> cover(int shape, const Extent &e, int registers, bool runs_only) {
    const Shape s = kShapes[shape];
    std::vector<Place> places;
    int y = 0;
    for (; y + s.rows <= e.height; y += s.rows) {
        int x = 0;
        for (; x + s.columns <= e.width; x += s.columns) places.push_back({y, x, shape});
        for (int row = y; row < y + s.rows; row++) fill_row(places, row, x, e.width, registers, runs_only);
    }
    for (; y < e.height; y++) fill_row(places, y, 0, e.width, registers, runs_only);
    return places;
}

// The same rectangle of pixels in one block of images only.
int single(int shape) {
    for (int i = 0; i < kShapeCount; i++)
        if (kShapes[i].blocks == 1 && kShapes[i].rows == kShapes[shape].rows &&
            kShapes[i].columns == kShapes[shape].columns)
            return i;
    return 0;
}

}  // namespace

bool fits(int shape, const Extent &e, int registers, bool runs_only) {
    const Shape s = kShapes[shape];
    if (s.vectors() > registers || s.rows > e.height || s.columns > e.width) return false;
    if (runs_only && shape >= kRuns - 1) return false;
    return s.blocks == 1 || (s.blocks <= e.full() && e.height % s.rows == 0 && e.width % s.columns == 0);
}

Tiling tiled(int shape, const Extent &e, const Pitch &p, int registers, bool runs_only, int chunks) {
    // A smaller batch may have too few blocks for the shape that was chosen for the full one.
    if (!fits(shape, e, registers, runs_only)) shape = single(shape);
    Tiling found;
    const auto place = [&](int block, const std::vector<Place> &places) {
        for (const Place &at : places)
            found.tiles.push_back({p.in_first + block * p.in_block + at.y * p.in_row + at.x * p.in_pixel,
                                   p.out_first + block * p.out_block + at.y * p.out_row + at.x * p.out_pixel, at.shape,
                                   int(at.y * p.out_row + at.x * p.out_pixel)});
    };
    const int together = kShapes[shape].blocks;
    const auto many = cover(shape, e, registers, runs_only), one = cover(single(shape), e, registers, runs_only);
    int block = 0;
    for (; block + together <= e.full(); block += together) place(block, many);
    for (; block < e.full(); block++) place(block, one);
    const int whole = (int)found.tiles.size();
    for (; block < e.blocks; block++) place(block, one);

    const int count = (int)found.tiles.size(), size = std::max(1, (count + chunks - 1) / chunks);
    for (int begin = 0; begin < count;) {
        const int limit = begin < whole ? whole : count, end = std::min(limit, begin + size);
        long vectors = 0;
        for (int t = begin; t < end; t++) vectors += kShapes[found.tiles[t].shape].vectors();
        found.chunks.push_back({begin, end, begin < whole ? e.lanes : e.last, vectors});
        begin = end;
    }
    return found;
}

std::vector<Box> boxed(const Extent &e, const Pitch &p, int pixels) {
    const int area = e.height * e.width;
    const int together = std::max(1, std::min(e.blocks, pixels / area));
    const int rows = std::max(1, std::min(e.height, pixels / e.width));
    std::vector<Box> found;
    for (int b = 0; b < e.blocks; b += together)
        for (int y = 0; y < e.height; y += rows)
            found.push_back({p.in_first + b * p.in_block + y * p.in_row, p.out_first + b * p.out_block + y * p.out_row,
                             std::min(together, e.blocks - b), std::min(rows, e.height - y), e.width});
    return found;
}

}  // namespace sparse
