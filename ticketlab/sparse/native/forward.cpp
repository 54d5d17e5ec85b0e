// The forward pass, in training and with fixed statistics.
#include <algorithm>
#include <cmath>

#include "net.hpp"
#include "threads.hpp"

namespace sparse {

void Net::sweep(const std::vector<Sweep *> &sweeps, const ConvArguments &common) {
    struct Turn {
        int sweep, chunk, part;
        long place;
    };
    std::vector<Turn> turns;
    std::vector<ConvArguments> arguments;
    long place = 0;
    for (size_t s = 0; s < sweeps.size(); s++) {
        const Sweep &w = *sweeps[s];
        ConvArguments a = common;
        a.out_offset = w.out_offset.data();
        a.in_block = w.pitch.in_block, a.in_row = w.pitch.in_row, a.in_pixel = w.pitch.in_pixel;
        a.out_block = w.pitch.out_block, a.out_row = w.pitch.out_row, a.out_pixel = w.pitch.out_pixel;
        a.lists = w.lists.view();
        arguments.push_back(a);
        for (size_t c = 0; c < w.tiling.chunks.size(); c++, place++)
            for (int p = 0; p < w.lists.parts(); p++) turns.push_back({(int)s, (int)c, p, place});
    }
    to_and_fro((int)turns.size(), [&](int i) {
        const Turn &t = turns[i];
        const Sweep &w = *sweeps[t.sweep];
        const Chunk &c = w.tiling.chunks[t.chunk];
        kernels_.convolve(arguments[t.sweep], w.tiling.tiles.data() + c.begin, c.end - c.begin, w.lists.part(t.part),
                          partial_.data() + t.place * kSums * w.out_offset.size() * kernels_.lanes);
    });
}

void Net::convolve(Layer &l, bool training) {
    const Tensor &to = tensors[l.out];
    ConvArguments a{};
    if (l.split.size()) split(l);
    a.in = l.split.size() ? l.split.data() : tensors[l.in].a.data();
    a.live = l.live.data();
    a.out = l.has_z() ? l.z.data() : to.a.data();
    a.epilogue = l.has_z() ? (l.norm() && training ? Epilogue::kStatistics : Epilogue::kStore) : Epilogue::kAffine;
    // With fixed statistics nothing needs z itself.
    if (!training && !l.spec.pool) {
        a.out = to.a.data();
        a.epilogue = Epilogue::kAffine;
    }
    a.channel = {l.scale.data(), l.shift.data(), l.mean.data()};
    if (l.residual >= 0) a.residual = tensors[l.residual].a.data();
    a.relu = l.spec.relu;
    sweep({&l.forward}, a);
}

void Net::split(Layer &l) {
    const Geometry &from = tensors[l.in].geometry, &to = l.split_geometry;
    SplitArguments a{};
    a.height = from.height, a.width = from.width;
    a.stride[0] = l.spec.stride[0], a.stride[1] = l.spec.stride[1];
    a.rows = to.height, a.columns = to.width;
    a.in_row = from.row(), a.in_channel = from.channel();
    a.out_row = to.row(), a.out_channel = to.channel();
    each_plane(from.channels, [&](int image, Range channels) {
        SplitArguments mine = a;
        mine.in = tensors[l.in].a.data() + image * from.block() + from.first();
        mine.out = l.split.data() + image * to.block() + to.first();
        kernels_.split(mine, channels);
    });
}

// Mean and variance of all images from those of each chunk and lane, in double precision.
void Net::statistics(Layer &l) {
    const int channels = l.spec.outputs, lanes = kernels_.lanes;
    const std::vector<Chunk> &chunks = l.forward.tiling.chunks;
    const double count = (double)images_ * l.z_geometry.height * l.z_geometry.width;
    if (count < 2)
        throw Refused("asked for batch statistics, got one value for each channel: train on more than one input");
    constexpr int kChannels = 16;
    parallel(threads, (channels + kChannels - 1) / kChannels, [&](int turn) {
        for (int c = turn * kChannels; c < std::min(channels, (turn + 1) * kChannels); c++) {
            const auto lane_means = [&](size_t k) { return partial_.data() + (k * kSums * channels + c) * lanes; };
            const long next = (long)channels * lanes;
            double mean = 0;
            for (size_t k = 0; k < chunks.size(); k++) {
                const float *m = lane_means(k), *pivot = m + 2 * next;
                double sum = 0;
                for (int i = 0; i < chunks[k].images; i++) sum += (double)pivot[i] + m[i];
                mean += sum * (double)chunks[k].vectors;
            }
            mean /= count;
            double squares = 0;
            for (size_t k = 0; k < chunks.size(); k++) {
                const float *m = lane_means(k), *within = m + next, *pivot = m + 2 * next;
                double inside = 0, between = 0;
                for (int i = 0; i < chunks[k].images; i++) {
                    inside += within[i];
                    const double off = (double)pivot[i] + m[i] - mean;
                    between += off * off;
                }
                squares += inside + between * (double)chunks[k].vectors;
            }
            const double variance = squares / count;
            l.inverse[c] = 1.0 / std::sqrt(variance + l.spec.eps);
            l.mean[c] = (float)mean;
            l.rest[c] = mean - l.mean[c];
            const double scale = l.gamma.value[c] * l.inverse[c];
            l.scale[c] = (float)scale;
            l.shift[c] = (float)(l.beta.value[c] - scale * l.rest[c]);
            // The convolution's bias moves the mean, and nothing else: it is left out of z.
            const double m = l.spec.momentum, seen = mean + (l.spec.bias ? l.bias.value[c] : 0.0f);
            l.running_mean[c] = (float)((1 - m) * l.running_mean[c] + m * seen);
            l.running_var[c] = (float)((1 - m) * l.running_var[c] + m * squares / (count - 1));
        }
    });
}

// What turns z into the activation when it is known beforehand: the bias, or fixed statistics.
void Net::fixed_statistics(Layer &l) {
    for (int c = 0; c < l.spec.outputs; c++) {
        const double bias = l.spec.bias ? l.bias.value[c] : 0.0f;
        const double scale = l.norm() ? l.gamma.value[c] / std::sqrt(l.running_var[c] + l.spec.eps) : 1.0;
        l.mean[c] = 0.0f;
        l.scale[c] = (float)scale;
        l.shift[c] = (float)(l.norm() ? l.beta.value[c] + (bias - l.running_mean[c]) * scale : bias);
    }
}

PlaneArguments Net::planes(const Layer &l) const {
    const Tensor &t = tensors[l.out];
    const Geometry &z = l.z_geometry, &a = t.geometry;
    PlaneArguments p{};
    p.z = l.z.data();
    p.a = t.a.data();
    p.g = t.gradient >= 0 ? gradient(l.out) : nullptr;
    p.dz = l.dz >= 0 ? gradients_[l.dz].data() : nullptr;
    p.residual = l.residual >= 0 ? tensors[l.residual].a.data() : nullptr;
    p.channel = {l.scale.data(), l.shift.data(), l.mean.data()};
    p.height = z.height, p.width = z.width;
    p.out_height = a.height, p.out_width = a.width;
    p.z_row = z.row(), p.z_channel = z.channel(), p.z_block = z.block(), p.z_first = z.first();
    p.a_row = a.row(), p.a_channel = a.channel(), p.a_block = a.block(), p.a_first = a.first();
    p.relu = l.spec.relu, p.pool = l.spec.pool;
    return p;
}

// Each sweep over a layer starts where the one before it ended: what that touched last is still in the cache.
void Net::to_and_fro(int turns, const std::function<void(int)> &work) {
    backwards_ = !backwards_;
    parallel(threads, turns, work, backwards_);
}

void Net::each_plane(int channels, const std::function<void(int, Range)> &work) {
    const int parts = std::max(1, std::min(channels, kChunks / blocks_));
    to_and_fro(blocks_ * parts, [&](int turn) {
        const int part = turn % parts;
        work(turn / parts, {int((long)channels * part / parts), int((long)channels * (part + 1) / parts)});
    });
}

void Net::average(Layer &l, bool back) {
    const Geometry &map = tensors[l.in].geometry;
    AverageArguments a{};
    a.height = map.height, a.width = map.width;
    a.in_row = map.row(), a.in_channel = map.channel(), a.in_first = map.first();
    a.add = l.input_adds;
    // A convolution with padding may read the averages: then they have a border, too.
    const Geometry &narrow = tensors[l.out].geometry;
    a.narrow_first = narrow.first(), a.narrow_channel = narrow.channel();
    each_plane(map.channels, [&](int block, Range channels) {
        AverageArguments mine = a;
        if (back) {
            mine.in = gradient(l.out) + block * narrow.block();
            mine.out = gradient(l.in) + block * map.block();
            kernels_.spread(mine, channels);
        } else {
            mine.in = tensors[l.in].a.data() + block * map.block();
            mine.out = tensors[l.out].a.data() + block * narrow.block();
            (pixels_ ? kernels_.average_pixels : kernels_.average)(mine, channels);
        }
    });
}

void Net::forward(const float *x, int images, bool training) {
    check_built(true);
    if (training && !trains_) throw Refused("asked for a pass in training, got a network that is not for training");
    set_images(images);
    pack(x);
    for (Layer &l : layers) {
        if (l.pools()) {
            l.kind == Layer::Kind::kAverage ? average(l, false) : maximum(l, false);
            continue;
        }
        const bool measured = training && l.norm();
        if (!measured) fixed_statistics(l);
        convolve(l, training);
        if (measured) statistics(l);
        if (measured || l.spec.pool) {
            const PlaneArguments p = planes(l);
            const auto finish = pixels_ ? kernels_.pool_pixels : kernels_.finish;
            each_plane(l.spec.outputs, [&](int block, Range channels) { finish(p, block, channels); });
        }
    }
    has_forward_ = training;
    has_activations_ = true;
}

}  // namespace sparse
