"""Benchmarks of learning. Those of serving, which need no PyTorch, are in `ops.bench`."""
