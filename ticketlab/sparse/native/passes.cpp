// How each pass of each layer runs: tile, channel block, shared lists or not.
#include <algorithm>
#include <cmath>

#include "net.hpp"

namespace sparse {
namespace {

// Fewer turns than this leave threads without work, also where one of them comes late.
constexpr int kTurns = 16;
// Pixels of a box of the near-dense weight gradient: four channels of gradients stay in the first-level cache.
constexpr int kBoxPixels = 64;
// The share of weights from which on channels do better with a common list. Below it most of a shared list's products are with
// zeros.
constexpr double kNearDense = 0.75;
constexpr int kQuadBlock = 32;

// How many input channels run together: as few as leave each list enough taps to pay for the loop around them, so that
// what they read stays in the first-level cache. A power of two, and all channels where that is more than half of them.
int usual_block(int channels, double taps, Pass pass) {
    const double enough = pass == kWeightGradient ? 12 : 20;
    const double wanted = std::log2(enough / std::max(taps, 1e-6));
    const long block = 1L << std::clamp((int)std::lround(wanted), 3, 20);
    return 2 * block > channels ? 0 : (int)block;
}

}  // namespace

Extent Net::extent(int height, int width) const {
    return {height, width, blocks_, images_of(blocks_ - 1), lanes_};
}

void Net::set_images(int images) {
    if (images < 1 || images > batch_)
        throw Refused("asked for " + std::to_string(images) + " inputs, got a network for 1 to " + std::to_string(batch_));
    has_activations_ = has_forward_ = has_output_gradient_ = has_gradients_ = false;
    if (images == images_) return;
    images_ = images;
    blocks_ = (images + lanes_ - 1) / lanes_;
    float *live = live_.data();
    for (int i = 0; i < lanes_; i++) {
        live[i] = 1.0f;
        live[lanes_ + i] = i < images_of(blocks_ - 1) ? 1.0f : 0.0f;
    }
    for (Layer &l : layers)
        if (!l.pools())
            for (Pass p : {kForward, kInputGradient, kWeightGradient}) tile(l, p);
}

void Net::tile(Layer &l, Pass pass) {
    const Choice &c = l.choice[pass];
    const int registers = c.quad ? kernels_.quad_registers : kernels_.registers;
    const auto cut = [&](const Sweep &s, int chunks) {
        const bool runs_only = s.pitch.in_pixel > 2L * kernels_.lanes;
        return tiled(c.shape, extent(s.height, s.width), s.pitch, registers, runs_only, chunks);
    };
    if (pass == kForward) {
        l.forward.tiling = cut(l.forward, kChunks);
    } else if (pass == kInputGradient) {
        for (Sweep &s : l.backward) s.tiling = cut(s, kChunks);
    } else {
        const Sweep &s = l.forward;
        l.weight_tiling = {};
        l.weight_boxes.clear();
        if (c.quad)
            l.weight_boxes = boxed(extent(s.height, s.width), s.pitch, kBoxPixels);
        else
            l.weight_tiling = cut(s, kWeightChunks);
    }
}

void Net::list(Layer &l, Pass pass) {
    const Choice &c = l.choice[pass];
    const int width = c.quad ? kQuad : 1;
    const auto parts = [&](int tiles, int outputs) {
        const int wanted = (kTurns + tiles - 1) / std::max(tiles, 1);
        return std::max(1, std::min(wanted, outputs / width / 8));
    };
    const int outputs = l.spec.outputs;
    if (pass == kForward) {
        const int tiles = (int)l.forward.tiling.tiles.size();
        l.forward.lists = Lists(l.forward.taps, outputs, l.inputs, c.block, width, parts(tiles, outputs));
    } else if (pass == kInputGradient) {
        for (Sweep &s : l.backward) {
            const int tiles = (int)s.tiling.tiles.size();
            s.lists = Lists(s.taps, l.inputs, outputs, c.block, width, parts(tiles, l.inputs));
        }
    } else {
        const int chunks = c.quad ? (int)l.weight_boxes.size() : (int)l.weight_tiling.tiles.size();
        l.weight_lists = Lists(l.forward.taps, outputs, l.inputs, c.quad ? 0 : c.block, width,
                               parts(std::min(chunks, kWeightChunks), outputs), c.quad ? kernels_.quad_taps : 1);
        const size_t needed = (size_t)l.weight_lists.values() * kWeightChunks;
        if (needed > weight_partial_.size()) weight_partial_ = Buffer(needed);
    }
}

void Net::choose(int i, Pass pass, Choice c) {
    check_built(true);
    Layer &l = layer(i);
    if (!trains_ && pass != kForward) throw Refused("asked for a gradient's tiles, got a network that is not for training");
    if (!possible(i, pass, c))
        throw Refused("asked for tile " + std::to_string(c.shape) + " in layer " + std::to_string(i) +
                      ", got a map or an instruction set that it does not fit");
    const int images = images_;
    // Lists are cut for the full batch, so that a smaller one is summed in the same order.
    set_images(batch_);
    l.choice[pass] = c;
    tile(l, pass);
    list(l, pass);
    set_images(images);
    refresh(l);
}

bool Net::possible(int i, Pass pass, Choice c) const {
    const Layer &l = layers.at(i);
    if (l.pools() || c.shape < 0 || c.shape >= kShapeCount || c.block < 0) return false;
    const Sweep &s = pass == kInputGradient && !l.backward.empty() ? l.backward[0] : l.forward;
    const Extent e{s.height, s.width, (batch_ + lanes_ - 1) / lanes_, (batch_ - 1) % lanes_ + 1, lanes_};
    return fits(c.shape, e, c.quad ? kernels_.quad_registers : kernels_.registers,
                s.pitch.in_pixel > 2L * kernels_.lanes);
}

Choice Net::usual(int i, Pass pass) const {
    const Layer &l = layers.at(i);
    const Sweep &s = pass == kInputGradient && !l.backward.empty() ? l.backward[0] : l.forward;
    const double window = (double)l.spec.kernel[0] * l.spec.kernel[1];
    const double all = (double)l.spec.outputs * l.inputs / l.spec.groups * window;
    const double density = (double)l.spec.kept / all;
    const int outputs = pass == kInputGradient ? l.inputs : l.spec.outputs;
    Choice c;
    // What a frozen layer passes on has no two channels in common.
    c.quad = density > kNearDense && outputs >= kQuad && !l.spec.frozen;
    const int most = c.quad ? kernels_.quad_registers : kernels_.registers;
    double best = -1;
    for (int shape = 0; shape < kShapeCount; shape++) {
        c.shape = shape;
        const Shape k = kShapes[shape];
        if (k.vectors() > most || !possible(i, pass, c)) continue;
        const double covered = (double)(s.height / k.rows * k.rows) * (s.width / k.columns * k.columns);
        // Large tiles share what comes once for each list. Of those with as many pixels long runs are best, as memory is
        // fetched ahead along rows, and blocks of images lie far apart.
        const double apart = k.blocks > 2 ? 0.5 : 1.0;
        const double merit = apart * k.vectors() * covered / ((double)s.height * s.width) - 0.01 * k.rows;
        if (merit > best) best = merit, c.block = shape;
    }
    c.shape = c.block;
    c.block = c.quad ? kQuadBlock : usual_block(pass == kInputGradient ? l.spec.outputs : l.inputs, window * density / l.spec.groups, pass);
    return c;
}

void Net::refresh(Layer &l) {
    if (l.pools()) return;
    l.forward.lists.refresh(l.weight.value.data(), threads);
    for (Sweep &s : l.backward) s.lists.refresh(l.weight.value.data(), threads);
}

void Net::run_alone(int i, Pass pass) {
    check_built(true);
    Layer &l = layer(i);
    if (l.pools()) throw Refused("asked to run a convolution, got a pooling");
    if (!trains_ && pass != kForward) throw Refused("asked for a gradient, got a network that is not for training");
    if (l.spec.frozen && pass == kWeightGradient) throw Refused("asked for a weight gradient, got a frozen layer");
    set_images(batch_);
    if (pass == kForward) convolve(l, trains_);
    if (pass == kInputGradient && l.input_wanted) input_gradient(l);
    if (pass == kWeightGradient) weight_gradient(l);
}

}  // namespace sparse
