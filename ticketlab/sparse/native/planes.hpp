// What comes between convolutions, in one pass over a plane: batch norm or bias, residual, ReLU, max-pooling, and back.
#pragma once
#include "convolution.hpp"

namespace sparse {
namespace {

// The pixels of a 2x2 window; at an odd edge some of them are not there.
struct Window {
    const float *pixel[4];
    bool there[4];
};

INLINE Window window_at(const PlaneArguments &A, const float *z, int y, int x) {
    Window w;
    for (int j = 0; j < 4; j++) {
        const int yy = 2 * y + j / 2, xx = 2 * x + j % 2;
        w.there[j] = yy < A.height && xx < A.width;
        w.pixel[j] = z + yy * A.z_row + xx * kLanes;
    }
    return w;
}

// The largest value of a window and the first place that has it, as torch chooses: a NaN is larger than anything.
INLINE V largest(const Window &w, V scale, V shift, V mean, V &place) {
    V best = fma(scale, load(w.pixel[0]) - mean, shift);
    place = zero();
    for (int j = 1; j < 4; j++)
        if (w.there[j]) take_larger(fma(scale, load(w.pixel[j]) - mean, shift), best, all((float)j), place);
    return best;
}

void finish(const PlaneArguments &A, int block, Range channels) {
    for (int c = channels.begin; c < channels.end; c++) {
        const V scale = all(A.channel.scale[c]), shift = all(A.channel.shift[c]), mean = all(A.channel.mean[c]);
        const float *z = A.z + block * A.z_block + c * A.z_channel + A.z_first;
        const long first = block * A.a_block + c * A.a_channel + A.a_first;
        float *a = A.a + first;
        const float *residual = A.residual ? A.residual + first : nullptr;
        for (int y = 0; y < A.out_height; y++) {
            float *row = a + y * A.a_row;
            if (A.pool) {
                for (int x = 0; x < A.out_width; x++) {
                    V place;
                    const V v = largest(window_at(A, z, y, x), scale, shift, mean, place);
                    store(row + x * kLanes, A.relu ? relu(v) : v);
                }
            } else if (residual) {
                for (int x = 0; x < A.out_width; x++) {
                    const V v = fma(scale, load(z + y * A.z_row + x * kLanes) - mean, shift) +
                                load(residual + y * A.a_row + x * kLanes);
                    store(row + x * kLanes, A.relu ? relu(v) : v);
                }
            } else {
                for (int x = 0; x < A.out_width; x++) {
                    const V v = fma(scale, load(z + y * A.z_row + x * kLanes) - mean, shift);
                    store(row + x * kLanes, A.relu ? relu(v) : v);
                }
            }
        }
    }
}

template <Epilogue E>
void slope_planes(const PlaneArguments &A, int block, Range channels, int channel_count, float *partial) {
    for (int c = channels.begin; c < channels.end; c++) {
        const long first = block * A.a_block + c * A.a_channel + A.a_first;
        const long z_first = block * A.z_block + c * A.z_channel + A.z_first;
        V total = zero(), product = zero();
        for (int y = 0; y < A.out_height; y++) {
            V row_total = zero(), row_product = zero();
            for (int x = 0; x < A.out_width; x++) {
                const long at = first + y * A.a_row + x * kLanes, z_at = z_first + y * A.z_row + x * kLanes;
                const V v = slope<E>(load(A.g + at), A.z, z_at, A.a, at, A.channel, c, row_total, row_product);
                store(A.g + at, v);
            }
            total = total + row_total;
            product = product + row_product;
        }
        store(partial + (long)c * kLanes, total);
        store(partial + (long)(channel_count + c) * kLanes, product);
    }
}

void slope(const PlaneArguments &A, Epilogue e, int block, Range channels, int channel_count, float *partial) {
    switch (e) {
        case Epilogue::kSlopeNorm:
            return slope_planes<Epilogue::kSlopeNorm>(A, block, channels, channel_count, partial);
        case Epilogue::kSlopeNormByZ:
            return slope_planes<Epilogue::kSlopeNormByZ>(A, block, channels, channel_count, partial);
        case Epilogue::kSlopeNormByA:
            return slope_planes<Epilogue::kSlopeNormByA>(A, block, channels, channel_count, partial);
        case Epilogue::kSlopePlain:
            return slope_planes<Epilogue::kSlopePlain>(A, block, channels, channel_count, partial);
        case Epilogue::kSlopePlainByA:
            return slope_planes<Epilogue::kSlopePlainByA>(A, block, channels, channel_count, partial);
        default: return;
    }
}

// The gradient of a window's maximum: where the maximum was, unless the ReLU after it was shut.
INLINE V routed(const PlaneArguments &A, const Window &w, const float *g, V scale, V shift, V mean, V &place) {
    const V best = largest(w, scale, shift, mean, place), v = load(g);
    return A.relu ? where_active(best, v) : v;
}

void pool_sums(const PlaneArguments &A, int block, Range channels, int channel_count, float *partial) {
    for (int c = channels.begin; c < channels.end; c++) {
        const V scale = all(A.channel.scale[c]), shift = all(A.channel.shift[c]), mean = all(A.channel.mean[c]);
        const float *z = A.z + block * A.z_block + c * A.z_channel + A.z_first;
        const float *g = A.g + block * A.a_block + c * A.a_channel + A.a_first;
        V total = zero(), product = zero();
        for (int y = 0; y < A.out_height; y++) {
            V row_total = zero(), row_product = zero();
            for (int x = 0; x < A.out_width; x++) {
                const Window w = window_at(A, z, y, x);
                V place;
                const V v = routed(A, w, g + y * A.a_row + x * kLanes, scale, shift, mean, place);
                row_total = row_total + v;
                for (int j = 0; j < 4; j++)
                    if (w.there[j]) {
                        const V here = where_equal(place, all((float)j), load(w.pixel[j]) - mean);
                        row_product = fma(v, here, row_product);
                    }
            }
            total = total + row_total;
            product = product + row_product;
        }
        store(partial + (long)c * kLanes, total);
        store(partial + (long)(channel_count + c) * kLanes, product);
    }
}

// Without batch norm (c2 null) dz is g itself. Lanes without an image get zeros, so that they count nowhere.
void unfinish(const PlaneArguments &A, int block, Range channels) {
    const V live = load(A.live);
    for (int c = channels.begin; c < channels.end; c++) {
        const V scale = all(A.channel.scale[c]), shift = all(A.channel.shift[c]), mean = all(A.channel.mean[c]);
        const V c1 = A.c2 ? all(A.c1[c]) : all(1.0f), c2 = A.c2 ? all(A.c2[c]) : zero(), c3 = A.c2 ? all(A.c3[c]) : zero();
        const float *z = A.z ? A.z + block * A.z_block + c * A.z_channel + A.z_first : nullptr;
        const float *g = A.g + block * A.a_block + c * A.a_channel + A.a_first;
        float *dz = A.dz + block * A.z_block + c * A.z_channel + A.z_first;
        if (A.pool) {
            for (int y = 0; 2 * y < A.height; y++)
                for (int x = 0; 2 * x < A.width; x++) {
                    const Window w = window_at(A, z, y, x);
                    V place = zero(), v = zero();
                    // Without ceil_mode the last row and column of an odd map belong to no window.
                    if (y < A.out_height && x < A.out_width)
                        v = routed(A, w, g + y * A.a_row + x * kLanes, scale, shift, mean, place);
                    for (int j = 0; j < 4; j++) {
                        if (!w.there[j]) continue;
                        V d = where_equal(place, all((float)j), v);
                        if (A.c2) d = fma(c1, d, fma(c2, load(w.pixel[j]) - mean, c3)) * live;
                        store(dz + (w.pixel[j] - z), d);
                    }
                }
        } else if (A.c2) {
            for (int y = 0; y < A.height; y++)
                for (int x = 0; x < A.width; x++) {
                    const V centred = load(z + y * A.z_row + x * kLanes) - mean;
                    const V d = fma(c1, load(g + y * A.a_row + x * kLanes), fma(c2, centred, c3));
                    store(dz + y * A.z_row + x * kLanes, d * live);
                }
        } else {
            for (int y = 0; y < A.height; y++)
                for (int x = 0; x < A.width; x++)
                    store(dz + y * A.z_row + x * kLanes, load(g + y * A.a_row + x * kLanes));
        }
    }
}

void add(const float *from, float *to, size_t count) {
    for (size_t i = 0; i < count; i += kLanes) store(to + i, load(to + i) + load(from + i));
}

void average(const AverageArguments &A, Range channels) {
    const V share = all(1.0f / (float)(A.height * A.width));
    for (int c = channels.begin; c < channels.end; c++) {
        const float *map = A.in + c * A.in_channel + A.in_first;
        V total = zero();
        for (int y = 0; y < A.height; y++) {
            V row = zero();
            for (int x = 0; x < A.width; x++) row = row + load(map + y * A.in_row + x * kLanes);
            total = total + row;
        }
        store(A.out + A.narrow_first + c * A.narrow_channel, total * share);
    }
}

void spread(const AverageArguments &A, Range channels) {
    const V share = all(1.0f / (float)(A.height * A.width));
    for (int c = channels.begin; c < channels.end; c++) {
        float *map = A.out + c * A.in_channel + A.in_first;
        const V v = load(A.in + A.narrow_first + c * A.narrow_channel) * share;
        for (int y = 0; y < A.height; y++)
            for (int x = 0; x < A.width; x++) {
                float *pixel = map + y * A.in_row + x * kLanes;
                store(pixel, A.add ? load(pixel) + v : v);
            }
    }
}

}  // namespace
}  // namespace sparse
