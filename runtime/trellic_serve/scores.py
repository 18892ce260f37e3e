"""Encode for a score: the lowest quality whose picture reaches it, measured with SSIMULACRA 2."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np

from trellic.codec import Codec
from trellic.errors import BadParameter, MissingExtra, TargetUnreachable
from trellic.images import Picture
from trellic.support.bounds import check

LEAST_SIDE = 8  # pixels, of the measure
_BEST = 100  # of quality


def search(codec: Codec, picture: Picture, score: float, options: dict[str, Any]) -> bytes:
    """Return the stream of the lowest quality, in whole steps, that reaches a score.

    Parameters
    ----------
    codec : which also decodes, with its default decoder
    picture : alpha is not looked at
    score : of SSIMULACRA 2, at most 100
    options : of the encoder, without a target

    Raises
    ------
    BadParameter
        When the picture is too small to be measured.
    MissingExtra
        When the measure is not installed.
    TargetUnreachable
        When quality 100 does not reach the score.
    """
    if min(picture.width, picture.height) < LEAST_SIDE:
        raise BadParameter(
            f"a score for a picture of {picture.width}x{picture.height} pixels",
            expected=f"at least {LEAST_SIDE} a side",
            remedy="ask for a quality",
        )
    low, high, best = 0, _BEST + 1, b""  # low does not reach it, high does
    guess = round(min(max(score, 1), _BEST))
    while high - low > 1:
        check()
        data = codec.encode_picture(picture, **options | {"quality": guess}).data
        found = measure(picture.pixels, codec.decode_picture(data).pixels)
        low, high, best = (low, guess, data) if found >= score else (guess, high, best)
        # Quality is the score of an average photo, so one point is worth about one.
        guess = min(max(guess + round(score - found), low + 1), high - 1)
    if not best:
        raise TargetUnreachable(f"score {score:g}", remedy="no quality reaches it: ask for less")
    return best


def measure(original: np.ndarray[Any, Any], shown: np.ndarray[Any, Any]) -> float:
    """Return the SSIMULACRA 2 score of a picture.

    Raises
    ------
    MissingExtra
        When the package ssimulacra2 is not installed.
    """
    try:
        module = importlib.import_module("ssimulacra2")
    except ImportError as error:
        raise MissingExtra.of("ssimulacra2", "serve", "a score") from error
    return float(module.compute_ssimulacra2(_file(original), _file(shown)))


def _file(pixels: np.ndarray[Any, Any]) -> io.BytesIO:
    """Hold pixels as a file that the measure can open, without loss."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    file.seek(0)
    return file
