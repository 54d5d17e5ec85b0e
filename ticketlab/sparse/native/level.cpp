// The kernels of one instruction set: this file is compiled once for each, with the flags that allow its instructions.
#include "convolution.hpp"
#include "pixels.hpp"
#include "planes.hpp"
#include "weight_gradient.hpp"

#if defined(SPARSE_AVX512)
#define SPARSE_LEVEL kAvx512
#elif defined(SPARSE_AVX2)
#define SPARSE_LEVEL kAvx2
#else
#define SPARSE_LEVEL kPlain
#endif

namespace sparse {

extern const Kernels SPARSE_LEVEL;
const Kernels SPARSE_LEVEL = {
    kLanes, kRegisters, kQuadRegisters, kQuadTaps, convolve, weight_gradient, weight_gradient_quad, finish,
    slope,  pool_sums,  unfinish,       add,       average,  spread,          maximum,              route,
    pool_pixels, average_pixels, maximum_pixels, split,
};

}  // namespace sparse
