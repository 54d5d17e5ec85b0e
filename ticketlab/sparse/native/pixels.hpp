// What comes between convolutions where the lanes of a vector are neighbouring pixels of one image.
#pragma once
#include "maximum.hpp"

namespace sparse {
namespace {

// The larger one, or NaN: a NaN is larger than anything, as in torch.
INLINE float larger(float best, float x) { return x > best || x != x ? x : best; }

// Batch norm or bias, 2x2 max-pooling and ReLU. Windows at an odd edge lack pixels.
void pool_pixels(const PlaneArguments &A, int block, Range channels) {
    for (int c = channels.begin; c < channels.end; c++) {
        const float scale = A.channel.scale[c], shift = A.channel.shift[c], mean = A.channel.mean[c];
        const auto affine = [&](float z) { return scale * (z - mean) + shift; };
        const float *z = A.z + block * A.z_block + c * A.z_channel + A.z_first;
        float *a = A.a + block * A.a_block + c * A.a_channel + A.a_first;
        for (int y = 0; y < A.out_height; y++, a += A.a_row) {
            const float *up = z + 2 * y * A.z_row, *down = 2 * y + 1 < A.height ? up + A.z_row : up;
            const int whole = A.width / 2 < A.out_width ? A.width / 2 : A.out_width;
            for (int x = 0; x < whole; x++) {
                const float above = larger(affine(up[2 * x]), affine(up[2 * x + 1]));
                a[x] = larger(above, larger(affine(down[2 * x]), affine(down[2 * x + 1])));
            }
            if (whole < A.out_width) a[whole] = larger(affine(up[2 * whole]), affine(down[2 * whole]));
            if (A.relu)
                for (int x = 0; x < A.out_width; x++) a[x] = a[x] < 0.0f ? 0.0f : a[x];
        }
    }
}

void average_pixels(const AverageArguments &A, Range channels) {
    for (int c = channels.begin; c < channels.end; c++) {
        const float *map = A.in + c * A.in_channel + A.in_first;
        double total = 0;
        for (int y = 0; y < A.height; y++)
            for (int x = 0; x < A.width; x++) total += map[y * A.in_row + x];
        A.out[A.narrow_first + c * A.narrow_channel] = (float)(total / (A.height * A.width));
    }
}

void maximum_pixels(const MaximumArguments &A, Range channels) {
    for (int c = channels.begin; c < channels.end; c++) {
        const float *map = A.in + c * A.in_channel + A.in_first;
        float *out = A.out + c * A.out_channel + A.out_first;
        for (int y = 0; y < A.out_height; y++)
            for (int x = 0; x < A.out_width; x++) {
                const Covered w = covered(A, y, x);
                float best = map[w.top * A.in_row + w.left];
                for (int i = w.top; i < w.bottom; i++)
                    for (int j = w.left; j < w.right; j++) best = larger(best, map[i * A.in_row + j]);
                out[y * A.out_row + x] = best;
            }
    }
}

void split(const SplitArguments &A, Range channels) {
    const int residues = A.stride[0] * A.stride[1];
    for (int c = channels.begin; c < channels.end; c++)
        for (int r = 0; r < residues; r++) {
            const int down = r / A.stride[1], right = r % A.stride[1];
            const float *from = A.in + c * A.in_channel + down * A.in_row + right;
            float *to = A.out + (c * residues + r) * A.out_channel;
            for (int y = 0; y < A.rows && down + y * A.stride[0] < A.height; y++) {
                const float *row = from + (long)y * A.stride[0] * A.in_row;
                const int there = (A.width - right + A.stride[1] - 1) / A.stride[1];
                const int columns = there < A.columns ? there : A.columns;
                for (int x = 0; x < columns; x++) to[y * A.out_row + x] = row[(long)x * A.stride[1]];
            }
        }
}

}  // namespace
}  // namespace sparse
