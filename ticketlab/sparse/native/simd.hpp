// One vector of floats, a lane for each image of a block, for the instruction set that this file is compiled for.
#pragma once
#include "arguments.hpp"

#if defined(SPARSE_AVX512) || defined(SPARSE_AVX2)
#include <immintrin.h>
#endif

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define INLINE inline __attribute__((always_inline))

namespace sparse {
namespace {

// A pointer that has moved on. The compiler would otherwise count each vector's address from the first one, which
// takes more registers than there are.
INLINE const float *next(const float *p, long step) {
    p += step;
    __asm__("" : "+r"(p));
    return p;
}

#if defined(SPARSE_AVX512)

using V = __m512;
constexpr int kLanes = 16, kRegisters = 16, kQuadRegisters = 4;

INLINE V load(const float *p) { return _mm512_load_ps(p); }
INLINE V load_unaligned(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, V v) { _mm512_store_ps(p, v); }
INLINE void store_unaligned(float *p, V v) { _mm512_storeu_ps(p, v); }
INLINE V all(float x) { return _mm512_set1_ps(x); }
INLINE V zero() { return _mm512_setzero_ps(); }
INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand is the result where one is NaN, so a NaN passes.
INLINE V relu(V v) { return _mm512_max_ps(zero(), v); }
// v where the ReLU of x lets a gradient through; like torch's, it lets it through at NaN.
INLINE V where_active(V x, V v) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, zero(), _CMP_NLE_UQ), v); }
// x takes the place of best where it is larger or NaN, and `value` that of `kept`.
INLINE void take_larger(V x, V &best, V value, V &kept) {
    const __mmask16 larger = _mm512_cmp_ps_mask(x, best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    best = _mm512_mask_mov_ps(best, larger, x);
    kept = _mm512_mask_mov_ps(kept, larger, value);
}
INLINE V where_equal(V a, V b, V v) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), v); }

// Lane i of the result is the sum of the lanes of rows[i].
INLINE V sums_of(const V *rows) {
    V r[8], s[4], u[2];
    UNROLL for (int i = 0; i < 8; i++) {
        const V p = rows[i], q = rows[i + 8];
        r[i] = _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x44), _mm512_shuffle_f32x4(p, q, 0xEE));
    }
    UNROLL for (int i = 0; i < 4; i++)
        s[i] = _mm512_add_ps(_mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), _mm512_shuffle_f32x4(r[i], r[i + 4], 0xDD));
    UNROLL for (int i = 0; i < 2; i++)
        u[i] = _mm512_add_ps(_mm512_shuffle_ps(s[i], s[i + 2], 0x44), _mm512_shuffle_ps(s[i], s[i + 2], 0xEE));
    const V f = _mm512_add_ps(_mm512_shuffle_ps(u[0], u[1], 0x88), _mm512_shuffle_ps(u[0], u[1], 0xDD));
    // Place 4q + e holds the sum of row {0, 2, 1, 3}[e] + {0, 8, 4, 12}[q].
    const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
    return _mm512_permutexvar_ps(order, f);
}

#elif defined(SPARSE_AVX2)

using V = __m256;
constexpr int kLanes = 8, kRegisters = 8, kQuadRegisters = 2;

INLINE V load(const float *p) { return _mm256_load_ps(p); }
INLINE V load_unaligned(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, V v) { _mm256_store_ps(p, v); }
INLINE void store_unaligned(float *p, V v) { _mm256_storeu_ps(p, v); }
INLINE V all(float x) { return _mm256_set1_ps(x); }
INLINE V zero() { return _mm256_setzero_ps(); }
INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
INLINE V relu(V v) { return _mm256_max_ps(zero(), v); }
INLINE V where_active(V x, V v) { return _mm256_and_ps(_mm256_cmp_ps(x, zero(), _CMP_NLE_UQ), v); }
INLINE void take_larger(V x, V &best, V value, V &kept) {
    const V larger = _mm256_or_ps(_mm256_cmp_ps(x, best, _CMP_GT_OQ), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    best = _mm256_blendv_ps(best, x, larger);
    kept = _mm256_blendv_ps(kept, value, larger);
}
INLINE V where_equal(V a, V b, V v) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), v); }

INLINE V sums_of(const V *rows) {
    const V a = _mm256_hadd_ps(_mm256_hadd_ps(rows[0], rows[1]), _mm256_hadd_ps(rows[2], rows[3]));
    const V b = _mm256_hadd_ps(_mm256_hadd_ps(rows[4], rows[5]), _mm256_hadd_ps(rows[6], rows[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

#else

// Four floats are a register on every machine that matters (SSE2, NEON); the compiler knows how.
typedef float V __attribute__((vector_size(16)));
typedef int32_t Bits __attribute__((vector_size(16)));
constexpr int kLanes = 4, kRegisters = 8, kQuadRegisters = 2;

INLINE V load(const float *p) { return *reinterpret_cast<const V *>(p); }
INLINE V load_unaligned(const float *p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(float *p, V v) { *reinterpret_cast<V *>(p) = v; }
INLINE void store_unaligned(float *p, V v) { __builtin_memcpy(p, &v, sizeof v); }
INLINE V all(float x) { return V{x, x, x, x}; }
INLINE V zero() { return all(0.0f); }
INLINE V fma(V a, V b, V c) { return a * b + c; }
INLINE V where(Bits condition, V v) { return reinterpret_cast<V>(condition & reinterpret_cast<Bits>(v)); }
INLINE V choose(Bits condition, V yes, V no) { return where(condition, yes) + where(~condition, no); }
INLINE V where_active(V x, V v) { return where(~(x <= zero()), v); }
INLINE V relu(V v) { return where_active(v, v); }
INLINE void take_larger(V x, V &best, V value, V &kept) {
    const Bits larger = (x > best) | (x != x);
    best = choose(larger, x, best);
    kept = choose(larger, value, kept);
}
INLINE V where_equal(V a, V b, V v) { return where(a == b, v); }

INLINE V sums_of(const V *rows) {
    V sums = zero();
    UNROLL for (int i = 0; i < 4; i++) sums[i] = (rows[i][0] + rows[i][1]) + (rows[i][2] + rows[i][3]);
    return sums;
}

#endif

}  // namespace
}  // namespace sparse
