// Max-pooling of any window over the planes of one block of images, and back.
#pragma once
#include "simd.hpp"

namespace sparse {
namespace {

// What a window covers of a map.
struct Covered {
    int top, bottom, left, right;
};

INLINE Covered covered(const MaximumArguments &A, int y, int x) {
    const int top = y * A.stride[0] - A.padding[0], left = x * A.stride[1] - A.padding[1];
    const int bottom = top + A.kernel[0], right = left + A.kernel[1];
    return {top < 0 ? 0 : top, bottom > A.height ? A.height : bottom, left < 0 ? 0 : left,
            right > A.width ? A.width : right};
}

// The largest value of a window and the number, among its pixels, of the first that has it, as torch chooses: a NaN is
// larger than anything.
INLINE V largest(const MaximumArguments &A, const float *map, const Covered &w, V &place) {
    V best = load(map + w.top * A.in_row + w.left * kLanes);
    place = zero();
    float number = 0.0f;
    for (int y = w.top; y < w.bottom; y++)
        for (int x = w.left; x < w.right; x++, number += 1.0f)
            take_larger(load(map + y * A.in_row + x * kLanes), best, all(number), place);
    return best;
}

void maximum(const MaximumArguments &A, Range channels) {
    for (int c = channels.begin; c < channels.end; c++) {
        const float *map = A.in + c * A.in_channel + A.in_first;
        float *out = A.out + c * A.out_channel + A.out_first;
        for (int y = 0; y < A.out_height; y++)
            for (int x = 0; x < A.out_width; x++) {
                V place;
                store(out + y * A.out_row + x * kLanes, largest(A, map, covered(A, y, x), place));
            }
    }
}

void route(const MaximumArguments &A, Range channels) {
    for (int c = channels.begin; c < channels.end; c++) {
        const float *map = A.in + c * A.in_channel + A.in_first;
        const float *g = A.g + c * A.out_channel + A.out_first;
        float *to = A.to + c * A.in_channel + A.in_first;
        if (!A.add)
            for (int y = 0; y < A.height; y++)
                for (int x = 0; x < A.width; x++) store(to + y * A.in_row + x * kLanes, zero());
        for (int y = 0; y < A.out_height; y++)
            for (int x = 0; x < A.out_width; x++) {
                const Covered w = covered(A, y, x);
                V place;
                largest(A, map, w, place);
                const V slope = load(g + y * A.out_row + x * kLanes);
                float number = 0.0f;
                for (int i = w.top; i < w.bottom; i++)
                    for (int j = w.left; j < w.right; j++, number += 1.0f) {
                        float *pixel = to + i * A.in_row + j * kLanes;
                        store(pixel, load(pixel) + where_equal(place, all(number), slope));
                    }
            }
    }
}

}  // namespace
}  // namespace sparse
