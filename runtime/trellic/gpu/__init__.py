"""Pictures to bytes and back without leaving the GPU, many at once. See docs/gpu.md.

Needs numba-cuda; nothing here is imported by the rest of the runtime unless a GPU is asked for.
"""
