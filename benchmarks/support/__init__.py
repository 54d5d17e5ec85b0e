"""What the benchmarks share. Nothing here is a benchmark: those are the files one folder up."""
