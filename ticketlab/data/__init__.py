"""Data sets held as tensors: names, loading, batches, corruption. Import from the files: this is empty."""
