#include "threads.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace sparse {
namespace {

constexpr int kMostThreads = 64;
// A worker looks out for the next loop for about as long as a short kernel takes, and sleeps then.
constexpr int kSpins = 4000;

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// How a thread rounds and whether it flushes tiny numbers to zero: the caller may have changed it for itself.
inline unsigned long rounding() {
#if defined(__x86_64__)
    return __builtin_ia32_stmxcsr();
#elif defined(__aarch64__)
    unsigned long held;
    __asm__ volatile("mrs %0, fpcr" : "=r"(held));
    return held;
#else
    return 0;
#endif
}

inline void round_as(unsigned long held) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((unsigned)held);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(held));
#else
    (void)held;
#endif
}

// The turns that one thread takes first; when they are gone it helps the others.
struct alignas(64) Share {
    std::atomic<int> taken{0};
    int begin = 0, end = 0;
};

class Pool {
  public:
    const pid_t process = getpid();
    std::mutex one_loop;

    void run(int threads, int turns, const std::function<void(int)> &work, bool backwards) {
        threads = std::min({threads, turns, kMostThreads});
        while (workers_ < threads - 1) {
            const int index = workers_ + 1;
            std::thread([this, index] { serve(index); }).detach();
            workers_++;
        }
        work_ = &work;
        shares_ = threads;
        backwards_ = backwards;
        rounding_ = rounding();
        for (int i = 0; i < threads; i++) {
            share_[i].taken = 0;
            share_[i].begin = int((long)turns * i / threads);
            share_[i].end = int((long)turns * (i + 1) / threads);
        }
        open_ = true;
        loops_++;
        if (sleeping_) {
            { std::lock_guard<std::mutex> lock(sleep_); }
            wake_.notify_all();
        }
        help(0);
        // A worker that has not come by now is not waited for: on a busy machine it may take long to be scheduled.
        open_ = false;
        for (int spins = 0; inside_; spins++) {
            if (spins < kSpins)
                relax();
            else
                std::this_thread::yield();
        }
    }

  private:
    void help(int index) {
        for (int i = 0; i < shares_; i++) {
            Share &share = share_[(index + i) % shares_];
            const int count = share.end - share.begin;
            for (int k; (k = share.taken.fetch_add(1)) < count;) (*work_)(backwards_ ? share.end - 1 - k : share.begin + k);
        }
    }

    void serve(int index) {
        for (unsigned long seen = 0;;) {
            for (int spins = 0; loops_ == seen && spins < kSpins; spins++) relax();
            if (loops_ == seen) {
                std::unique_lock<std::mutex> lock(sleep_);
                sleeping_++;
                wake_.wait(lock, [&] { return loops_ != seen; });
                sleeping_--;
            }
            seen = loops_;
            inside_++;
            if (open_ && index < shares_) {
                round_as(rounding_);
                help(index);
            }
            inside_--;
        }
    }

    int workers_ = 0;
    std::atomic<const std::function<void(int)> *> work_{nullptr};
    std::atomic<int> shares_{0};
    std::atomic<bool> backwards_{false};
    std::atomic<unsigned long> rounding_{0};
    Share share_[kMostThreads];
    std::atomic<bool> open_{false};
    std::atomic<int> inside_{0}, sleeping_{0};
    std::atomic<unsigned long> loops_{0};
    std::mutex sleep_;
    std::condition_variable wake_;
};

// Never freed: its threads may outlive whatever would free it. A forked process finds its parent's, without the threads
// and perhaps with a locked mutex, and makes its own; so no mutex may guard the making.
Pool *pool() {
    static std::atomic<Pool *> shared{nullptr};
    Pool *held = shared;
    if (held && held->process == getpid()) return held;
    Pool *made = new Pool;
    if (shared.compare_exchange_strong(held, made)) return made;
    delete made;
    return held;
}

}  // namespace

void parallel(int threads, int turns, const std::function<void(int)> &work, bool backwards) {
    if (threads > 1 && turns > 1) {
        Pool *shared = pool();
        std::unique_lock<std::mutex> lock(shared->one_loop, std::try_to_lock);
        // Two callers at once would want more threads than either was given: the second one works alone.
        if (lock.owns_lock()) return shared->run(threads, turns, work, backwards);
    }
    for (int i = 0; i < turns; i++) work(backwards ? turns - 1 - i : i);
}

}  // namespace sparse
