"""Quantizers: scalar with RDOQ, plain rounding, and trellis-coded quantization."""
