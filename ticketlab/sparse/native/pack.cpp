// Images (N, C, H, W) into blocks of lanes, and back: transposes of small tiles, each read and written in whole lines.
#include <algorithm>
#include <cstring>

#if defined(SPARSE_X86)
#include <xmmintrin.h>
#endif

#include "net.hpp"
#include "threads.hpp"

namespace sparse {
namespace {

constexpr int kMostLanes = 64;
// Values of an image in one turn of a loop that threads share, and what is too little for more than one of them.
constexpr long kPiece = 256, kFew = 1 << 14;
// Neighbours in an image that one line of the cache holds.
constexpr long kLine = 16;

// to[j][i] = from[i][j] for four rows of four.
inline void transpose(const float *const from[4], float *const to[4]) {
#if defined(SPARSE_X86)
    __m128 a = _mm_loadu_ps(from[0]), b = _mm_loadu_ps(from[1]), c = _mm_loadu_ps(from[2]), d = _mm_loadu_ps(from[3]);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to[0], a), _mm_storeu_ps(to[1], b), _mm_storeu_ps(to[2], c), _mm_storeu_ps(to[3], d);
#else
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++) to[j][i] = from[i][j];
#endif
}

// Neighbours 0 ... length - 1 of so many images, from rows to lanes: packed[i * lanes + image] = images[image][i].
void to_lanes(const float *const *images, int lanes, long length, float *packed) {
    if (lanes == 1) {
        std::memcpy(packed, images[0], length * sizeof(float));
        return;
    }
    const int whole = lanes & ~3;
    for (long first = 0; first < length; first += kLine) {
        const long end = std::min(length, first + kLine);
        // Four images at a time: more lines would drive each other out of the cache where images lie a power of two apart.
        for (int lane = 0; lane < whole; lane += 4) {
            const float *const *of = images + lane;
            long i = first;
            for (; i + 4 <= end; i += 4) {
                const float *const from[4] = {of[0] + i, of[1] + i, of[2] + i, of[3] + i};
                float *at = packed + i * lanes + lane;
                float *const to[4] = {at, at + lanes, at + 2 * lanes, at + 3 * lanes};
                transpose(from, to);
            }
            for (; i < end; i++)
                for (int k = 0; k < 4; k++) packed[i * lanes + lane + k] = of[k][i];
        }
        for (int lane = whole; lane < lanes; lane++)
            for (long i = first; i < end; i++) packed[i * lanes + lane] = images[lane][i];
    }
}

// The way back, for the first `count` lanes.
void from_lanes(const float *packed, int lanes, int count, long length, float *const *images) {
    if (lanes == 1) {
        std::memcpy(images[0], packed, length * sizeof(float));
        return;
    }
    const int whole = count & ~3;
    for (long first = 0; first < length; first += kLine) {
        const long end = std::min(length, first + kLine);
        for (int lane = 0; lane < whole; lane += 4) {
            float *const *of = images + lane;
            long i = first;
            for (; i + 4 <= end; i += 4) {
                const float *at = packed + i * lanes + lane;
                const float *const from[4] = {at, at + lanes, at + 2 * lanes, at + 3 * lanes};
                float *const to[4] = {of[0] + i, of[1] + i, of[2] + i, of[3] + i};
                transpose(from, to);
            }
            for (; i < end; i++)
                for (int k = 0; k < 4; k++) of[k][i] = packed[i * lanes + lane + k];
        }
        for (int lane = whole; lane < count; lane++)
            for (long i = first; i < end; i++) images[lane][i] = packed[i * lanes + lane];
    }
}

// work(block, place in the image, place in the block, length) for every stretch of values that lie side by side in an
// image and, lane by lane, in a block.
template <typename Work>
void each_stretch(const Geometry &g, int images, int threads, const Work &work) {
    const int blocks = (images + g.lanes - 1) / g.lanes;
    const long plane = (long)g.height * g.width, all = g.channels * plane;
    const int used = images * all < kFew ? 1 : threads;
    if (g.channel() == plane * g.lanes) {
        // Nothing lies between rows or channels.
        const int pieces = (int)((all + kPiece - 1) / kPiece);
        parallel(used, blocks * pieces, [&](int turn) {
            const long first = turn % pieces * kPiece;
            work(turn / pieces, first, first * g.lanes, std::min(kPiece, all - first));
        });
        return;
    }
    parallel(used, blocks * g.channels, [&](int turn) {
        const int c = turn % g.channels;
        for (int y = 0; y < g.height; y++)
            work(turn / g.channels, c * plane + (long)y * g.width, g.first() + c * g.channel() + y * g.row(), (long)g.width);
    });
}

}  // namespace

// Lanes without an image repeat the block's first one: what they hold is then as finite as what others hold, and their
// zero gradients count nowhere.
void Net::pack(const float *x) {
    const Geometry &g = tensors[0].geometry;
    const long size = (long)g.channels * g.height * g.width;
    float *to = tensors[0].a.data();
    each_stretch(g, images_, threads, [&](int block, long place, long packed, long length) {
        const float *images[kMostLanes];
        const int count = std::min(g.lanes, images_ - block * g.lanes);
        for (int lane = 0; lane < g.lanes; lane++)
            images[lane] = x + ((long)block * g.lanes + (lane < count ? lane : 0)) * size + place;
        to_lanes(images, g.lanes, length, to + block * g.block() + packed);
    });
}

void Net::unpack(int number, bool of_gradient, int images, float *to) const {
    check_built(true);
    if (images != images_ || !has_activations_)
        throw Refused("asked for what " + std::to_string(images) + " inputs gave, got no such pass before it");
    const Tensor &t = this->tensor(number);
    // Other tensors' gradients share their memory with later ones.
    if (of_gradient && (!has_gradients_ || !t.wanted || number != 0))
        throw Refused("asked for an input gradient, got no way back before it that kept one");
    const Geometry &g = t.geometry;
    const long size = (long)g.channels * g.height * g.width;
    const float *from = of_gradient ? gradient(number) : t.a.data();
    each_stretch(g, images_, threads, [&](int block, long place, long packed, long length) {
        float *rows[kMostLanes];
        const int count = std::min(g.lanes, images_ - block * g.lanes);
        for (int lane = 0; lane < count; lane++) rows[lane] = to + ((long)block * g.lanes + lane) * size + place;
        from_lanes(from + block * g.block() + packed, g.lanes, count, length, rows);
    });
}

}  // namespace sparse
