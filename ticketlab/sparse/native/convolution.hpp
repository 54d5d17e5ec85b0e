// Convolution over lists of taps: the forward pass and, with the lists turned round, the input gradient.
//
// The lanes of a vector are images, so a tap of any pattern is `sum += weight * input[offset]` on whole vectors:
// no gathers, no im2col, no lane wasted. A tile of pixels stays in registers while a channel's taps run over it.
// For few images lanes are neighbouring pixels instead: the same loops, on vectors that begin at any float.
#pragma once
#include "simd.hpp"

namespace sparse {
namespace {

// Sums over the vectors of a tile, as a chunk of tiles gathers them in memory.
struct Sums {
    float *first, *second, *third;  // [lanes] each
    float before;                   // vectors of the chunk that were summed before this tile
    const float *live;              // of the tile's first vector, or null
};

// Mean and squared deviations of a tile, joined to the chunk's (Chan, Golub & LeVeque 1979). Sums of squares would
// lose the digits of a channel that hardly varies, and so would its mean as a float: it is counted from the chunk's
// first values. A pivot from an earlier step would do as well, but results would depend on that step.
template <int N>
INLINE void gather_deviations(const V *v, const Sums &sums) {
    const V pivot = sums.before > 0 ? load(sums.third) : v[0];
    V total = v[0] - pivot;
    UNROLL for (int i = 1; i < N; i++) total = total + (v[i] - pivot);
    V mean = total * all(1.0f / N), squares = zero();
    UNROLL for (int i = 0; i < N; i++) {
        const V d = (v[i] - pivot) - mean;
        squares = fma(d, d, squares);
    }
    if (sums.before > 0) {
        const float share = N / (sums.before + N);
        const V known = load(sums.first), step = mean - known;
        mean = fma(step, all(share), known);
        squares = fma(step * step, all(sums.before * share), squares + load(sums.second));
    }
    store(sums.first, mean);
    store(sums.second, squares);
    store(sums.third, pivot);
}

INLINE void gather(const Sums &sums, V first, V second) {
    if (sums.before > 0) {
        first = first + load(sums.first);
        second = second + load(sums.second);
    }
    store(sums.first, first);
    store(sums.second, second);
}

// A gradient through the ReLU before it, and its share of the sums.
template <Epilogue E>
INLINE V slope(V v, const float *z, long z_at, const float *a, long a_at, const Channel &channel, int c, V &first,
               V &second) {
    constexpr bool norm = E == Epilogue::kSlopeNorm || E == Epilogue::kSlopeNormByZ || E == Epilogue::kSlopeNormByA;
    constexpr bool by_a = E == Epilogue::kSlopeNormByA || E == Epilogue::kSlopePlainByA;
    V centred = zero();
    if constexpr (norm) centred = load(z + z_at) - all(channel.mean[c]);
    if constexpr (E == Epilogue::kSlopeNormByZ)
        v = where_active(fma(all(channel.scale[c]), centred, all(channel.shift[c])), v);
    if constexpr (by_a) v = where_active(load(a + a_at), v);
    first = first + v;
    if constexpr (norm) second = fma(v, centred, second);
    return v;
}

template <Epilogue E, int NB, int TY, int TX>
INLINE void finish_tile(const ConvArguments &A, const V *v, long at, int c, const Sums &sums) {
    constexpr int N = NB * TY * TX;
    V first = zero(), second = zero();
    UNROLL for (int n = 0; n < NB; n++) UNROLL for (int y = 0; y < TY; y++) UNROLL for (int x = 0; x < TX; x++) {
        const long o = at + n * A.out_block + y * A.out_row + x * A.out_pixel;
        V r = v[(n * TY + y) * TX + x];
        if constexpr (E == Epilogue::kAffine) {
            r = fma(all(A.channel.scale[c]), r, all(A.channel.shift[c]));
            if (A.residual) r = r + load(A.residual + o);
            if (A.relu) r = relu(r);
            // Lanes are pixels of one row: what fell on a border must be zero again.
            if (sums.live) r = where_active(load(sums.live + x * kLanes), r);
        } else if constexpr (E != Epilogue::kStore && E != Epilogue::kStatistics) {
            r = slope<E>(r, A.z, o, A.a, o, A.channel, c, first, second);
        }
        store(A.out + o, r);
    }
    if constexpr (E == Epilogue::kStatistics)
        gather_deviations<N>(v, sums);
    else if constexpr (E != Epilogue::kStore && E != Epilogue::kAffine)
        gather(sums, first, second);
}

template <int NB, int TY, int TX>
INLINE void finish_tile(const ConvArguments &A, const V *v, long at, int c, const Sums &sums) {
    switch (A.epilogue) {
        case Epilogue::kStore: return finish_tile<Epilogue::kStore, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kStatistics: return finish_tile<Epilogue::kStatistics, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kAffine: return finish_tile<Epilogue::kAffine, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kSlopeNorm: return finish_tile<Epilogue::kSlopeNorm, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kSlopeNormByZ: return finish_tile<Epilogue::kSlopeNormByZ, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kSlopeNormByA: return finish_tile<Epilogue::kSlopeNormByA, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kSlopePlain: return finish_tile<Epilogue::kSlopePlain, NB, TY, TX>(A, v, at, c, sums);
        case Epilogue::kSlopePlainByA: return finish_tile<Epilogue::kSlopePlainByA, NB, TY, TX>(A, v, at, c, sums);
    }
}

// The epilogue touches other planes than the taps do: ask for its lines a few channels ahead.
template <int NB, int TY, int TX>
INLINE void prefetch_tile(const ConvArguments &A, long at) {
    UNROLL for (int n = 0; n < NB; n++) UNROLL for (int y = 0; y < TY; y++) UNROLL for (int x = 0; x < TX; x++) {
        const long o = at + n * A.out_block + y * A.out_row + x * A.out_pixel;
        __builtin_prefetch(A.out + o, 1, 3);
        if (A.z) __builtin_prefetch(A.z + o, 0, 3);
        if (A.a) __builtin_prefetch(A.a + o, 0, 3);
        if (A.residual) __builtin_prefetch(A.residual + o, 0, 3);
    }
}

constexpr int kAhead = 4;

// Q channels share each list. S is the distance of neighbouring pixels of the input in vectors, 0 if only the
// arguments tell.
template <int Q, int NB, int TY, int TX, int S>
void convolve_tile(const ConvArguments &A, const Tile &tile, Range rows, float *partial, float before) {
    constexpr int N = NB * TY * TX;
    const TapLists &T = A.lists;
    const long pixel = S ? S * kLanes : A.in_pixel, to_block = A.in_block - TY * A.in_row;
    const float *in = A.in + tile.in;
    for (int b = 0; b < T.blocks; b++) {
        const int *start = T.start + (long)b * T.rows, *order = T.row + (long)b * T.rows;
        const bool first = b == 0, last = b == T.blocks - 1;
        for (int j = rows.begin; j < rows.end; j++) {
            int k = start[j];
            const int end = start[j + 1];
            if (k == end && !last && (!first || A.add)) continue;
            const int c = order[j] * Q;
            if (last) {
                const int ahead = order[j + kAhead < rows.end ? j + kAhead : rows.end - 1] * Q;
                prefetch_tile<NB, TY, TX>(A, tile.out + A.out_offset[ahead]);
            }
            V sum[Q][N];
            UNROLL for (int q = 0; q < Q; q++) {
                // The last row of a near-dense list may have fewer than Q channels; the others are sums of zeros.
                if ((first && !A.add) || c + q >= T.outputs) {
                    UNROLL for (int i = 0; i < N; i++) sum[q][i] = zero();
                } else {
                    const float *out = A.out + tile.out + A.out_offset[c + q];
                    UNROLL for (int n = 0; n < NB; n++) UNROLL for (int y = 0; y < TY; y++)
                        UNROLL for (int x = 0; x < TX; x++)
                            sum[q][(n * TY + y) * TX + x] = load(out + n * A.out_block + y * A.out_row + x * A.out_pixel);
                }
            }
            for (; k < end; k++) {
                const float *p = in + T.offset[k];
                V w[Q];
                UNROLL for (int q = 0; q < Q; q++) w[q] = all(T.value[k * Q + q]);
                UNROLL for (int n = 0; n < NB; n++, p = next(p, to_block))
                    UNROLL for (int y = 0; y < TY; y++, p = next(p, A.in_row)) UNROLL for (int x = 0; x < TX; x++) {
                        const V v = load_unaligned(p + x * pixel);
                        UNROLL for (int q = 0; q < Q; q++)
                            sum[q][(n * TY + y) * TX + x] = fma(w[q], v, sum[q][(n * TY + y) * TX + x]);
                    }
            }
            UNROLL for (int q = 0; q < Q; q++) {
                if (c + q >= T.outputs) break;
                const long at = tile.out + A.out_offset[c + q];
                if (last) {
                    const long each = (long)T.outputs * kLanes;
                    float *mine = partial + (long)(c + q) * kLanes;
                    const float *live = A.live ? A.live + tile.place : nullptr;
                    const Sums sums = {mine, mine + each, mine + 2 * each, before, live};
                    finish_tile<NB, TY, TX>(A, sum[q], at, c + q, sums);
                } else {
                    UNROLL for (int n = 0; n < NB; n++) UNROLL for (int y = 0; y < TY; y++)
                        UNROLL for (int x = 0; x < TX; x++)
                            store(A.out + at + n * A.out_block + y * A.out_row + x * A.out_pixel,
                                  sum[q][(n * TY + y) * TX + x]);
                }
            }
        }
    }
}

template <int Q, int I, int S>
INLINE void convolve_shape(const ConvArguments &A, const Tile &tile, Range rows, float *partial, float before) {
    constexpr Shape shape = kShapes[I];
    // Unusual strides are served by the runs of up to eight pixels alone.
    if constexpr (shape.vectors() <= (Q == 1 ? kRegisters : kQuadRegisters) && (S != 0 || I < 4))
        convolve_tile<Q, shape.blocks, shape.rows, shape.columns, S>(A, tile, rows, partial, before);
}

template <int Q, int S>
void convolve_tiles(const ConvArguments &A, const Tile *tiles, int count, Range rows, float *partial) {
    float before = 0;
    for (int t = 0; t < count; t++) {
        const Tile &tile = tiles[t];
        switch (tile.shape) {
            case 0: convolve_shape<Q, 0, S>(A, tile, rows, partial, before); break;
            case 1: convolve_shape<Q, 1, S>(A, tile, rows, partial, before); break;
            case 2: convolve_shape<Q, 2, S>(A, tile, rows, partial, before); break;
            case 3: convolve_shape<Q, 3, S>(A, tile, rows, partial, before); break;
            case 4: convolve_shape<Q, 4, S>(A, tile, rows, partial, before); break;
            case 5: convolve_shape<Q, 5, S>(A, tile, rows, partial, before); break;
            case 6: convolve_shape<Q, 6, S>(A, tile, rows, partial, before); break;
            case 7: convolve_shape<Q, 7, S>(A, tile, rows, partial, before); break;
            case 8: convolve_shape<Q, 8, S>(A, tile, rows, partial, before); break;
            case 9: convolve_shape<Q, 9, S>(A, tile, rows, partial, before); break;
            case 10: convolve_shape<Q, 10, S>(A, tile, rows, partial, before); break;
            case 11: convolve_shape<Q, 11, S>(A, tile, rows, partial, before); break;
            case 12: convolve_shape<Q, 12, S>(A, tile, rows, partial, before); break;
            case 13: convolve_shape<Q, 13, S>(A, tile, rows, partial, before); break;
            case 14: convolve_shape<Q, 14, S>(A, tile, rows, partial, before); break;
        }
        before += kShapes[tile.shape].vectors();
    }
}

template <int Q>
void convolve_lists(const ConvArguments &A, const Tile *tiles, int count, Range rows, float *partial) {
    if (A.in_pixel == kLanes)
        convolve_tiles<Q, 1>(A, tiles, count, rows, partial);
    else if (A.in_pixel == 2 * kLanes)
        convolve_tiles<Q, 2>(A, tiles, count, rows, partial);
    else
        convolve_tiles<Q, 0>(A, tiles, count, rows, partial);
}

void convolve(const ConvArguments &A, const Tile *tiles, int count, Range rows, float *partial) {
    if (A.lists.width == 1)
        convolve_lists<1>(A, tiles, count, rows, partial);
    else
        convolve_lists<kQuad>(A, tiles, count, rows, partial);
}

}  // namespace
}  // namespace sparse
