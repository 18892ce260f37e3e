"""Constants that several layers share: defaults of every interface, and ranges of the format.

This module imports nothing, so that the command line can show them without loading anything.
"""

from __future__ import annotations

from typing import Final, Literal

DEFAULT_MODEL: Final = "photo"
DEFAULT_QUALITY: Final = 75.0
DEFAULT_TRELLIS: Final = 32
DEFAULT_DECODER: Final = "quality"
DEFAULT_CLASSIFIER: Final = "class"
DEFAULT_PATCHES: Final = "off"
MAX_PIXELS: Final = 2**28  # of a picture, unless the caller allows more
MAX_THREADS: Final = 1024  # engines crash where the system cannot start as many as asked for
LARGE_PIXELS: Final = 2**26  # from here on a warning, unless the caller chose a limit

COLOURS: Final = 3  # samples of a pixel, unless the model is for other bands

# docs/format.md, section 1
MAX_SIDE: Final = 65535  # pixels
TRELLIS_STATES: Final = (0, 4, 8, 16, 32, 64, 128, 256)  # by code; 0 is scalar
MAX_LANES: Final = 1024
MAX_SEED: Final = 2**32 - 1  # of dither, and of training

# What options may be
Trellis = Literal[0, 4, 8, 16, 32, 64, 128, 256]  # those of TRELLIS_STATES
Search = Literal["trellis", "round"]
Bands = Literal[3, 4, 8]  # of a model; 3 are red, green and blue
Patching = Literal["auto", "off"]
Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Precision = Literal["auto", "fp32", "bf16", "int8", "fp16"]
