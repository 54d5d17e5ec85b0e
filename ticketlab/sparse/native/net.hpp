// A network as a plan: its tensors, its layers with their lists of taps, and the memory of a training step.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "memory.hpp"
#include "taps.hpp"
#include "tiles.hpp"

namespace sparse {

// Something that the caller asked for and cannot have; the message says what.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Maps in blocks of images, [block][channel][row][column][lane], with a border of zeros for the padding. What is right
// of a row is left of the next one, and what is below a channel is above the next one: small maps are mostly border.
// With one lane a vector holds neighbouring pixels; then channels begin at whole vectors.
struct Geometry {
    int channels = 0, height = 0, width = 0, border = 0, lanes = 0;
    long row() const { return long(width + border) * lanes; }
    long channel() const { return whole((height + border) * row()); }
    // An odd number of cache lines: tiles read the same pixel of up to sixteen blocks, which must not share a set of the cache.
    long block() const { return ((channels * channel() + first() + kLine - 1) / kLine | 1) * kLine; }
    long first() const { return whole(border * (row() + lanes)); }
    // Of so many blocks. A vector of pixels may reach beyond the last of them.
    long floats(long blocks) const { return blocks * block() + (lanes == 1 ? first() + kPlaces : 0); }
    static constexpr long kLine = 16;
    long whole(long floats) const { return lanes == 1 ? (floats + kPlaces - 1) / kPlaces * kPlaces : floats; }
    bool operator==(const Geometry &o) const {
        return channels == o.channels && height == o.height && width == o.width && border == o.border;
    }
};

struct Tensor {
    Geometry geometry;
    Buffer a;
    int producer = -1;     // the layer that gives it; -1 for the input
    bool wanted = false;   // whether its gradient is
    int gradient = -1;     // which gradient buffer holds it
    Epilogue slope = Epilogue::kStore;  // what turns the gradient of its values into that before the ReLU
};

struct Parameter {
    std::vector<float> value, momentum, gradient;
    explicit Parameter(size_t n = 0, float x = 0) : value(n, x), momentum(n, 0.0f), gradient(n, 0.0f) {}
};

// How one pass of one layer runs: which tile, how many input channels at a time, and whether channels share lists.
struct Choice {
    int quad = 0, shape = 0, block = 0;
};

enum Pass { kForward, kInputGradient, kWeightGradient, kPasses };

// What the caller says about a layer; ctypes fills it in, so only plain fields.
struct LayerSpec {
    int32_t in, residual;             // tensors; residual -1: none
    int32_t outputs, columns;         // of the weight: columns is its second dimension
    int32_t kernel[2], stride[2], padding[2], dilation[2], groups;
    int32_t linear;                   // a linear layer on the flattened input
    int32_t bias, norm, affine, relu; // 0 or 1
    int32_t pool;                     // 0: none, 1: 2x2 windows, 2: the same with ceil_mode
    int32_t frozen;                   // kept weights are one over the kernel's places, for good
    double eps, momentum;
    int64_t kept;                     // how many weights live, and which (flat, ascending)
    const int64_t *positions;
};

// One convolution over lists of taps, with its tiles. A strided input gradient takes several, one for each residue of
// the pixels' places.
struct Sweep {
    std::vector<Tap> taps;
    std::vector<long> out_offset;
    int height = 0, width = 0;        // of the pixels that it writes
    Pitch pitch{};
    Lists lists;
    Tiling tiling;
};

struct Layer {
    // Global average pools and max-pooling of any window have no weights, and of `spec` only the window.
    enum class Kind { kConvolution, kAverage, kMaximum } kind = Kind::kConvolution;
    LayerSpec spec{};
    int in = 0, out = 0, residual = -1;
    int inputs = 0;                   // channels, of the flattened input for a linear layer
    Geometry z_geometry;
    Buffer z;                         // empty where the activation itself is all that is needed
    Parameter weight, bias, gamma, beta;
    std::vector<float> running_mean, running_var;
    Choice choice[kPasses];
    Sweep forward;
    // Where lanes are pixels: which floats of a channel of z are pixels; and what the sweep reads instead of its input,
    // if that has a stride or another row.
    Buffer live, split;
    Geometry split_geometry;
    std::vector<Sweep> backward;
    Lists weight_lists;
    Tiling weight_tiling;
    std::vector<Box> weight_boxes;
    // Constants of a step, per channel. `rest` is what the mean loses when it becomes a float.
    std::vector<float> scale, shift, mean, c1, c2, c3;
    std::vector<double> rest, inverse, slope_sum, slope_product;
    // The way back, as the plan laid it out.
    bool slope_is_fused = false;      // the last part of the output's gradient brings its ReLU and sums
    bool input_wanted = false, input_adds = false, input_finishes = false;
    enum class Skip { kNone, kShares, kAdds } skip = Skip::kNone;
    int dz = -1;                      // gradient buffer
    bool dz_is_own = false;           // dz is not the buffer of the output's gradient

    bool pools() const { return kind != Kind::kConvolution; }
    bool norm() const { return spec.norm != 0; }
    // Without batch norm and pooling the convolution's epilogue gives the activation at once.
    bool has_z() const { return !pools() && (spec.norm || spec.pool); }
};

class Net {
  public:
    // `pixels`: the lanes of a vector are pixels, not images; for a network of few images that does not train.
    Net(const Kernels &kernels, int batch, int channels, int height, int width, bool trains, bool input_gradient,
        bool pixels);

    int add_layer(const LayerSpec &spec);
    int add_average(int in);
    int add_maximum(int in, const int *sizes, bool ceil);
    void build();

    void choose(int layer, Pass pass, Choice choice);
    Choice usual(int layer, Pass pass) const;
    bool possible(int layer, Pass pass, Choice choice) const;
    void run_alone(int layer, Pass pass);

    void forward(const float *x, int images, bool training);
    double loss(const int64_t *targets, float *logits);
    void backward(const float *output_gradient);
    void update(double lr, double momentum, double decay, bool nesterov);

    // `to` has room for so many images: those of the last pass, or it is refused.
    void unpack(int tensor, bool gradient, int images, float *to) const;
    // After weights were written from outside.
    void refresh(Layer &l);

    int threads = 1;
    std::vector<Layer> layers;
    std::vector<Tensor> tensors;
    Layer &layer(int i);
    const Tensor &tensor(int i) const;

  private:
    friend class Builder;
    void check_built(bool built) const;
    int add_pooling(Layer l, int channels, int height, int width);
    void set_images(int images);
    Extent extent(int height, int width) const;
    void list(Layer &l, Pass pass);
    void tile(Layer &l, Pass pass);
    int images_of(int block) const { return block == blocks_ - 1 ? images_ - block * lanes_ : lanes_; }

    void pack(const float *x);
    void convolve(Layer &l, bool training);
    void split(Layer &l);
    void sweep(const std::vector<Sweep *> &sweeps, const ConvArguments &common);
    void statistics(Layer &l);
    void fixed_statistics(Layer &l);
    PlaneArguments planes(const Layer &l) const;
    void average(Layer &l, bool back);
    void maximum(Layer &l, bool back);

    void slope(Layer &l);
    void take_sums(Layer &l, int chunks);
    void unfinish(Layer &l);
    void weight_gradient(Layer &l);
    void input_gradient(Layer &l);
    float *gradient(int tensor) const { return gradients_[tensors[tensor].gradient].data(); }
    // work(block, range of channels) over all planes of a layer's output.
    void each_plane(int channels, const std::function<void(int, Range)> &work);
    void to_and_fro(int turns, const std::function<void(int)> &work);

    const Kernels &kernels_;
    const int batch_;
    const bool trains_, pixels_;
    const int lanes_;   // images of a block
    int images_ = 0, blocks_ = 0;
    bool built_ = false, backwards_ = false;
    // What the buffers hold: activations of any pass, and of one in training, the gradient of the output, all gradients.
    bool has_activations_ = false, has_forward_ = false, has_output_gradient_ = false, has_gradients_ = false;
    std::vector<Buffer> gradients_;
    Buffer partial_, weight_partial_, live_;
};

// Chunks that a pass is cut into, and chunks whose weight gradients are kept apart until they are added up.
constexpr int kChunks = 32, kWeightChunks = 8;

}  // namespace sparse
