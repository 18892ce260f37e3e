"""CUDA kernels, each beside a plain and a compiled twin: see tests/cuda/test_triples.py."""
