// How a pass over a map is cut into tiles, and the tiles into jobs that threads may take in any order.
#pragma once
#include <vector>

#include "arguments.hpp"

namespace sparse {

// Maps of `height` x `width` pixels in `blocks` blocks of images, of which the last may be only partly filled.
struct Extent {
    int height, width;
    int blocks;
    int last;       // images in the last block
    int lanes;      // images in the others
    int full() const { return last == lanes ? blocks : blocks - 1; }
};

// Where a pass reads and writes (floats from one block, row and pixel to the next).
struct Pitch {
    long in_first, in_block, in_row, in_pixel;
    long out_first, out_block, out_row, out_pixel;
};

// Tiles [begin, end) lie in blocks with `images` images each; together they have `vectors` vectors of each channel.
struct Chunk {
    int begin, end;
    int images;
    long vectors;
};

struct Tiling {
    std::vector<Tile> tiles;
    std::vector<Chunk> chunks;
};

// The kinds of tile that fit a kernel: what it can hold, and whether it serves more than runs of eight pixels.
bool fits(int shape, const Extent &extent, int registers, bool runs_only);

// The chunks depend on the work alone, never on the number of threads, and so do all sums that are taken by chunk.
Tiling tiled(int shape, const Extent &extent, const Pitch &pitch, int registers, bool runs_only, int chunks);

// Boxes of about `pixels` pixels (of each image) for the near-dense weight gradient.
std::vector<Box> boxed(const Extent &extent, const Pitch &pitch, int pixels);

}  // namespace sparse
