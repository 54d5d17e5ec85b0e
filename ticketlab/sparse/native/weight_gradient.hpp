// Weight gradients at the kept weights only.
#pragma once
#include "simd.hpp"

namespace sparse {
namespace {

INLINE void add_to(float *gradient, V sums, int count) {
    if (count == kLanes) return store_unaligned(gradient, load_unaligned(gradient) + sums);
    alignas(64) float held[kLanes];
    store(held, sums);
    for (int i = 0; i < count; i++) gradient[i] += held[i];
}

// The gradients of a tile stay in registers while the channel's taps run over the inputs. The vectors of as many taps
// as there are lanes are then summed together, so that what is kept between tiles is four bytes for each tap.
template <int NB, int TY, int TX, int S>
void sparse_tile(const WeightArguments &A, const Tile &tile, Range rows, float *gradient) {
    constexpr int N = NB * TY * TX, kChains = N < 4 ? N : 4;
    const TapLists &T = A.lists;
    const long pixel = S ? S * kLanes : A.in_pixel, to_block = A.in_block - TY * A.in_row;
    const float *in = A.in + tile.in;
    for (int b = 0; b < T.blocks; b++) {
        const int *start = T.start + (long)b * T.rows, *order = T.row + (long)b * T.rows;
        V waiting[kLanes];
        int count = 0, written = start[rows.begin];
        for (int j = rows.begin; j < rows.end; j++) {
            int k = start[j];
            const int end = start[j + 1];
            if (k == end) continue;
            const float *dz = A.dz + tile.out + A.dz_offset[order[j]];
            V g[N];
            UNROLL for (int n = 0; n < NB; n++) UNROLL for (int y = 0; y < TY; y++) UNROLL for (int x = 0; x < TX; x++)
                g[(n * TY + y) * TX + x] = load(dz + n * A.dz_block + y * A.dz_row + x * A.dz_pixel);
            for (; k < end; k++) {
                const float *p = in + T.offset[k];
                V chain[kChains];
                UNROLL for (int n = 0; n < NB; n++, p = next(p, to_block))
                    UNROLL for (int y = 0; y < TY; y++, p = next(p, A.in_row)) UNROLL for (int x = 0; x < TX; x++) {
                        const int i = (n * TY + y) * TX + x;
                        const V v = load(p + x * pixel);
                        chain[i % kChains] = i < kChains ? g[i] * v : fma(g[i], v, chain[i % kChains]);
                    }
                UNROLL for (int i = 1; i < kChains; i++) chain[0] = chain[0] + chain[i];
                waiting[count++] = chain[0];
                if (count == kLanes) {
                    add_to(gradient + written, sums_of(waiting), kLanes);
                    written = k + 1;
                    count = 0;
                }
            }
        }
        if (count) {
            for (int i = count; i < kLanes; i++) waiting[i] = zero();
            add_to(gradient + written, sums_of(waiting), count);
        }
    }
}

template <int I, int S>
INLINE void sparse_shape(const WeightArguments &A, const Tile &tile, Range rows, float *gradient) {
    constexpr Shape shape = kShapes[I];
    if constexpr (shape.vectors() <= kRegisters && (S != 0 || I < 4))
        sparse_tile<shape.blocks, shape.rows, shape.columns, S>(A, tile, rows, gradient);
}

template <int S>
void sparse_tiles(const WeightArguments &A, const Tile *tiles, int count, Range rows, float *gradient) {
    for (int t = 0; t < count; t++) {
        const Tile &tile = tiles[t];
        switch (tile.shape) {
            case 0: sparse_shape<0, S>(A, tile, rows, gradient); break;
            case 1: sparse_shape<1, S>(A, tile, rows, gradient); break;
            case 2: sparse_shape<2, S>(A, tile, rows, gradient); break;
            case 3: sparse_shape<3, S>(A, tile, rows, gradient); break;
            case 4: sparse_shape<4, S>(A, tile, rows, gradient); break;
            case 5: sparse_shape<5, S>(A, tile, rows, gradient); break;
            case 6: sparse_shape<6, S>(A, tile, rows, gradient); break;
            case 7: sparse_shape<7, S>(A, tile, rows, gradient); break;
            case 8: sparse_shape<8, S>(A, tile, rows, gradient); break;
            case 9: sparse_shape<9, S>(A, tile, rows, gradient); break;
            case 10: sparse_shape<10, S>(A, tile, rows, gradient); break;
            case 11: sparse_shape<11, S>(A, tile, rows, gradient); break;
            case 12: sparse_shape<12, S>(A, tile, rows, gradient); break;
            case 13: sparse_shape<13, S>(A, tile, rows, gradient); break;
            case 14: sparse_shape<14, S>(A, tile, rows, gradient); break;
        }
    }
}

void weight_gradient(const WeightArguments &A, const Tile *tiles, int count, Range rows, float *gradient) {
    if (A.in_pixel == kLanes)
        sparse_tiles<1>(A, tiles, count, rows, gradient);
    else if (A.in_pixel == 2 * kLanes)
        sparse_tiles<2>(A, tiles, count, rows, gradient);
    else
        sparse_tiles<0>(A, tiles, count, rows, gradient);
}

// Near-dense layers: the sums of four channels at a few taps stay in registers while a box of pixels runs by.
constexpr int kQuadTaps = kLanes / kQuad;

void weight_gradient_quad(const WeightArguments &A, const Box *boxes, int count, Range rows, float *gradient) {
    const TapLists &T = A.lists;
    for (int t = 0; t < count; t++) {
        const Box &box = boxes[t];
        for (int j = rows.begin; j < rows.end; j++) {
            const int c = T.row[j] * kQuad;
            const float *dz[kQuad];
            // A row with fewer channels repeats its last one; nobody reads what that gives.
            for (int q = 0; q < kQuad; q++)
                dz[q] = A.dz + box.dz + A.dz_offset[c + q < T.outputs ? c + q : T.outputs - 1];
            for (int k = T.start[j]; k < T.start[j + 1]; k += kQuadTaps) {
                const float *in[kQuadTaps];
                for (int i = 0; i < kQuadTaps; i++) in[i] = A.in + box.in + T.offset[k + i];
                V sum[kLanes];
                UNROLL for (int i = 0; i < kLanes; i++) sum[i] = zero();
                for (int n = 0; n < box.blocks; n++)
                    for (int y = 0; y < box.rows; y++) {
                        long at = n * A.in_block + y * A.in_row, dat = n * A.dz_block + y * A.dz_row;
                        for (int x = 0; x < box.columns; x++, at += A.in_pixel, dat += A.dz_pixel) {
                            V g[kQuad];
                            UNROLL for (int q = 0; q < kQuad; q++) g[q] = load(dz[q] + dat);
                            UNROLL for (int i = 0; i < kQuadTaps; i++) {
                                const V v = load(in[i] + at);
                                UNROLL for (int q = 0; q < kQuad; q++)
                                    sum[i * kQuad + q] = fma(g[q], v, sum[i * kQuad + q]);
                            }
                        }
                    }
                add_to(gradient + (long)k * kQuad, sums_of(sum), kLanes);
            }
        }
    }
}

}  // namespace
}  // namespace sparse
