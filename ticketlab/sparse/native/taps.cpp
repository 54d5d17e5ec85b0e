#include "taps.hpp"

#include <algorithm>
#include <numeric>

#include "threads.hpp"

namespace sparse {

Lists::Lists(const std::vector<Tap> &taps, int outputs, int inputs, int block, int width, int parts, int multiple)
    : outputs_(outputs), rows_((outputs + width - 1) / width), width_(width), parts_(parts) {
    if (block <= 0 || block > inputs) block = inputs;
    blocks_ = (inputs + block - 1) / block;
    const auto list_of = [&](const Tap &t) { return (size_t)(t.input / block) * rows_ + t.output / width; };
    const size_t lists = (size_t)blocks_ * rows_;

    // Taps by list; the order within a list is that of the weights, as counting keeps it.
    std::vector<int> begin(lists + 1, 0);
    for (const Tap &t : taps) begin[list_of(t) + 1]++;
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<int> sorted(taps.size()), next(begin.begin(), begin.end() - 1);
    for (size_t i = 0; i < taps.size(); i++) sorted[next[list_of(taps[i])]++] = (int)i;

    // Within a block, rows come by falling length: the inner loop's exit is then predicted.
    row_.resize(lists);
    for (int b = 0; b < blocks_; b++) {
        int *rows = row_.data() + (size_t)b * rows_;
        std::iota(rows, rows + rows_, 0);
        const auto length = [&](int r) { return begin[(size_t)b * rows_ + r + 1] - begin[(size_t)b * rows_ + r]; };
        for (int p = 0; p < parts_; p++)
            std::stable_sort(rows + part(p).begin, rows + part(p).end,
                             [&](int x, int y) { return length(x) > length(y); });
    }

    start_.reserve(lists + 1);
    start_.push_back(0);
    for (size_t l = 0; l < lists; l++) {
        const size_t list = l / rows_ * rows_ + row_[l];
        const auto from = sorted.begin() + begin[list], to = sorted.begin() + begin[list + 1];
        if (width > 1)
            std::stable_sort(from, to, [&](int x, int y) { return taps[x].offset < taps[y].offset; });
        const size_t first = offset_.size();
        for (auto i = from; i != to; ++i) {
            const Tap &t = taps[*i];
            if (width == 1 || offset_.size() == first || offset_.back() != t.offset) {
                offset_.push_back(t.offset);
                weight_.resize(weight_.size() + width, -1);
            }
            weight_[weight_.size() - width + t.output % width] = t.weight;
        }
        while ((offset_.size() - first) % multiple) {
            offset_.push_back(offset_.back());
            weight_.resize(weight_.size() + width, -1);
        }
        start_.push_back((int)offset_.size());
    }
    value_.assign(weight_.size(), 0.0f);
}

void Lists::refresh(const float *weights, int threads) {
    constexpr long kChunk = 1 << 15;
    const long count = values();
    parallel(threads, int((count + kChunk - 1) / kChunk), [&](int turn) {
        const long end = std::min(count, (turn + 1) * kChunk);
        for (long i = turn * kChunk; i < end; i++)
            if (weight_[i] >= 0) value_[i] = weights[weight_[i]];
    });
}

TapLists Lists::view() const {
    return {start_.data(), row_.data(), offset_.data(), value_.data(), blocks_, rows_, width_, outputs_};
}

Range Lists::values_of(int block, int p) const {
    const int *start = start_.data() + (size_t)block * rows_;
    return {start[part(p).begin] * width_, start[part(p).end] * width_};
}

}  // namespace sparse
