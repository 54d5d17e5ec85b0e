"""Tickets for elsewhere: a compact file, ONNX, a plain state dict. Import from the files: this one is empty."""
