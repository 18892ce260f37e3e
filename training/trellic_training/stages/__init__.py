"""Stages of training: end to end, on quantized latents, decoders."""
