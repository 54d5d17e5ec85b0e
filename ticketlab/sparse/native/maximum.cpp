// Max-pooling of any window as a layer of its own.
#include "net.hpp"

namespace sparse {
namespace {

// As torch counts them: with ceil_mode a last window may reach over the edge, but none may begin beyond it.
int windows_along(int size, int kernel, int stride, int padding, bool ceil) {
    const long room = size + 2L * padding - kernel;
    if (room < 0) return 0;
    const int count = int((room + (ceil ? stride - 1 : 0)) / stride) + 1;
    return ceil && (count - 1L) * stride >= size + padding ? count - 1 : count;
}

}  // namespace

int Net::add_maximum(int in, const int *sizes, bool ceil) {
    check_built(false);
    const Geometry &map = tensor(in).geometry;
    Layer l;
    l.kind = Layer::Kind::kMaximum;
    l.in = in;
    LayerSpec &s = l.spec;
    for (int i = 0; i < 2; i++) {
        s.kernel[i] = sizes[i], s.stride[i] = sizes[2 + i], s.padding[i] = sizes[4 + i];
        // With more padding than that a window could lie beyond the map.
        if (s.kernel[i] < 1 || s.stride[i] < 1 || s.padding[i] < 0 || 2L * s.padding[i] > s.kernel[i])
            throw Refused("asked for a max-pooling with a window or stride below 1, or padding of more than half a window");
    }
    // Pixels of a window are numbered in floats.
    if ((long)s.kernel[0] * s.kernel[1] > 1L << 24) throw Refused("asked for a max-pooling window that is too large");
    const int height = windows_along(map.height, s.kernel[0], s.stride[0], s.padding[0], ceil);
    const int width = windows_along(map.width, s.kernel[1], s.stride[1], s.padding[1], ceil);
    if (height < 1 || width < 1) throw Refused("asked for a pooling window that is larger than its input");
    return add_pooling(std::move(l), map.channels, height, width);
}

void Net::maximum(Layer &l, bool back) {
    const Tensor &from = tensors[l.in], &to = tensors[l.out];
    const Geometry &map = from.geometry, &narrow = to.geometry;
    MaximumArguments a{};
    a.height = map.height, a.width = map.width, a.out_height = narrow.height, a.out_width = narrow.width;
    for (int i = 0; i < 2; i++)
        a.kernel[i] = l.spec.kernel[i], a.stride[i] = l.spec.stride[i], a.padding[i] = l.spec.padding[i];
    a.in_row = map.row(), a.in_channel = map.channel(), a.in_first = map.first();
    a.out_row = narrow.row(), a.out_channel = narrow.channel(), a.out_first = narrow.first();
    a.add = l.input_adds;
    each_plane(map.channels, [&](int block, Range channels) {
        MaximumArguments mine = a;
        mine.in = from.a.data() + block * map.block();
        if (back) {
            mine.g = gradient(l.out) + block * narrow.block();
            mine.to = gradient(l.in) + block * map.block();
            kernels_.route(mine, channels);
        } else {
            mine.out = to.a.data() + block * narrow.block();
            (pixels_ ? kernels_.maximum_pixels : kernels_.maximum)(mine, channels);
        }
    });
}

}  // namespace sparse
