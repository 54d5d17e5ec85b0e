// What the plan and the kernels of each instruction set exchange: plain structures, no functions. The kernels are
// compiled with instructions that a machine may not have, so nothing that a linker could share may be defined here.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sparse {

// Pixels that a kernel holds in registers at once: `blocks` blocks of images x `rows` x `columns`.
struct Shape {
    int blocks, rows, columns;
    constexpr int vectors() const { return blocks * rows * columns; }
};

constexpr Shape kShapes[] = {
    {1, 1, 1}, {1, 1, 2}, {1, 1, 4}, {1, 1, 8},  {1, 1, 16}, {1, 2, 2}, {1, 2, 4},
    {1, 2, 8}, {1, 4, 4}, {2, 1, 1}, {4, 1, 1},  {8, 1, 1},  {16, 1, 1}, {2, 2, 2}, {4, 2, 2},
};
constexpr int kShapeCount = sizeof kShapes / sizeof kShapes[0];
// The first shapes are runs of pixels in one row; they fill what a larger shape leaves over.
constexpr int kRuns = 5;

// How many output channels of the near-dense kernels share a list of taps.
constexpr int kQuad = 4;

// What an epilogue may keep for each channel and lane.
constexpr int kSums = 3;

// The lanes of a vector are images of a block, or neighbouring pixels of one image (its rows, borders between them, lie in
// one line). The latter's layout has a lane for each block, and its channels begin at multiples of so many floats.
constexpr int kPlaces = 16;

// One tile: where its first pixel lies in the input and in the output, and from its channel's first pixel, in floats.
struct Tile {
    long in, out;
    int shape, place;
};

// Taps by (block of input channels, row), a row being `width` neighbouring output channels that share a list.
struct TapLists {
    const int *start;     // [blocks * rows + 1]
    const int *row;       // [blocks * rows]: which row comes at this place
    const int *offset;    // [taps]: from a tile's first pixel, in floats
    const float *value;   // [taps * width]
    int blocks, rows, width, outputs;
};

// What a convolution does with finished sums. The backward ones apply the ReLU of the layer that produced the tensor
// and take the sums that its batch norm (dy and dy * (z - mean)) or its bias (dy) needs.
enum class Epilogue : int {
    kStore,
    kStatistics,      // store, and mean, squared deviations and pivot of every lane
    kAffine,          // scale * v + shift (+ residual), ReLU if asked
    kSlopeNorm,       // batch norm without ReLU
    kSlopeNormByZ,    // batch norm and ReLU, decided by scale * (z - mean) + shift
    kSlopeNormByA,    // batch norm, residual and ReLU, decided by the activation
    kSlopePlain,      // neither
    kSlopePlainByA,   // ReLU, decided by the activation
};

// Per-channel constants of a layer; a pointer that an epilogue does not name may be null.
struct Channel {
    const float *scale, *shift, *mean;
};

struct ConvArguments {
    const float *in;
    float *out;
    const float *z, *a;         // of the producer, laid out like `out`
    const float *residual;      // laid out like `out`
    const float *live;          // where lanes are pixels: 1 where a float of a channel is one, 0 in its border; else null
    Channel channel;
    const long *out_offset;     // [outputs]: of a channel from its tile's first pixel
    long in_block, out_block;   // floats from one block of images to the next
    long in_row, out_row;       // floats between neighbouring rows of a tile
    long in_pixel, out_pixel;   // floats between neighbouring pixels of a row
    TapLists lists;
    Epilogue epilogue;
    bool add;                   // start from what is in `out`
    bool relu;
};

// Weight gradient at the taps of `lists`; `gradient` has width floats for each tap.
struct WeightArguments {
    const float *in, *dz;
    const long *dz_offset;      // [outputs]
    long in_block, dz_block;
    long in_row, dz_row;
    long in_pixel, dz_pixel;
    TapLists lists;
};

// A box of pixels that the near-dense weight gradient sums over.
struct Box {
    long in, dz;
    int blocks, rows, columns;
};

// The passes of batch norm, bias, residual, ReLU and max-pooling over planes of one block of images.
struct PlaneArguments {
    const float *z;             // of the convolution
    float *a;                   // the layer's output
    float *g;                   // the gradient of its output
    float *dz;                  // the gradient of z
    const float *residual;
    Channel channel;            // forward: a = scale * (z - mean) + shift
    const float *c1, *c2, *c3;  // backward: dz = c1 * g + c2 * (z - mean) + c3; null c2: dz = g
    const float *live;          // one lane each: 1 where an image is
    int height, width;          // of z
    int out_height, out_width;  // of a
    long z_row, z_channel, z_block, z_first;
    long a_row, a_channel, a_block, a_first;
    bool relu, pool;
};

struct AverageArguments {
    const float *in;            // forward: the maps, backward: the gradient of the averages
    float *out;
    int height, width;
    long in_row, in_channel, in_first;      // of whichever is the map
    long narrow_first, narrow_channel;      // of the averages
    bool add;
};

// Max-pooling of any window; pixels beyond the edges are never the largest.
struct MaximumArguments {
    const float *in;            // the maps
    float *out;                 // their largest values
    const float *g;             // the gradient of those
    float *to;                  // the gradient of the maps
    int height, width, out_height, out_width;
    int kernel[2], stride[2], padding[2];
    long in_row, in_channel, in_first, out_row, out_channel, out_first;
    bool add;
};

struct Range {
    int begin, end;
};

// A map's pixels by their residues modulo the stride, each residue a map of its own. Where lanes are pixels, a strided
// convolution reads those: neighbours of a vector must be neighbours in memory.
struct SplitArguments {
    const float *in;
    float *out;
    int height, width;          // of the input
    int stride[2], rows, columns;   // and the most pixels of an output
    long in_row, in_channel;
    long out_row, out_channel;  // channels of the output: [input channel][row's residue][column's residue]
};

struct Kernels {
    int lanes;                  // images of a block
    int registers;              // vectors that a sparse tile may hold
    int quad_registers;         // pixels' vectors that a near-dense tile may hold
    int quad_taps;              // taps that the near-dense weight gradient takes at a time
    // `partial`: [kSums][outputs][lanes], for the epilogues that take sums.
    void (*convolve)(const ConvArguments &, const Tile *tiles, int count, Range rows, float *partial);
    void (*weight_gradient)(const WeightArguments &, const Tile *tiles, int count, Range rows, float *gradient);
    void (*weight_gradient_quad)(const WeightArguments &, const Box *boxes, int count, Range rows, float *gradient);
    void (*finish)(const PlaneArguments &, int block, Range channels);
    // The ReLU's share of a gradient in place, and its sums as the epilogues take them.
    void (*slope)(const PlaneArguments &, Epilogue, int block, Range channels, int channel_count, float *partial);
    void (*pool_sums)(const PlaneArguments &, int block, Range channels, int channel_count, float *partial);
    void (*unfinish)(const PlaneArguments &, int block, Range channels);
    void (*add)(const float *from, float *to, size_t count);
    void (*average)(const AverageArguments &, Range channels);
    void (*spread)(const AverageArguments &, Range channels);
    void (*maximum)(const MaximumArguments &, Range channels);
    void (*route)(const MaximumArguments &, Range channels);
    // The same where lanes are pixels, without a way back.
    void (*pool_pixels)(const PlaneArguments &, int block, Range channels);
    void (*average_pixels)(const AverageArguments &, Range channels);
    void (*maximum_pixels)(const MaximumArguments &, Range channels);
    void (*split)(const SplitArguments &, Range channels);
};

extern const Kernels kPlain;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

}  // namespace sparse
