"""Benchmarks of Trellic: rate-distortion, the quantizer and the entropy coder."""
