// Zeroed memory, aligned for whole vectors; in large pages where it is large, as the kernels jump about in it.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sparse {

class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t floats) : size_(floats) {
        const size_t align = floats * sizeof(float) >= kLarge ? kLarge : 64;
        const size_t bytes = (floats * sizeof(float) + align) / align * align;
        void *found = nullptr;
        if (posix_memalign(&found, align, bytes)) throw std::bad_alloc();
        memory_.reset(static_cast<float *>(found));
#if defined(__linux__)
        if (align == kLarge) madvise(found, bytes, MADV_HUGEPAGE);
#endif
        std::memset(found, 0, bytes);
    }
    float *data() const { return memory_.get(); }
    size_t size() const { return size_; }

  private:
    static constexpr size_t kLarge = size_t(2) << 20;
    struct Free {
        void operator()(float *p) const { std::free(p); }
    };
    std::unique_ptr<float, Free> memory_;
    size_t size_ = 0;
};

}  // namespace sparse
