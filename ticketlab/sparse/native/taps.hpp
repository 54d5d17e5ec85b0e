// The kept weights of a layer, in the order in which a kernel wants them.
#pragma once
#include <vector>

#include "arguments.hpp"

namespace sparse {

// One kept weight: which channels it joins, how far its pixel is from a tile's first one (floats), which weight it is.
struct Tap {
    int output, input, offset, weight;
};

class Lists {
  public:
    Lists() = default;
    // `block`: input channels whose taps run together (0: all). `width`: output channels that share a list.
    // `parts`: ranges of rows that different threads may take. `multiple`: the taps of a row are filled up to it.
    Lists(const std::vector<Tap> &taps, int outputs, int inputs, int block, int width, int parts, int multiple = 1);

    void refresh(const float *weights, int threads);
    TapLists view() const;
    Range part(int i) const { return {int((long)rows_ * i / parts_), int((long)rows_ * (i + 1) / parts_)}; }
    int parts() const { return parts_; }
    // Floats that hold something for each tap and output channel, and which weight each of them is (-1: none).
    long values() const { return (long)weight_.size(); }
    const std::vector<int> &weight() const { return weight_; }
    // The floats of a part of the rows in one block.
    Range values_of(int block, int part) const;
    int blocks() const { return blocks_; }

  private:
    int outputs_ = 0, rows_ = 0, blocks_ = 0, width_ = 1, parts_ = 1;
    std::vector<int> start_, row_, offset_, weight_;
    std::vector<float> value_;
};

}  // namespace sparse
