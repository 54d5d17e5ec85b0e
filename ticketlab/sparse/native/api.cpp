// What Python calls: plain C functions. They return 0, or 1 with a message that `sparse_error` gives; nothing aborts.
#include <time.h>

#include <algorithm>
#include <string>

#include "net.hpp"

#if defined(__GNUC__)
#define API extern "C" __attribute__((visibility("default")))
#endif

namespace {

using sparse::Net;

thread_local std::string error;

template <typename Work>
int guarded(const Work &work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc &) {
        error = "asked for more memory than there is";
    } catch (const std::exception &e) {
        error = e.what();
    }
    return 1;
}

bool runs(int level) {
#if defined(SPARSE_X86)
    __builtin_cpu_init();
    if (level == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return level == 0;
}

const sparse::Kernels &kernels(int level) {
    if (!runs(level)) throw sparse::Refused("asked for instructions that this processor does not have");
#if defined(SPARSE_X86)
    if (level == 2) return sparse::kAvx512;
    if (level == 1) return sparse::kAvx2;
#endif
    return sparse::kPlain;
}

// The values that Python reads and writes by number; what holds one entry per kept weight or per channel.
std::vector<float> &values(sparse::Layer &l, int what) {
    switch (what) {
        case 0: return l.weight.value;
        case 1: return l.weight.momentum;
        case 2: return l.weight.gradient;
        case 3: return l.bias.value;
        case 4: return l.bias.momentum;
        case 5: return l.bias.gradient;
        case 6: return l.gamma.value;
        case 7: return l.gamma.momentum;
        case 8: return l.gamma.gradient;
        case 9: return l.beta.value;
        case 10: return l.beta.momentum;
        case 11: return l.beta.gradient;
        case 12: return l.running_mean;
        case 13: return l.running_var;
        default: throw sparse::Refused("asked for values that a layer does not have");
    }
}

Net &net(void *handle) {
    if (!handle) throw sparse::Refused("asked for a network that was freed");
    return *static_cast<Net *>(handle);
}

sparse::Pass pass(int p) {
    if (p < 0 || p >= sparse::kPasses) throw sparse::Refused("asked for a pass that does not exist");
    return static_cast<sparse::Pass>(p);
}

}  // namespace

API const char *sparse_error() { return error.c_str(); }

// Whether this processor has what a level needs: 0 plain C++, 1 AVX2 and FMA, 2 AVX-512.
API int sparse_runs(int level) { return runs(level); }

API int sparse_new(int level, int batch, const int *shape, int trains, int input_gradient, int pixels, void **made) {
    return guarded([&] {
        *made = new Net(kernels(level), batch, shape[0], shape[1], shape[2], trains != 0, input_gradient != 0,
                        pixels != 0);
    });
}

API void sparse_free(void *handle) { delete static_cast<Net *>(handle); }

API int sparse_layer(void *handle, const sparse::LayerSpec *spec, int *tensor) {
    return guarded([&] { *tensor = net(handle).add_layer(*spec); });
}

API int sparse_average(void *handle, int in, int *tensor) {
    return guarded([&] { *tensor = net(handle).add_average(in); });
}

// Rows and columns of the window, its stride and its padding.
API int sparse_maximum(void *handle, int in, const int *sizes, int ceil, int *tensor) {
    return guarded([&] { *tensor = net(handle).add_maximum(in, sizes, ceil != 0); });
}

API int sparse_build(void *handle) {
    return guarded([&] { net(handle).build(); });
}

API int sparse_threads(void *handle, int threads) {
    return guarded([&] {
        if (threads < 1) throw sparse::Refused("asked for " + std::to_string(threads) + " threads, got less than 1");
        net(handle).threads = threads;
    });
}

API int sparse_choose(void *handle, int layer, int p, const int *quad_shape_block) {
    return guarded([&] {
        net(handle).choose(layer, pass(p), {quad_shape_block[0], quad_shape_block[1], quad_shape_block[2]});
    });
}

API int sparse_choice(void *handle, int layer, int p, int *quad_shape_block) {
    return guarded([&] {
        const sparse::Choice &c = net(handle).layer(layer).choice[pass(p)];
        quad_shape_block[0] = c.quad, quad_shape_block[1] = c.shape, quad_shape_block[2] = c.block;
    });
}

API int sparse_possible(void *handle, int layer, int p, const int *quad_shape_block, int *found) {
    return guarded([&] {
        net(handle).layer(layer);
        *found = net(handle).possible(layer, pass(p), {quad_shape_block[0], quad_shape_block[1], quad_shape_block[2]});
    });
}

// Seconds that the fastest of a few runs of one pass takes, on whatever the buffers hold.
API int sparse_time(void *handle, int layer, int p, int runs_wanted, double *seconds) {
    return guarded([&] {
        // One thread's own time says what a pass costs also on a busy machine.
        const clockid_t clock = net(handle).threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
        const auto now = [&] {
            timespec t;
            clock_gettime(clock, &t);
            return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
        };
        *seconds = 1e30;
        for (int i = 0; i < runs_wanted; i++) {
            const double start = now();
            net(handle).run_alone(layer, pass(p));
            *seconds = std::min(*seconds, now() - start);
        }
    });
}

// Values by number (see `values`); `count` must be what there is.
API int sparse_values(void *handle, int layer, int what, int write, float *data, int64_t count) {
    return guarded([&] {
        std::vector<float> &held = values(net(handle).layer(layer), what);
        if ((int64_t)held.size() != count)
            throw sparse::Refused("asked for " + std::to_string(count) + " values of layer " + std::to_string(layer) +
                                  ", got " + std::to_string(held.size()));
        if (write && what < 3 && net(handle).layer(layer).spec.frozen)
            throw sparse::Refused("asked to set weights of layer " + std::to_string(layer) + ", got a frozen one");
        for (int64_t i = 0; i < count; i++) (write ? held[i] : data[i]) = write ? data[i] : held[i];
    });
}

// After weights of a layer were written.
API int sparse_refresh(void *handle, int layer) {
    return guarded([&] { net(handle).refresh(net(handle).layer(layer)); });
}

// Channels, height and width of a tensor.
API int sparse_shape(void *handle, int tensor, int *sizes) {
    return guarded([&] {
        const sparse::Geometry &g = net(handle).tensor(tensor).geometry;
        sizes[0] = g.channels, sizes[1] = g.height, sizes[2] = g.width;
    });
}

API int sparse_forward(void *handle, const float *x, int images, int training) {
    return guarded([&] { net(handle).forward(x, images, training != 0); });
}

API int sparse_loss(void *handle, const int64_t *targets, float *logits, double *loss) {
    return guarded([&] { *loss = net(handle).loss(targets, logits); });
}

API int sparse_backward(void *handle, const float *output_gradient) {
    return guarded([&] { net(handle).backward(output_gradient); });
}

API int sparse_update(void *handle, double lr, double momentum, double decay, int nesterov) {
    return guarded([&] { net(handle).update(lr, momentum, decay, nesterov != 0); });
}

API int sparse_output(void *handle, int tensor, int gradient, int images, float *to) {
    return guarded([&] { net(handle).unpack(tensor, gradient != 0, images, to); });
}
