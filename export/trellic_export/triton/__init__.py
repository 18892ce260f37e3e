"""A model repository for NVIDIA Triton.

::

    DIR/trellic_encode   IMAGE, QUALITY -> STREAM   Python, model.py, with the bundle beside it
        trellic_decode   STREAM, DECODER -> IMAGE   the same
        trellic_g_a, trellic_h_a, trellic_NAME      the float networks alone, for onnxruntime

Integer networks and entropy coding are only in the Python models, because they must be exact, and
Triton's onnxruntime may use TF32.
"""

from trellic_export.triton.repository import export_triton

__all__ = ["export_triton"]
