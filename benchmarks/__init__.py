"""Benchmarks of Trellic: rate-distortion, the quantizer and the entropy coder."""

import trellic  # noqa: F401  # before anything here loads onnxruntime: see trellic.support.quiet
