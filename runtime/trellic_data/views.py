"""The view of a picture for a training step: its size, by scaling or cropping.

The view is known before decoding, so only the needed part is decoded: a small view comes from the
preview's pixels, and a crop from the slices and the tiles under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from trellic import bitstream
from trellic.codec import Codec
from trellic.constants import COLOURS, DEFAULT_DECODER
from trellic.errors import BadImage, BadParameter
from trellic.model import bundle
from trellic.model.manifest import Manifest
from trellic.pipeline.region import Region

Pixels = npt.NDArray[np.uint8]
How = Literal["random", "center", "scale"]


@dataclass(frozen=True)
class View:
    """A size in pixels, and how a picture gets it.

    Parameters
    ----------
    height, width : of the view
    how : "random" and "center" crop the picture at its own scale. "scale" scales the picture until
        it just covers the view, and crops its middle. Pictures that are too small for a crop are
        scaled up

    Raises
    ------
    BadParameter
        When a side is below 1, or there is no such way.
    """

    height: int
    width: int
    how: How = "scale"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or self.how not in ("random", "center", "scale"):
            raise BadParameter(
                f"a view of {self.height}x{self.width}, how={self.how!r}",
                expected="sides of at least 1, how='random', 'center' or 'scale'",
            )

    def region(self, height: int, width: int, at: tuple[float, float]) -> Region:
        """Return the part of a picture that is seen.

        Parameters
        ----------
        height, width : of the picture
        at : where to crop in "random", each from 0 to below 1

        Returns
        -------
        x, y, width, height in pixels of the picture
        """
        shrink = min(height / self.height, width / self.width)
        if self.how != "scale" and shrink >= 1:
            shrink = 1.0
        high = min(height, max(1, round(self.height * shrink)))
        wide = min(width, max(1, round(self.width * shrink)))
        down, across = at if self.how == "random" else (0.5, 0.5)
        return int(across * (width - wide + 1)), int(down * (height - high + 1)), wide, high


def see(
    codec: Codec,
    data: bytes,
    view: View | None = None,
    decoder: str | None = None,
    at: tuple[float, float] = (0.5, 0.5),
) -> Pixels:
    """Decode the part of a stream that a view shows.

    Parameters
    ----------
    codec : of any model; a stream of another installed one is decoded with that
    data : of a ``.tlc`` file
    view : None for the whole picture
    decoder : None for "fast" if the model has it, and for a smaller picture if that is enough for
        the view
    at : as of `View.region`

    Returns
    -------
    uint8 array (H, W, 3): grey three times, alpha left out

    Raises
    ------
    BadImage
        When the model is not for red, green and blue.
    TrellicError
        As of `trellic.Codec.decode`.
    """
    header = bitstream.read_header(data)
    model = _model_of(codec, header.stream_id.hex())
    if model.layout.bands != COLOURS:
        raise BadImage(f"a picture of {model.layout.bands} bands", expected=f"{COLOURS}, or grey")
    if view is None:
        return rgb(codec.decode(data, decoder=decoder or _ordinary(model)))
    region = view.region(header.height, header.width, at)
    shrink = min(region[2] / view.width, region[3] / view.height)
    part = codec.decode(data, decoder=decoder or choose(model, shrink), region=region)
    return resized(rgb(part), view.height, view.width)


def rgb(pixels: Pixels) -> Pixels:
    """Return three channels of a decoded picture."""
    if pixels.ndim == 2 or pixels.shape[2] == 2:
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        return np.repeat(grey[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return pixels (H, W, 3) at another size, each the mean of those that it covers."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image

    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(small)


def _model_of(codec: Codec, stream_id: str) -> Manifest:
    """Return the model that a codec decodes a stream with: its own, or another installed one."""
    own = codec.bundle.manifest
    return own if own.stream_id == stream_id else _installed(stream_id)


@lru_cache(maxsize=8)
def _installed(stream_id: str) -> Manifest:
    return bundle.read_manifest(bundle.find_stream(stream_id))


def _ordinary(model: Manifest | Codec) -> str:
    return "fast" if "fast" in model.decoders else DEFAULT_DECODER


def choose(model: Manifest | Codec, shrink: float) -> str:
    """Name the decoder of the smallest picture that is not smaller than the view.

    Parameters
    ----------
    model : that of the stream, or its codec
    shrink : by how much the view is smaller than the part of the picture that it shows
    """
    smaller = [
        (info.scale, name)
        for name, info in model.decoders.items()
        if info.kind == "picture" and 1 < info.scale <= shrink
    ]
    return max(smaller)[1] if smaller else _ordinary(model)
