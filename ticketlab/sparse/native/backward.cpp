// The way back: gradients of everything that is trained, and of the input if it was asked for.
#include <algorithm>
#include <cmath>

#include "net.hpp"
#include "threads.hpp"

namespace sparse {

// Mean cross-entropy of the last layer's outputs, and its gradient; each image's share in double precision.
double Net::loss(const int64_t *targets, float *logits) {
    const Tensor &t = tensors.back();
    const Geometry &g = t.geometry;
    if (!has_forward_) throw Refused("asked for a loss, got no forward pass in training before it");
    if (g.height != 1 || g.width != 1) throw Refused("asked for a loss, got a network that ends in maps");
    for (int i = 0; i < images_; i++)
        if (targets[i] < 0 || targets[i] >= g.channels)
            throw Refused("asked for class " + std::to_string(targets[i]) + ", got " + std::to_string(g.channels) + " outputs");
    if (logits) unpack((int)tensors.size() - 1, false, images_, logits);
    double total = 0;
    float *slopes = gradients_[t.gradient].data() + g.first();
    for (int i = 0; i < blocks_ * g.lanes; i++) {
        const long at = i / g.lanes * g.block() + g.first() + i % g.lanes;
        const float *z = t.a.data() + at;
        float *slope = slopes + at - g.first();
        if (i >= images_) {
            for (int c = 0; c < g.channels; c++) slope[c * g.channel()] = 0.0f;
            continue;
        }
        double largest = -HUGE_VAL, sum = 0;
        for (int c = 0; c < g.channels; c++) {
            const double v = z[c * g.channel()];
            // A NaN stays, as comparisons with it are false.
            if (!(v <= largest)) largest = v;
            if (std::isnan(v)) break;
        }
        for (int c = 0; c < g.channels; c++) sum += std::exp(z[c * g.channel()] - largest);
        total -= z[targets[i] * g.channel()] - largest - std::log(sum);
        for (int c = 0; c < g.channels; c++) {
            const double share = std::exp(z[c * g.channel()] - largest) / sum;
            slope[c * g.channel()] = (float)((share - (c == targets[i])) / images_);
        }
    }
    has_output_gradient_ = true;
    return total / images_;
}

// The sums that a layer's batch norm or bias needs, from those of each chunk and lane.
void Net::take_sums(Layer &l, int chunks) {
    const int channels = l.spec.outputs, lanes = kernels_.lanes;
    constexpr int kChannels = 16;
    parallel(threads, (channels + kChannels - 1) / kChannels, [&](int turn) {
        for (int c = turn * kChannels; c < std::min(channels, (turn + 1) * kChannels); c++) {
            double first = 0, second = 0;
            for (int k = 0; k < chunks; k++) {
                const float *p = partial_.data() + ((long)k * kSums * channels + c) * lanes;
                for (int i = 0; i < lanes; i++) {
                    first += p[i];
                    second += p[i + (long)channels * lanes];
                }
            }
            l.slope_sum[c] = first;
            l.slope_product[c] = second;
        }
    });
}

// The ReLU's share and the sums, where the last part of the gradient did not bring them.
void Net::slope(Layer &l) {
    const PlaneArguments p = planes(l);
    const int channels = l.spec.outputs;
    const Epilogue e = tensors[l.out].slope;
    each_plane(channels, [&](int block, Range range) {
        float *mine = partial_.data() + (long)block * kSums * channels * kernels_.lanes;
        if (l.spec.pool)
            kernels_.pool_sums(p, block, range, channels, mine);
        else
            kernels_.slope(p, e, block, range, channels, mine);
    });
    take_sums(l, blocks_);
}

// The gradient of z. With d = z - mean as a float, x = d - rest is what batch norm centred:
// dz = gamma * inverse * (dy - mean(dy) - x * inverse^2 * mean(dy * x)).
void Net::unfinish(Layer &l) {
    const double count = (double)images_ * l.z_geometry.height * l.z_geometry.width;
    for (int c = 0; c < l.spec.outputs; c++) {
        const double sum = l.slope_sum[c], product = l.slope_product[c] - l.rest[c] * sum;
        if (!l.norm()) {
            l.bias.gradient[c] = (float)sum;
            continue;
        }
        const double inverse = l.inverse[c], gain = l.gamma.value[c] * inverse;
        l.gamma.gradient[c] = (float)(product * inverse);
        l.beta.gradient[c] = (float)sum;
        // Batch norm takes out whatever the bias adds.
        l.bias.gradient[c] = 0.0f;
        const double c2 = -gain * inverse * inverse * product / count;
        l.c1[c] = (float)gain;
        l.c2[c] = (float)c2;
        l.c3[c] = (float)(-gain * sum / count - c2 * l.rest[c]);
    }
    if (!l.norm() && !l.dz_is_own) return;
    PlaneArguments p = planes(l);
    if (l.norm()) p.c1 = l.c1.data(), p.c2 = l.c2.data(), p.c3 = l.c3.data();
    each_plane(l.spec.outputs, [&](int block, Range channels) {
        PlaneArguments mine = p;
        mine.live = live_.data() + (block == blocks_ - 1 ? lanes_ : 0);
        kernels_.unfinish(mine, block, channels);
    });
}

void Net::weight_gradient(Layer &l) {
    const Sweep &f = l.forward;
    const Lists &lists = l.weight_lists;
    const bool quad = l.choice[kWeightGradient].quad;
    WeightArguments a{};
    a.in = tensors[l.in].a.data();
    a.dz = gradients_[l.dz].data();
    a.dz_offset = f.out_offset.data();
    a.in_block = f.pitch.in_block, a.in_row = f.pitch.in_row, a.in_pixel = f.pitch.in_pixel;
    a.dz_block = f.pitch.out_block, a.dz_row = f.pitch.out_row, a.dz_pixel = f.pitch.out_pixel;
    a.lists = lists.view();
    const int tiles = quad ? (int)l.weight_boxes.size() : (int)l.weight_tiling.tiles.size();
    // Few tiles leave enough work for threads in the channels alone.
    const int chunks = tiles <= kWeightChunks ? 1 : kWeightChunks;
    const long values = lists.values();
    to_and_fro(chunks * lists.parts(), [&](int turn) {
        const int chunk = turn / lists.parts(), part = turn % lists.parts();
        const int begin = int((long)tiles * chunk / chunks), end = int((long)tiles * (chunk + 1) / chunks);
        float *mine = weight_partial_.data() + chunk * values;
        for (int b = 0; b < lists.blocks(); b++) {
            const Range r = lists.values_of(b, part);
            std::fill(mine + r.begin, mine + r.end, 0.0f);
        }
        if (quad)
            kernels_.weight_gradient_quad(a, l.weight_boxes.data() + begin, end - begin, lists.part(part), mine);
        else
            kernels_.weight_gradient(a, l.weight_tiling.tiles.data() + begin, end - begin, lists.part(part), mine);
    });
    constexpr long kStretch = 1 << 14;
    parallel(threads, int((values + kStretch - 1) / kStretch), [&](int turn) {
        for (long i = turn * kStretch; i < std::min(values, (turn + 1) * kStretch); i++) {
            const int w = lists.weight()[i];
            if (w < 0) continue;
            float sum = weight_partial_.data()[i];
            for (int k = 1; k < chunks; k++) sum += weight_partial_.data()[k * values + i];
            l.weight.gradient[w] = sum;
        }
    });
}

void Net::input_gradient(Layer &l) {
    const Tensor &t = tensors[l.in];
    ConvArguments a{};
    a.in = gradients_[l.dz].data();
    a.out = gradient(l.in);
    a.add = l.input_adds;
    a.epilogue = Epilogue::kStore;
    std::vector<Sweep *> sweeps;
    int chunks = 0;
    for (Sweep &s : l.backward) {
        // Pixels that the layer never looked at get nothing from it.
        if (s.taps.empty() && a.add && !l.input_finishes) continue;
        sweeps.push_back(&s);
        chunks += (int)s.tiling.chunks.size();
    }
    if (l.input_finishes) {
        const Layer &p = layers[t.producer];
        a.epilogue = t.slope;
        a.z = p.z.data();
        a.a = t.slope == Epilogue::kSlopeNormByA || t.slope == Epilogue::kSlopePlainByA ? t.a.data() : nullptr;
        a.channel = {p.scale.data(), p.shift.data(), p.mean.data()};
    }
    sweep(sweeps, a);
    if (l.input_finishes) take_sums(layers[t.producer], chunks);
}

void Net::backward(const float *output_gradient) {
    if (!has_forward_) throw Refused("asked for gradients, got no forward pass in training before it");
    const Tensor &last = tensors.back();
    if (output_gradient) {
        const Geometry &g = last.geometry;
        float *to = gradients_[last.gradient].data() + g.first();
        const long plane = (long)g.height * g.width;
        for (long i = 0; i < (long)blocks_ * g.lanes; i++)
            for (int c = 0; c < g.channels; c++)
                for (int y = 0; y < g.height; y++)
                    for (int x = 0; x < g.width; x++)
                        to[i / g.lanes * g.block() + c * g.channel() + y * g.row() + (long)x * g.lanes + i % g.lanes] =
                            i < images_ ? output_gradient[(i * g.channels + c) * plane + y * g.width + x] : 0.0f;
    } else if (!has_output_gradient_) {
        throw Refused("asked for gradients, got no loss before it");
    }
    for (size_t n = layers.size(); n-- > 0;) {
        Layer &l = layers[n];
        if (l.pools()) {
            if (l.input_wanted) l.kind == Layer::Kind::kAverage ? average(l, true) : maximum(l, true);
            continue;
        }
        if (!l.slope_is_fused) slope(l);
        if (l.skip == Layer::Skip::kAdds) {
            const Geometry &g = tensors[l.out].geometry;
            each_plane(g.channels, [&](int block, Range channels) {
                const long at = block * g.block() + channels.begin * g.channel();
                const size_t count = (channels.end - channels.begin) * g.channel();
                kernels_.add(gradient(l.out) + at, gradient(l.residual) + at, count);
            });
        }
        unfinish(l);
        if (!l.spec.frozen) weight_gradient(l);
        if (l.input_wanted) input_gradient(l);
    }
    // The buffers hold other tensors' gradients by now; a second way back would need another forward pass.
    has_forward_ = has_output_gradient_ = false;
    has_gradients_ = true;
}

// SGD as torch.optim.SGD defines it, without dampening; buffers that start at zero are the same as none.
void Net::update(double lr, double momentum, double decay, bool nesterov) {
    if (!has_gradients_) throw Refused("asked for an update, got no gradients before it");
    const float rate = (float)lr, keep = (float)momentum, shrink = (float)decay;
    const auto step = [&](Parameter &p, long begin, long end) {
        float *w = p.value.data(), *m = p.momentum.data();
        const float *g = p.gradient.data();
        for (long i = begin; i < end; i++) {
            const float slope = g[i] + shrink * w[i];
            m[i] = keep * m[i] + slope;
            w[i] -= rate * (nesterov ? slope + keep * m[i] : m[i]);
        }
    };
    constexpr long kStretch = 1 << 14;
    for (Layer &l : layers) {
        if (l.pools()) continue;
        const long count = l.spec.frozen ? 0 : (long)l.weight.value.size();
        parallel(threads, int((count + kStretch - 1) / kStretch), [&](int turn) {
            step(l.weight, turn * kStretch, std::min(count, (turn + 1) * kStretch));
        });
        if (l.spec.bias) step(l.bias, 0, l.spec.outputs);
        if (l.norm() && l.spec.affine) {
            step(l.gamma, 0, l.spec.outputs);
            step(l.beta, 0, l.spec.outputs);
        }
        if (count) refresh(l);
    }
    has_gradients_ = false;
}

}  // namespace sparse
