"""Colour spaces named by numbers (cICP, nclx, gAMA, cHRM), and ICC profiles made from them.

The numbers are those of Rec. ITU-T H.273, "coding-independent code points". Profiles are of ICC.1
version 4: a matrix and a curve, or the curve alone for grey.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""White, red, green and blue: x and y of each, as in a cHRM chunk."""

UNSPECIFIED: Final = 2
_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
_SRGB: Final = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: Final[dict[int, Chromaticities]] = {
    1: _SRGB,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (*_DCI, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}

Curve = tuple[float, ...]
"""A gamma alone, or g, a, b, c, d: y = (a x + b)**g from d on, y = c x below."""

_SRGB_CURVE: Final[Curve] = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_REC_709: Final[Curve] = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SMPTE_240: Final[Curve] = (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4.0, 0.0913)
_TRANSFERS: Final[dict[int, Curve]] = {
    1: _REC_709,
    4: (2.2,),
    5: (2.8,),
    6: _REC_709,
    7: _SMPTE_240,
    8: (1.0,),
    13: _SRGB_CURVE,
    14: _REC_709,
    15: _REC_709,
    17: (2.6,),
}
HDR: Final = {16: "PQ", 18: "HLG"}

_NEAR_SRGB: Final = 0.003  # chromaticities that writers round differently
_NEAR_GAMMA: Final = 0.02  # of 2.2, by which sRGB is written in a gAMA chunk
_GAMMAS: Final = (0.2, 10.0)
_D50: Final = (0.9642, 1.0, 0.8249)
_BRADFORD: Final = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


class Space(NamedTuple):
    """A colour space. None stands for what sRGB has."""

    primaries: Chromaticities | None = None
    curve: Curve | None = None


class Unknown(ValueError):
    """The numbers name no colour space for which a profile can be made."""


def from_code_points(primaries: int, transfer: int) -> Space | None:
    """Look up a colour space.

    Parameters
    ----------
    primaries, transfer : int
        Code points of Rec. H.273.

    Returns
    -------
    Space or None
        None for sRGB and for "unspecified". Rec. 709 of any kind, which screens show as sRGB, is
        taken for sRGB as well.

    Raises
    ------
    Unknown
        If there is no profile for it, as for PQ and HLG.
    """
    found = None if primaries == UNSPECIFIED else _PRIMARIES.get(primaries)
    curve = None if transfer == UNSPECIFIED else _TRANSFERS.get(transfer)
    if (found is None and primaries != UNSPECIFIED) or (curve is None and transfer != UNSPECIFIED):
        raise Unknown(f"primaries {primaries}, transfer {transfer}")
    curve = None if curve == _SRGB_CURVE else curve
    found = None if found == _SRGB else found
    if found is None and curve == _REC_709:
        return None
    return None if found is None and curve is None else Space(found, curve)


def from_gamma(gamma: float | None, primaries: tuple[float, ...] | None) -> Space | None:
    """Make a colour space of the chunks gAMA and cHRM.

    Parameters
    ----------
    gamma : float, optional
        Exponent that the file was written with, such as 0.45455.
    primaries : tuple of 8 floats, optional
        White, red, green, blue.

    Returns
    -------
    Space or None
        None if it is sRGB, as far as such chunks can tell.

    Raises
    ------
    Unknown
        If the numbers make no sense.
    """
    curve: Curve | None = None
    if gamma is not None:
        if not 1 / _GAMMAS[1] <= gamma <= 1 / _GAMMAS[0]:
            raise Unknown(f"gamma {gamma}")
        curve = None if abs(1 / gamma - 2.2) < _NEAR_GAMMA else (1 / gamma,)
    found: Chromaticities | None = None
    if primaries is not None:
        w_x, w_y, r_x, r_y, g_x, g_y, b_x, b_y = primaries
        found = (w_x, w_y, r_x, r_y, g_x, g_y, b_x, b_y)
        _matrix(found)
        if max(abs(a - b) for a, b in zip(found, _SRGB, strict=True)) < _NEAR_SRGB:
            found = None
    return None if found is None and curve is None else Space(found, curve)


def profile(space: Space, *, grey: bool) -> bytes:
    """Make an ICC profile.

    Parameters
    ----------
    space : Space
        What it describes.
    grey : bool
        Whether it is for one channel instead of three.

    Returns
    -------
    bytes
        The profile, some 500 bytes.
    """
    curve = _curve(space.curve or _SRGB_CURVE)
    tags = [
        (b"desc", _text("Made by Trellic from the file's colour numbers")),
        (b"cprt", _text("No copyright")),
        (b"wtpt", _xyz(_D50)),
    ]
    if grey:
        tags.append((b"kTRC", curve))
    else:
        colours, adapted = _matrix(space.primaries or _SRGB)
        tags.append((b"chad", b"sf32\0\0\0\0" + b"".join(map(_fixed, adapted.ravel()))))
        columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours.T, strict=True)
        tags += [(name, _xyz(tuple(column))) for name, column in columns]
        tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return _file(tags, b"GRAY" if grey else b"RGB ")


def space_of(icc: bytes) -> str:
    """Name the colour space of a profile's pixels, such as ``RGB``; empty if it has none."""
    return icc[16:20].decode("ascii", "replace").strip() if icc[36:40] == b"acsp" else ""


def _matrix(
    primaries: Chromaticities,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the colours in XYZ as columns, adapted to D50, and the matrix that adapted them."""
    if not all(math.isfinite(v) and -1 < v < 1.5 for v in primaries):
        raise Unknown(f"chromaticities {primaries}")
    pairs = [(primaries[i], primaries[i + 1]) for i in range(0, 8, 2)]
    if min(abs(y) for _, y in pairs) < 1e-4:
        raise Unknown(f"chromaticities {primaries}")
    white, *colours = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in pairs)
    stacked = np.stack(colours, axis=1)
    cone = _BRADFORD @ white
    if abs(np.linalg.det(stacked)) < 1e-3 or cone.min() <= 0:
        raise Unknown(f"chromaticities {primaries}")
    scaled = stacked * np.linalg.solve(stacked, white)
    gains = (_BRADFORD @ np.array(_D50)) / cone
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    result = adapted @ scaled
    if not np.isfinite(result).all() or np.abs(result).max() > 8:
        raise Unknown(f"chromaticities {primaries}")
    return result, adapted


# ---- the parts of a profile ----


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(data), 28) + data


def _curve(curve: Curve) -> bytes:
    kind = 0 if len(curve) == 1 else 3
    return b"para" + struct.pack(">IHH", 0, kind, 0) + b"".join(map(_fixed, curve))


def _file(tags: list[tuple[bytes, bytes]], space: bytes) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    index, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, data in tags:
        if data not in places:  # tags that are the same share their data
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        index += name + struct.pack(">II", places[data], len(data))
    head = struct.pack(
        ">I4sI4s4s4s12x4s",
        start + len(body),
        b"\0" * 4,
        0x04300000,
        b"mntr",
        space,
        b"XYZ ",
        b"acsp",
    )
    head = head.ljust(68, b"\0") + b"".join(map(_fixed, _D50))
    return head.ljust(128, b"\0") + index + body
