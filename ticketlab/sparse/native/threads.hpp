// Loops whose turns do not depend on each other, on a few threads.
#pragma once
#include <functional>

namespace sparse {

// Runs work(0) ... work(turns - 1) on at most `threads` threads, the caller's among them. Which thread takes which turn
// is left to chance, so what a turn computes must not depend on it. Each thread starts with a share of neighbouring
// turns, which it takes from the last to the first if `backwards`.
void parallel(int threads, int turns, const std::function<void(int)> &work, bool backwards = false);

}  // namespace sparse
