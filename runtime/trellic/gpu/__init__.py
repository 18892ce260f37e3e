"""Pictures to bytes and back without leaving the GPU, many at once. See docs/gpu.md.

It needs numba-cuda. The rest of the runtime imports it only if a GPU is requested.
"""
