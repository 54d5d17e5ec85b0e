// Building a network: shapes and borders, taps, gradient buffers, and who finishes which gradient.
#include <algorithm>
#include <map>
#include <tuple>

#include "net.hpp"
#include "threads.hpp"

namespace sparse {
namespace {

constexpr long kMostFloats = 1L << 31;
// Of a kernel, stride, padding or dilation: sums of such are far from what an int holds.
constexpr int kMostPlaces = 1 << 20;

int outputs_along(int size, int kernel, int stride, int padding, int dilation) {
    const long room = size + 2L * padding - (long)dilation * (kernel - 1);
    return room < 1 ? 0 : int((room - 1) / stride) + 1;
}

// Offsets into maps are 32 bits wide. Counted in doubles, as sizes beyond all sense overflow integers of any width.
void check_size(const Geometry &g) {
    const double row = ((double)g.width + g.border) * g.lanes, more = g.lanes == 1 ? kPlaces : 0;
    const double channel = ((double)g.height + g.border) * row + more, first = g.border * (row + g.lanes) + more;
    if (2 * (g.channels * channel + first) >= (double)kMostFloats) throw Refused("asked for maps that are too large");
}

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Pixels beyond the edges of a map that a pass reads: places from `low` to `high` of 0 ... size - 1.
int beyond(int low, int high, int size) { return std::max({0, -low, high - (size - 1)}); }

struct Axis {
    int size, out, kernel, stride, padding, dilation;
    int residue_count(int residue) const { return size > residue ? ceil_div(size - residue, stride) : 0; }
    // The output that an input pixel of a residue meets at kernel place k, less its own number among those pixels.
    bool meets(int residue, int k, int &at) const {
        const int distance = residue + padding - k * dilation;
        if (distance % stride) return false;
        at = distance / stride;
        return true;
    }
    int forward_border() const {
        return beyond(-padding, (out - 1) * stride + (kernel - 1) * dilation - padding, size);
    }
    // Output pixel o and kernel place k meet input pixel (o + shift) * stride + residue.
    int residue(int k) const { return ((k * dilation - padding) % stride + stride) % stride; }
    int shift(int k) const { return (k * dilation - padding - residue(k)) / stride; }
    // The most pixels of one residue that are read, and the most beyond their edges.
    int split_size() const {
        int found = 1;
        for (int k = 0; k < kernel; k++) found = std::max(found, std::min(residue_count(residue(k)), out + shift(k)));
        return found;
    }
    int split_border() const {
        int found = 0;
        for (int k = 0; k < kernel; k++)
            found = std::max(found, beyond(shift(k), out - 1 + shift(k), residue_count(residue(k))));
        return found;
    }
    int backward_border() const {
        int found = 0, at = 0;
        for (int r = 0; r < std::min(stride, size); r++)
            for (int k = 0; k < kernel; k++)
                if (meets(r, k, at)) found = std::max(found, beyond(at, residue_count(r) - 1 + at, out));
        return found;
    }
};

std::pair<Axis, Axis> axes(const Layer &l, const Geometry &in) {
    const LayerSpec &s = l.spec;
    const auto axis = [&](int i, int size, int out) {
        return Axis{size, out, s.kernel[i], s.stride[i], s.padding[i], s.dilation[i]};
    };
    return {axis(0, in.height, l.z_geometry.height), axis(1, in.width, l.z_geometry.width)};
}

}  // namespace

Net::Net(const Kernels &kernels, int batch, int channels, int height, int width, bool trains, bool input_gradient,
         bool pixels)
    : kernels_(kernels), batch_(batch), trains_(trains), pixels_(pixels), lanes_(pixels ? 1 : kernels.lanes) {
    if (batch < 1 || channels < 1 || height < 1 || width < 1)
        throw Refused("asked for a batch of " + std::to_string(batch) + " inputs of " + std::to_string(channels) + " x " +
                      std::to_string(height) + " x " + std::to_string(width) + ", got a size below 1");
    if (pixels && trains) throw Refused("asked for a network that trains with its pixels in lanes: only answers can");
    Tensor input;
    input.geometry = {channels, height, width, 0, lanes_};
    check_size(input.geometry);
    input.wanted = trains && input_gradient;
    tensors.push_back(std::move(input));
}

Layer &Net::layer(int i) {
    if (i < 0 || i >= (int)layers.size())
        throw Refused("asked for layer " + std::to_string(i) + ", got " + std::to_string(layers.size()) + " layers");
    return layers[i];
}

const Tensor &Net::tensor(int i) const {
    if (i < 0 || i >= (int)tensors.size())
        throw Refused("asked for tensor " + std::to_string(i) + ", got " + std::to_string(tensors.size()) + " tensors");
    return tensors[i];
}

void Net::check_built(bool built) const {
    if (built != built_) throw Refused(built ? "the network is not built yet" : "the network is built already");
}

int Net::add_average(int in) {
    check_built(false);
    Layer l;
    l.kind = Layer::Kind::kAverage;
    l.in = in;
    return add_pooling(std::move(l), tensor(in).geometry.channels, 1, 1);
}

int Net::add_pooling(Layer l, int channels, int height, int width) {
    l.out = (int)tensors.size();
    Tensor out;
    out.geometry = {channels, height, width, 0, lanes_};
    out.producer = (int)layers.size();
    out.wanted = trains_;
    tensors.push_back(std::move(out));
    layers.push_back(std::move(l));
    return layers.back().out;
}

int Net::add_layer(const LayerSpec &given) {
    check_built(false);
    const int known = (int)tensors.size();
    Layer l;
    l.spec = given;
    LayerSpec &s = l.spec;
    l.in = s.in;
    l.residual = s.residual < 0 ? -1 : s.residual;
    l.out = known;
    const Geometry &in = tensor(l.in).geometry;
    if (s.linear) {
        for (int i = 0; i < 2; i++) s.kernel[i] = s.stride[i] = s.dilation[i] = 1, s.padding[i] = 0;
        s.groups = 1;
    }
    for (int i = 0; i < 2; i++)
        if (s.kernel[i] < 1 || s.stride[i] < 1 || s.dilation[i] < 1 || s.padding[i] < 0)
            throw Refused("asked for a convolution with a kernel, stride or dilation below 1, or a padding below 0");
    for (int i = 0; i < 2; i++)
        if (std::max({s.kernel[i], s.stride[i], s.dilation[i], s.padding[i]}) > kMostPlaces)
            throw Refused("asked for a convolution with a kernel, stride, dilation or padding of more than " +
                          std::to_string(kMostPlaces) + " places");
    l.inputs = s.linear ? in.channels * in.height * in.width : in.channels;
    if (s.outputs < 1 || s.groups < 1 || l.inputs % s.groups || s.outputs % s.groups)
        throw Refused("asked for " + std::to_string(s.groups) + " groups, got " + std::to_string(l.inputs) + " input and " +
                      std::to_string(s.outputs) + " output channels");
    if (s.columns != l.inputs / s.groups)
        throw Refused("asked for a weight with " + std::to_string(s.columns) + " columns, got " + std::to_string(l.inputs) +
                      " inputs in " + std::to_string(s.groups) + " groups");
    Geometry &z = l.z_geometry;
    z = {s.outputs, 1, 1, 0, lanes_};
    if (!s.linear) {
        z.height = outputs_along(in.height, s.kernel[0], s.stride[0], s.padding[0], s.dilation[0]);
        z.width = outputs_along(in.width, s.kernel[1], s.stride[1], s.padding[1], s.dilation[1]);
    }
    Tensor out;
    out.geometry = z;
    if (s.pool) {
        const int more = s.pool == 2;
        out.geometry.height = (z.height + more) / 2;
        out.geometry.width = (z.width + more) / 2;
    }
    if (z.height < 1 || z.width < 1 || out.geometry.height < 1 || out.geometry.width < 1)
        throw Refused("asked for a kernel or a pooling window that is larger than its input");
    check_size(z);
    if (l.residual >= 0) {
        const Geometry &r = tensor(l.residual).geometry;
        if (s.pool || r.channels != z.channels || r.height != z.height || r.width != z.width)
            throw Refused("asked for a residual of another shape than the layer's output, or before a pooling");
    }
    const long total = (long)s.outputs * (l.inputs / s.groups) * s.kernel[0] * s.kernel[1];
    if (s.kept < 0 || s.kept > total || total >= kMostFloats) throw Refused("asked for more weights than the layer has");
    for (int64_t i = 0; i < s.kept; i++)
        if (s.positions[i] < 0 || s.positions[i] >= total || (i && s.positions[i] <= s.positions[i - 1]))
            throw Refused("asked for kept weights at places that do not ascend, or lie outside the layer");

    l.weight = Parameter(s.kept, s.frozen ? 1.0f / (float)(s.kernel[0] * s.kernel[1]) : 0.0f);
    l.bias = Parameter(s.outputs);
    l.gamma = Parameter(s.outputs, 1.0f);
    l.beta = Parameter(s.outputs);
    l.running_mean.assign(s.outputs, 0.0f);
    l.running_var.assign(s.outputs, 1.0f);
    for (auto *v : {&l.scale, &l.shift, &l.mean, &l.c1, &l.c2, &l.c3}) v->assign(s.outputs, 0.0f);
    for (auto *v : {&l.rest, &l.inverse, &l.slope_sum, &l.slope_product}) v->assign(s.outputs, 0.0);

    if (s.norm && !s.pool)
        out.slope = !s.relu ? Epilogue::kSlopeNorm : l.residual < 0 ? Epilogue::kSlopeNormByZ : Epilogue::kSlopeNormByA;
    else if (!s.pool)
        out.slope = s.relu ? Epilogue::kSlopePlainByA : Epilogue::kSlopePlain;
    out.producer = (int)layers.size();
    out.wanted = trains_;
    // The taps are found when the borders are known; until then the places of the weights are kept in them.
    l.forward.taps.reserve(s.kept);
    const long window = (long)s.kernel[0] * s.kernel[1], row = l.inputs / s.groups * window;
    for (int64_t i = 0; i < s.kept; i++) {
        const int output = int(s.positions[i] / row), group = output / (s.outputs / s.groups);
        const int input = group * (l.inputs / s.groups) + int(s.positions[i] % row / window);
        l.forward.taps.push_back({output, input, int(s.positions[i] % window), (int)i});
    }
    s.positions = nullptr;
    tensors.push_back(std::move(out));
    layers.push_back(std::move(l));
    return layers.back().out;
}

// Borders first, as everything else counts in floats; then taps, memory and the way back.
class Builder {
  public:
    explicit Builder(Net &net) : net_(net) {}

    void build() {
        borders();
        for (Layer &l : net_.layers)
            if (!l.pools()) taps(l);
        memory();
        if (net_.trains_) way_back();
        sums();
    }

  private:
    Geometry &in(const Layer &l) { return net_.tensors[l.in].geometry; }
    Geometry &out(const Layer &l) { return net_.tensors[l.out].geometry; }

    void borders() {
        for (Layer &l : net_.layers) {
            if (l.pools() || l.spec.linear) continue;
            const auto [y, x] = axes(l, in(l));
            if (net_.pixels_) {
                pixel_borders(l, y, x);
                continue;
            }
            in(l).border = std::max({in(l).border, y.forward_border(), x.forward_border()});
            l.z_geometry.border = std::max(y.backward_border(), x.backward_border());
        }
        // dz may take the place of the output's gradient, and a residual's gradient that of the sum it went into.
        for (bool changed = true; changed;) {
            changed = false;
            const auto equal = [&](Geometry &a, Geometry &b) {
                changed |= a.border != b.border;
                a.border = b.border = std::max(a.border, b.border);
            };
            for (Layer &l : net_.layers) {
                if (!l.pools() && !l.spec.pool) equal(l.z_geometry, out(l));
                if (net_.pixels_ && !l.pools() && reads_in_place(l)) equal(in(l), l.z_geometry);
                if (l.residual >= 0) equal(net_.tensors[l.residual].geometry, out(l));
            }
        }
        for (const Tensor &t : net_.tensors) check_size(t.geometry);
        for (const Layer &l : net_.layers) check_size(l.z_geometry);
    }

    // Lanes are pixels: a vector that is shifted by a tap must meet the same rows in the input as in the output. So both
    // have the same width with the border, or the input is split into maps that do.
    bool reads_in_place(const Layer &l) {
        const LayerSpec &s = l.spec;
        const Geometry &i = in(l), &z = l.z_geometry;
        return !s.linear && s.stride[0] == 1 && s.stride[1] == 1 && i.height == z.height && i.width == z.width;
    }

    void pixel_borders(Layer &l, const Axis &y, const Axis &x) {
        if (reads_in_place(l)) {
            in(l).border = std::max({in(l).border, y.forward_border(), x.forward_border()});
            return;
        }
        Geometry &g = l.split_geometry;
        // One map for each residue, read or not.
        if ((double)in(l).channels * y.stride * x.stride >= (double)kMostFloats)
            throw Refused("asked for maps that are too large");
        g = {in(l).channels * y.stride * x.stride, y.split_size(), x.split_size(),
             std::max(y.split_border(), x.split_border()), 1};
        l.z_geometry.border = std::max(l.z_geometry.border, g.width + g.border - l.z_geometry.width);
    }

    // Which floats of a channel of z are pixels.
    void mark_pixels(Layer &l) {
        const Geometry &z = l.z_geometry;
        l.live = Buffer(z.channel());
        for (int y = 0; y < z.height; y++) std::fill_n(l.live.data() + y * z.row(), z.width, 1.0f);
    }

    // One line of vectors from a channel's first pixel to its last one.
    void pixel_taps(Layer &l, const std::vector<Tap> &weights, const Axis &y, const Axis &x) {
        const LayerSpec &s = l.spec;
        Geometry &g = l.split_geometry;
        const Geometry &z = l.z_geometry;
        const bool split = g.channels > 0;
        if (split) {
            // Its rows are as long as those of z, whatever that made them.
            g.border += int(z.row() - g.row());
            check_size(g);
            l.split = Buffer(g.floats(blocks()));
        }
        const Geometry &read = split ? g : in(l);
        const int lanes = net_.kernels_.lanes;
        Sweep &f = l.forward;
        f.out_offset = offsets(z, false);
        f.height = 1;
        f.width = ceil_div(int((z.height - 1) * z.row()) + z.width, lanes);
        f.pitch = {read.first(), read.block(), read.row(), lanes, z.first(), z.block(), z.row(), lanes};
        const std::vector<long> in_offset = offsets(in(l), s.linear);
        f.taps.reserve(weights.size());
        for (const Tap &w : weights) {
            const int ky = w.offset / s.kernel[1], kx = w.offset % s.kernel[1];
            long from = in_offset[w.input];
            if (split) {
                const int channel = (w.input * y.stride + y.residue(ky)) * x.stride + x.residue(kx);
                from = channel * g.channel() + y.shift(ky) * g.row() + x.shift(kx);
            } else if (!s.linear) {
                from += (ky * s.dilation[0] - s.padding[0]) * read.row() + kx * s.dilation[1] - s.padding[1];
            }
            f.taps.push_back({w.output, w.input, int(from), w.weight});
        }
        mark_pixels(l);
    }

    // Channels of a map, or the pixels of a flattened one, from a tile's first pixel.
    std::vector<long> offsets(const Geometry &g, bool flat) const {
        std::vector<long> found;
        for (int c = 0; c < g.channels; c++) {
            if (!flat) {
                found.push_back(c * g.channel());
                continue;
            }
            for (int y = 0; y < g.height; y++)
                for (int x = 0; x < g.width; x++) found.push_back(c * g.channel() + y * g.row() + (long)x * g.lanes);
        }
        return found;
    }

    void taps(Layer &l) {
        const LayerSpec &s = l.spec;
        const Geometry &i = in(l), &z = l.z_geometry;
        const std::vector<long> in_offset = offsets(i, s.linear), out_offset = offsets(z, false);
        const auto [ay, ax] = axes(l, i);
        std::vector<Tap> weights;
        weights.swap(l.forward.taps);
        if (net_.pixels_) return pixel_taps(l, weights, ay, ax);
        const int residues_y = s.linear ? 1 : std::min(s.stride[0], i.height);
        const int residues_x = s.linear ? 1 : std::min(s.stride[1], i.width);

        Sweep &f = l.forward;
        f.out_offset = out_offset;
        f.height = z.height;
        f.width = z.width;
        f.pitch = {i.first(), i.block(), s.stride[0] * i.row(), (long)s.stride[1] * i.lanes,
                   z.first(), z.block(), z.row(), z.lanes};
        f.taps.reserve(weights.size());
        for (const Tap &w : weights) {
            const int ky = w.offset / s.kernel[1], kx = w.offset % s.kernel[1];
            const long pixel = (ky * s.dilation[0] - s.padding[0]) * i.row() +
                               (long)(kx * s.dilation[1] - s.padding[1]) * i.lanes;
            f.taps.push_back({w.output, w.input, int(in_offset[w.input] + pixel), w.weight});
        }
        if (!net_.tensors[l.in].wanted) return;
        for (int ry = 0; ry < residues_y; ry++)
            for (int rx = 0; rx < residues_x; rx++) {
                Sweep b;
                b.out_offset = in_offset;
                b.height = s.linear ? 1 : ay.residue_count(ry);
                b.width = s.linear ? 1 : ax.residue_count(rx);
                b.pitch = {z.first(), z.block(), z.row(), z.lanes, i.first() + ry * i.row() + (long)rx * i.lanes,
                           i.block(), s.stride[0] * i.row(), (long)s.stride[1] * i.lanes};
                for (const Tap &w : weights) {
                    int y = 0, x = 0;
                    const int ky = w.offset / s.kernel[1], kx = w.offset % s.kernel[1];
                    if (ay.meets(ry, ky, y) && ax.meets(rx, kx, x))
                        b.taps.push_back({w.input, w.output,
                                          int(out_offset[w.output] + y * z.row() + (long)x * z.lanes), w.weight});
                }
                l.backward.push_back(std::move(b));
            }
    }

    long blocks() const { return ceil_div(net_.batch_, net_.lanes_); }

    void memory() {
        for (Tensor &t : net_.tensors) t.a = Buffer(t.geometry.floats(blocks()));
        for (Layer &l : net_.layers)
            if (net_.trains_ ? l.has_z() : l.spec.pool != 0) l.z = Buffer(l.z_geometry.floats(blocks()));
    }

    // Gradient buffers are lent and given back; each keeps its shape, as its border must stay zero.
    int lend(const Geometry &g) {
        auto &free = free_[{g.channels, g.height, g.width, g.border}];
        if (free.empty()) {
            free.push_back((int)net_.gradients_.size());
            net_.gradients_.emplace_back(blocks() * g.block());
            users_.push_back(0);
        }
        const int found = free.back();
        free.pop_back();
        users_[found] = 1;
        return found;
    }

    void give_back(int buffer, const Geometry &g) {
        if (--users_[buffer] == 0) free_[{g.channels, g.height, g.width, g.border}].push_back(buffer);
    }

    // The layers from last to first: which part of a tensor's gradient comes first and starts it, which comes last and
    // can finish it (ReLU and sums) while it is in registers.
    void way_back() {
        std::vector<int> parts(net_.tensors.size(), 0);
        for (const Layer &l : net_.layers) {
            parts[l.in]++;
            if (l.residual >= 0) parts[l.residual]++;
        }
        std::vector<Tensor> &tensors = net_.tensors;
        tensors.back().gradient = lend(tensors.back().geometry);
        for (size_t n = net_.layers.size(); n-- > 0;) {
            Layer &l = net_.layers[n];
            Tensor &to = tensors[l.out];
            if (to.gradient < 0) throw Refused("asked for a layer whose output is not used");
            if (l.residual >= 0 && tensors[l.residual].wanted) {
                Tensor &r = tensors[l.residual];
                parts[l.residual]--;
                if (r.gradient >= 0) {
                    l.skip = Layer::Skip::kAdds;
                } else {
                    l.skip = Layer::Skip::kShares;
                    r.gradient = to.gradient;
                    users_[r.gradient]++;
                }
            }
            if (!l.pools()) {
                l.dz_is_own = l.residual >= 0 || l.spec.pool;
                l.dz = l.dz_is_own ? lend(l.z_geometry) : to.gradient;
            }
            Tensor &from = tensors[l.in];
            parts[l.in]--;
            if (from.wanted) {
                l.input_wanted = true;
                l.input_adds = from.gradient >= 0;
                if (!l.input_adds) from.gradient = lend(from.geometry);
                const bool last = parts[l.in] == 0 && from.producer >= 0;
                // A flattened map has several pixels for each of the producer's channels.
                const bool flat = l.spec.linear && (from.geometry.height > 1 || from.geometry.width > 1);
                l.input_finishes = last && !l.pools() && !flat && from.slope != Epilogue::kStore;
                if (l.input_finishes) net_.layers[from.producer].slope_is_fused = true;
            }
            if (l.dz_is_own) give_back(l.dz, l.z_geometry);
            give_back(to.gradient, to.geometry);
        }
    }

    // Room for the sums of any pass.
    void sums() {
        long most = 1;
        const auto chunks = [&](const Sweep &s) {
            return std::min(kChunks + 1L, blocks() * s.height * s.width) * (long)s.out_offset.size();
        };
        for (const Layer &l : net_.layers) {
            if (l.pools()) continue;
            long back = 0;
            for (const Sweep &s : l.backward) back += chunks(s);
            most = std::max({most, chunks(l.forward), back, l.spec.outputs * blocks()});
        }
        net_.partial_ = Buffer(most * kSums * net_.kernels_.lanes);
        net_.live_ = Buffer(2 * net_.kernels_.lanes);
    }

    Net &net_;
    std::map<std::tuple<int, int, int, int>, std::vector<int>> free_;
    std::vector<int> users_;
};

void Net::build() {
    check_built(false);
    if (layers.empty()) throw Refused("asked for a network without layers");
    Builder(*this).build();
    built_ = true;
    set_images(batch_);
    for (int i = 0; i < (int)layers.size(); i++) {
        if (layers[i].pools()) continue;
        for (Pass p : {kForward, kInputGradient, kWeightGradient})
            if (p == kForward || (trains_ && !(layers[i].spec.frozen && p == kWeightGradient))) choose(i, p, usual(i, p));
    }
}

}  // namespace sparse
