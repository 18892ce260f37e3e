"""The integer tables of a bundle: frequencies for the coder, centroids for the reconstruction.

Symbols are coded with the table ``class * S + scale_index``, where the class is the quantizer in
use (0 scalar, 1 Q0, 2 Q1) and `S` the number of scale indices. A table of half width `K` holds
frequencies for the indices ``-K .. K`` and, last, for an escape; all are at least 1 and they sum to
``2**15``. Once the tables are made, nothing here is floating point.

A bundle may have tables for dithered streams too (docs/format.md, section 8.1): 16 buckets for each
scale index, half of them stored. They are classes 3 to 18.
"""

import heapq
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import log2
from os import PathLike
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.errors import BadBundle, BadParameter

PRECISION: Final = 15  # frequencies sum to 2**PRECISION
TOTAL: Final = 1 << PRECISION
CLASSES: Final = 3  # scalar, Q0, Q1; in a dithered stream the buckets follow
STORED_BUCKETS: Final = 8  # of dither; the others mirror them
MAX_SCALES: Final = 255
MAX_HALF_WIDTH: Final = 1023  # bounds the memory that a hostile bundle makes a decoder take
MAX_STEP: Final = 255  # trellis step and centroid offsets, in 1/32 scalar step
RATE_UNIT: Final = 64  # rates are in 1/64 bit
BUCKET_BITS: Final = 8  # a decoder finds a symbol from this many top bits of its slot
ESCAPE_FLAG: Final = 1 << 31  # in an entry

DITHER_ARRAYS: Final = ("half_width", "freqs")  # stored ones

Arrays = Mapping[str, npt.NDArray[Any]]


class CodingTables(NamedTuple):
    """Tables laid out for a compiled coder; all arrays are flat.

    An entry holds ``cumulative | frequency << 16 | k << 32``, and `ESCAPE_FLAG` if it is an escape,
    whose `k` is ``K + 1``. The entry of index `k` in table `t` is at ``zero[t] + k``. One entry of
    cumulative ``2**15`` and frequency 0 ends each table, so that one entry ahead can be read.
    """

    entry: npt.NDArray[np.uint64]
    zero: npt.NDArray[np.int32]  # (tables,)
    half_width: npt.NDArray[np.int32]  # (tables,)
    first: npt.NDArray[np.uint32]  # (tables << BUCKET_BITS,), entry of each bucket's first slot


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """Frequency tables of some classes: all that a coder needs.

    Attributes
    ----------
    half_width : uint16, shape (classes, S)
        K of each (class, scale index), at most 1023.
    freqs : uint16, flat
        The tables one after the other, class-major: ``2 K + 2`` entries for ``k = -K .. K`` and
        escape, each at least 1, with sum ``2**15``.

    Raises
    ------
    BadBundle
        A shape, type or value breaks one of these rules.

    Notes
    -----
    Arrays are copied and made read-only. Tables compare by identity.
    """

    half_width: npt.NDArray[np.uint16]
    freqs: npt.NDArray[np.uint16]

    def __post_init__(self) -> None:
        self._freeze("half_width", np.uint16)
        self._freeze("freqs", np.uint16)
        self._check_widths()
        self._check_frequencies()

    def _freeze(self, name: str, dtype: type[np.generic]) -> None:
        given = np.asarray(getattr(self, name))
        if given.dtype.kind not in "iu":
            raise BadBundle(f"table {name!r} holds {given.dtype}", expected=np.dtype(dtype).name)
        array = np.array(given, dtype, order="C")
        if not np.array_equal(array, given):
            raise BadBundle(f"table {name!r} has values that {np.dtype(dtype).name} cannot hold")
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def _check_classes(self, classes: int) -> None:
        shape = self.half_width.shape
        if len(shape) != 2 or shape[0] != classes:
            raise BadBundle(f"half widths of shape {shape}", expected=f"({classes}, S)")

    def _check_widths(self) -> None:
        shape = self.half_width.shape
        if len(shape) != 2 or shape[0] < 1 or not 1 <= shape[1] <= MAX_SCALES:
            raise BadBundle(f"half widths of shape {shape}", expected="(classes, S), S in 1..255")
        if self.half_width.max() > MAX_HALF_WIDTH:
            raise BadBundle(
                f"a table of half width {self.half_width.max()}", expected=f"<= {MAX_HALF_WIDTH}"
            )

    def _check_frequencies(self) -> None:
        if self.freqs.shape != (int(self.sizes.sum()),):
            raise BadBundle(
                f"frequencies of shape {self.freqs.shape}", expected=f"({self.sizes.sum()},)"
            )
        if self.freqs.min() < 1:
            raise BadBundle("a symbol of frequency 0", expected="at least 1")
        total = np.add.reduceat(self.freqs.astype(np.int64), self.start)
        if (total != TOTAL).any():
            table = int(np.flatnonzero(total != TOTAL)[0])
            raise BadBundle(f"table {table} sums to {total[table]}", expected=str(TOTAL))

    @property
    def scales(self) -> int:
        """Number S of scale indices."""
        return int(self.half_width.shape[1])

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Entries of each table, shape (tables,)."""
        return 2 * self.half_width.ravel().astype(np.int64) + 2

    @cached_property
    def start(self) -> npt.NDArray[np.int64]:
        """Where each table begins in `freqs`, shape (tables,)."""
        return np.cumsum(self.sizes) - self.sizes

    def rates(self) -> npt.NDArray[np.int32]:
        """Return the cost of each symbol, in 1/64 bit, in the order of `freqs`.

        An escape of index `k` costs ``2 * bit_length(|k| - K)`` bits more, for its Exp-Golomb
        digits and sign.
        """
        return rates_of(self.freqs)

    @cached_property
    def coding(self) -> CodingTables:
        """The tables as a compiled coder reads them, made once."""
        entries, first = [], []
        slots = np.arange(1 << BUCKET_BITS) << (PRECISION - BUCKET_BITS)
        half_width = self.half_width.ravel().astype(np.int32)
        place = self.start + np.arange(len(self.start))  # one closing entry for each table before
        for start, size, at in zip(self.start, self.sizes, place, strict=True):
            freq = self.freqs[start : start + size].astype(np.uint64)
            cumulative = np.cumsum(freq) - freq
            k = np.arange(size) - (size // 2 - 1)
            entry = cumulative | freq << np.uint64(16) | k.astype(np.uint64) << np.uint64(32)
            entry[-1] |= np.uint64(ESCAPE_FLAG)
            entries += [entry, np.array([TOTAL], np.uint64)]
            first.append(at + np.searchsorted(cumulative, slots, side="right") - 1)
        return CodingTables(
            np.concatenate(entries),
            (place + half_width).astype(np.int32),
            half_width,
            np.concatenate(first).astype(np.uint32),
        )


@dataclass(frozen=True, eq=False)
class DitherTables(FrequencyTables):
    """Frequency tables of the dither buckets 0 to 7: `half_width` has shape (8, S)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_classes(STORED_BUCKETS)

    def mirrored(self) -> npt.NDArray[np.uint16]:
        """Return the frequencies of buckets 8 to 15: indices reversed, last bucket first."""
        tables = np.split(self.freqs, self.start[1:])
        rows = [tables[i : i + self.scales] for i in range(0, len(tables), self.scales)]
        return np.concatenate([np.append(t[-2::-1], t[-1]) for row in rows[::-1] for t in row])


@dataclass(frozen=True, eq=False)
class Tables(FrequencyTables):
    """Frequency tables and centroids of a bundle: those of `FrequencyTables` for 3 classes.

    Attributes
    ----------
    off : int16, shape (3, S, 4)
        Centroid offsets by ``min(|k|, 3)``, towards zero, in 1/32 scalar step; -255..255.
    trellis_step : int
        Distance D between neighbouring levels of the union of Q0 and Q1, in 1/32 scalar step;
        1..255.
    precision : int
        Always 15 in this format version.
    dither : DitherTables, optional
        Of dithered streams, for as many scale indices.
    """

    off: npt.NDArray[np.int16]
    trellis_step: int = 21
    precision: int = PRECISION
    dither: DitherTables | None = None

    def __post_init__(self) -> None:
        if self.precision != PRECISION:
            raise BadBundle(f"tables of precision {self.precision}", expected=str(PRECISION))
        if not 1 <= self.trellis_step <= MAX_STEP:
            raise BadBundle(f"trellis step {self.trellis_step}", expected=f"1..{MAX_STEP}")
        object.__setattr__(self, "trellis_step", int(self.trellis_step))
        super().__post_init__()
        self._freeze("off", np.int16)
        self._check_classes(CLASSES)
        self._check_offsets()
        if self.dither is not None and self.dither.scales != self.scales:
            raise BadBundle(
                f"tables for dither of {self.dither.scales} scale indices",
                expected=f"{self.scales}, as all others",
            )

    def _check_offsets(self) -> None:
        shape = (*self.half_width.shape, 4)
        if self.off.shape != shape or np.abs(self.off.astype(np.int32)).max() > MAX_STEP:
            raise BadBundle(
                f"centroid offsets of shape {self.off.shape}",
                expected=f"{shape} with values in -{MAX_STEP}..{MAX_STEP}",
            )

    @cached_property
    def dithered(self) -> FrequencyTables:
        """The tables of a dithered stream: 19 classes, of which 3 to 18 are the buckets.

        Raises
        ------
        BadBundle
            There are none.
        """
        if self.dither is None:
            raise BadBundle("the model has no tables for dither", remedy="export it again")
        stored = self.dither.half_width
        return FrequencyTables(
            np.concatenate([self.half_width, stored, stored[::-1]]),
            np.concatenate([self.freqs, self.dither.freqs, self.dither.mirrored()]),
        )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return named arrays, for an ``.npz`` file that may hold others too."""
        names = [f.name for f in fields(self) if f.name != "dither"]
        arrays = {f"tables.{name}": np.asarray(getattr(self, name)) for name in names}
        for name in ("tables.trellis_step", "tables.precision"):
            arrays[name] = arrays[name].astype(np.uint16).reshape(1)
        if self.dither is not None:
            arrays |= {f"dither.{name}": getattr(self.dither, name) for name in DITHER_ARRAYS}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Tables":
        """Make tables from the result of `to_arrays`; other names are ignored.

        Raises
        ------
        BadBundle
            An array is missing or breaks a rule of the tables.
        """
        names = [field.name for field in fields(cls) if field.name != "dither"]
        found: dict[str, Any] = {name: _array(arrays, f"tables.{name}") for name in names}
        for name in ("trellis_step", "precision"):
            if found[name].shape != (1,) or found[name].dtype.kind not in "iu":
                raise BadBundle(f"'tables.{name}' of shape {found[name].shape}", expected="(1,)")
            found[name] = int(found[name][0])
        if any(name.startswith("dither.") for name in arrays):
            parts = {name: _array(arrays, f"dither.{name}") for name in DITHER_ARRAYS}
            found["dither"] = DitherTables(**parts)
        return cls(**found)

    def save(self, file: str | PathLike[str] | IO[bytes]) -> None:
        """Write the tables alone to an ``.npz`` file."""
        np.savez_compressed(file, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, file: str | PathLike[str] | IO[bytes]) -> "Tables":
        """Read tables from an ``.npz`` file.

        Raises
        ------
        BadBundle
            The file cannot be read, or its tables break a rule.
        """
        try:
            with np.load(file, allow_pickle=False) as archive:
                kept = ("tables.", "dither.")
                names = [name for name in archive.files if name.startswith(kept)]
                arrays = {name: archive[name] for name in names}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise BadBundle(f"tables cannot be read ({error})") from error
        return cls.from_arrays(arrays)


def _array(arrays: Arrays, name: str) -> npt.NDArray[Any]:
    if name not in arrays:
        raise BadBundle(f"no array {name!r}", remedy="export the model again")
    return arrays[name]


def rates_of(freqs: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Return what symbols of these frequencies, at least 1, cost in 1/64 bit.

    The rounding is the same on every machine, because no ``64 * log2(freq)`` is near a tie.
    """
    bits = PRECISION - np.log2(freqs.astype(np.float64))
    rates: npt.NDArray[np.int32] = np.rint(RATE_UNIT * bits).astype(np.int32)
    return rates


def quantized_pmf(pmf: npt.ArrayLike, precision: int = PRECISION) -> npt.NDArray[np.uint16]:
    """Round a distribution to frequencies, each at least 1, that cost the fewest bits.

    The result minimises ``-sum(pmf * log2(freq))`` exactly. The gain of one more unit falls with
    each frequency, so it is optimal to give each unit where it gains most.

    Parameters
    ----------
    pmf : array_like, shape (n,)
        Weights of the symbols, finite, at least 0 and not all 0; they are normalised. At least two
        symbols and at most ``2**precision``.
    precision
        The frequencies sum to ``2**precision``; at most 15.

    Returns
    -------
    uint16, shape (n,)

    Raises
    ------
    BadParameter
        The weights are unusable.

    Examples
    --------
    >>> quantized_pmf([0.0, 0.5, 0.25, 0.25]).tolist()
    [1, 16383, 8192, 8192]
    """
    weight = np.asarray(pmf, np.float64)
    total = 1 << precision
    usable = weight.ndim == 1 and 2 <= len(weight) <= total and 1 <= precision <= PRECISION
    if not usable or not (np.isfinite(weight).all() and (weight >= 0).all() and weight.sum() > 0):
        raise BadParameter("a pmf that cannot be rounded", expected="2 or more weights >= 0")
    weight = weight / weight.sum()
    freq = np.maximum(np.floor(weight * total), 1).astype(np.int64).tolist()
    p = weight.tolist()
    _add_units(freq, p, total - sum(freq))
    _take_units(freq, p, sum(freq) - total)
    _swap_units(freq, p)
    return np.array(freq, np.uint16)


def _gain(p: float, freq: int) -> float:
    """Return the bits saved by one more unit, weighted."""
    return p * log2(1 + 1 / freq)


def _add_units(freq: list[int], p: list[float], count: int) -> None:
    heap = [(-_gain(p[i], f), i) for i, f in enumerate(freq)]
    heapq.heapify(heap)
    for _ in range(count):
        _, i = heap[0]
        freq[i] += 1
        heapq.heapreplace(heap, (-_gain(p[i], freq[i]), i))


def _take_units(freq: list[int], p: list[float], count: int) -> None:
    heap = [(_gain(p[i], f - 1), i) for i, f in enumerate(freq) if f > 1]
    heapq.heapify(heap)
    for _ in range(count):
        _, i = heapq.heappop(heap)
        freq[i] -= 1
        if freq[i] > 1:
            heapq.heappush(heap, (_gain(p[i], freq[i] - 1), i))


def _swap_units(freq: list[int], p: list[float]) -> None:
    """Move units to where they gain more, until no move gains."""
    gain = [(-_gain(p[i], f), i) for i, f in enumerate(freq)]
    loss = [(_gain(p[i], f - 1), i) for i, f in enumerate(freq) if f > 1]
    heapq.heapify(gain)
    heapq.heapify(loss)
    while gain and loss:
        (won, to), (lost, source) = gain[0], loss[0]
        if won != -_gain(p[to], freq[to]):
            heapq.heapreplace(gain, (-_gain(p[to], freq[to]), to))
        elif freq[source] < 2:
            heapq.heappop(loss)
        elif lost != _gain(p[source], freq[source] - 1):
            heapq.heapreplace(loss, (_gain(p[source], freq[source] - 1), source))
        elif -won <= lost * (1 + 1e-12) or to == source:
            return
        else:
            freq[to] += 1
            freq[source] -= 1
            heapq.heapreplace(gain, (-_gain(p[to], freq[to]), to))
            heapq.heappop(loss)
            for i in (to, source):
                if freq[i] > 1:
                    heapq.heappush(loss, (_gain(p[i], freq[i] - 1), i))
            heapq.heappush(gain, (-_gain(p[source], freq[source]), source))
