"""Latents of a picture to the segments of a stream, and back."""
