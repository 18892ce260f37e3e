"""Latents to symbols: by the search, by plain rounding, with dither, or on a still lattice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Header
from trellic.entropy.tables import FrequencyTables, Tables
from trellic.quantize import dither_cpu as dithering
from trellic.quantize import still_cpu as still_lattice
from trellic.quantize.cpu import reconstruct, search
from trellic.quantize.reference import round_to_step

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]
Noise = npt.NDArray[np.int8]
Mode = Literal["search", "round"]


@dataclass(frozen=True)
class Lattice:
    """Where the levels of a scalar stream lie, if not around the means alone.

    Attributes
    ----------
    dither : seed of the noise that moves them
    still : they do not move with the means
    """

    dither: int | None = None
    still: bool = False


AROUND_MEANS = Lattice()


def lattice_of(header: Header) -> Lattice:
    """Return the lattice of a stream."""
    return Lattice(header.dither, header.still)


@dataclass(frozen=True)
class Quantizer:
    """How latents are quantized.

    Attributes
    ----------
    states : of the trellis, 0 for scalar
    lam : cost weight
    mode : "round" rounds plainly, with 0 states
    dither : seed of subtractive dither, with 0 states; `lam` and `mode` are then not used
    still : the levels do not move with the means; with 0 states
    keep : of a still lattice: a latent that lies exactly on a level keeps it, whatever it costs
    """

    states: int
    lam: int
    mode: Mode = "search"
    dither: int | None = None
    still: bool = False
    keep: bool = False

    @property
    def lattice(self) -> Lattice:
        """Where the levels lie."""
        return Lattice(self.dither, self.still)


class Symbols(NamedTuple):
    """Symbols of a step of a slice, in coding order.

    Attributes
    ----------
    k : int32 (n,), indices
    cls : uint8 (n,), classes: 0 scalar, 1 Q0, 2 Q1, 3 to 18 dithered or still
    recon32 : int32 (n,), values that a decoder adds to the means, in 1/32 step
    """

    k: Int32
    cls: Uint8
    recon32: Int32


def book_of(tables: Tables, lattice: Lattice) -> FrequencyTables:
    """Return the frequency tables of a stream; lattices that are moved need more of them."""
    return tables if lattice == AROUND_MEANS else tables.dithered


def quantize(
    t32: Int32,
    index: Uint8,
    lanes: int,
    quantizer: Quantizer,
    tables: Tables,
    noise: Noise | None,
    mean32: Int32,
) -> Symbols:
    """Quantize the latents of a step of a slice.

    Parameters
    ----------
    t32 : int32 (n,), latents less their means, in 1/32 step
    index : uint8 (n,), scale indices
    lanes : of the slice; each has its own path through the trellis
    noise : int8 (n,), in 1/64 step, of a dithered stream
    mean32 : int32 (n,), the means
    """
    if noise is not None:
        k = dithering.quantize(t32, noise)
        return Symbols(k, dithering.classes(noise), dithering.reconstruct(k, noise))
    if quantizer.still:
        offset = still_lattice.offsets(mean32)
        k = still_lattice.search(t32, index, offset, tables, quantizer.lam)
        if quantizer.keep:
            k = still_lattice.kept(t32, offset, k)
        return Symbols(k, still_lattice.classes(offset), still_lattice.reconstruct(k, offset))
    if quantizer.mode == "round":
        k = round_to_step(t32)
        cls = np.zeros(len(k), np.uint8)
    else:
        k, cls = search(t32, index, lanes, quantizer.states, tables, quantizer.lam)
    return Symbols(k, cls, reconstruct(k, cls, index, tables))
