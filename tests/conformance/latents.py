"""Write the latents of a stream: ``python -m tests.conformance.latents IN.tlc OUT.i32``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tests.conformance.streams import MODEL, latents

from trellic.codec import Codec

if __name__ == "__main__":
    planes = latents(Codec(MODEL), Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(np.ascontiguousarray(planes, "<i4").tobytes())
