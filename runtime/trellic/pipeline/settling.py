"""Latents that stand still: their picture, encoded again, has the same latents.

::

    x -> g_a -> f, corrected -> levels, z            levels and hyper-latents of an original
    levels, z -> g_s -> x_hat -> found again -> ...  until what is found is what was there

Levels of a still lattice are whole steps, so a latent that is found within half a step is found
exactly. Hyper-latents are computed from latents rounded to whole steps, whether they are coded or
not. Who knows the levels then has the hyper-latents too, without knowing them before.

Levels are found again in a few steps of ``y + factor * (g_a(x) - g_a(g_s(y)))``, where y are the
latents that a decoder would have. A step that meets the picture exactly is the last. Factors above
one reach latents that pixels show weakly, because g_s clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.geometry import Plane
from trellic.latents.encoder import LatentEncoder, hyper_symbols, hyper_values
from trellic.latents.quantizer import Quantizer
from trellic.limits import STEP32
from trellic.model.quality import Level

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

ROUNDS: Final = 40  # of decoding and finding again, at most
FREE: Final = 5  # of these, which follow what is found
PUSHED: Final = 2  # levels that move where a hyper-latent goes back and forth
FEW: Final = 2  # levels that are found elsewhere, up to which one beside each moves too
CORRECTIONS: Final = 3  # steps before the first levels are looked for
FACTORS: Final = (1.0, 1.5, 2.0, 1.5)  # of the steps after that
WHOLE: Final = 4  # rounds in which all hyper-latents may change; then a random half of them
MOST: Final = 40  # of these rounds
REPEATS: Final = 4  # of these rounds for levels that were found
FOREIGN: Final = 0.5  # share of pixels that differ in an original; of a decoded picture it is less


@dataclass(frozen=True)
class Transforms:
    """The float transforms of a model at a quality, for pictures of one size.

    Attributes
    ----------
    g_a : pixels to latents before their gains
    g_s : latents before their gains to pixels
    h_a : latents to hyper-latents, both before their gains
    """

    g_a: Callable[[Pixels], Float32]
    g_s: Callable[[Float32], Pixels]
    h_a: Callable[[Float32], Float32]


class Settled(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    v32 : int32 (latents, rows, columns), as a decoder will have them, in 1/32 step
    z : int64 (hyper, rows, columns), hyper-latents
    """

    v32: Int32
    z: Int64

    def same(self, other: Settled) -> bool:
        """Whether both give the same file."""
        return np.array_equal(self.v32, other.v32) and np.array_equal(self.z, other.z)


class Settler:
    """Looks for latents that stand still.

    Parameters
    ----------
    transforms : of the model
    latents : its encoder of latents
    plane : of the picture
    level : of the quality
    quantizer : of a still lattice
    """

    def __init__(
        self,
        transforms: Transforms,
        latents: LatentEncoder,
        plane: Plane,
        level: Level,
        quantizer: Quantizer,
    ) -> None:
        self._transforms, self._latents = transforms, latents
        self._plane, self._level, self._quantizer = plane, level, quantizer
        self._keeping = replace(quantizer, keep=True)
        self._gain = level.gain_float[:, None, None]
        self._unit = level.unit_float[:, None, None]

    def settle(self, pixels: Pixels) -> tuple[Float32, Float32]:
        """Return latents and hyper-latents before their gains, for a quantizer that keeps levels.

        Their file decodes to a picture that gives the same file again. If none is found within
        `ROUNDS`, a few latents of that picture differ.
        """
        f = self._transforms.g_a(pixels)
        found = self._recognised(pixels, f)
        if found is None:
            found = self._until_it_stands(self._first(f))
        return self._latents_of(found), hyper_values(found.z, self._level)

    def _until_it_stands(self, state: Settled) -> Settled:
        """Decode and look for the latents again until they are the same.

        The first rounds follow what is found. After them, latents that are found elsewhere come to
        rest; where that does not help, a few are moved by chance, until fewer are found elsewhere.
        """
        random, fewest, best = np.random.default_rng(0), state.v32.size, (state, state)
        for count in range(ROUNDS):
            shown = self._transforms.g_s(self._latents_of(state))
            *_, (again, _) = self._nearer_and_nearer(shown, self._transforms.g_a(shown))
            if state.same(again):
                return state
            if count < FREE:
                state = again
                continue
            missed = len(elsewhere(state, again)) + int(np.count_nonzero(state.z != again.z))
            better = missed <= fewest
            if better:
                best, fewest = (state, again), missed
                state = self._at_rest(*best)
            if not better or state.same(best[0]):
                state = self._shaken(*best, random)
        return best[0]

    def _at_rest(self, one: Settled, other: Settled) -> Settled:
        """Return latents of which each is the one nearer to zero.

        Latents that go back and forth, since pixels hardly tell them apart, come to rest so.
        """
        v32 = np.where(np.abs(one.v32) < np.abs(other.v32), one.v32, other.v32)
        return self._levels(self._unscaled(v32))

    def _shaken(self, one: Settled, other: Settled, random: np.random.Generator) -> Settled:
        """Return latents of which each is one of two by chance, with a few levels moved.

        Levels move in the cells whose hyper-latents go back and forth. If no more than a few levels
        do so, the choices between them are soon tried, and a level beside each moves too.
        """
        v32 = np.where(random.random(one.v32.shape) < 0.5, one.v32, other.v32)
        side = self._plane.cell
        for row, column in np.argwhere((one.z != other.z).any(0)) * side:
            pushed(v32[:, row : row + side, column : column + side], PUSHED, random)
        moved = elsewhere(one, other)
        if len(moved) <= FEW:
            for _, row, column in moved:
                beside = v32[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                pushed(beside, 1, random)
        return self._levels(self._unscaled(v32))

    def _first(self, f: Float32) -> Settled:
        """Quantize g_a of an original."""
        return self._agreed(corrected(self._transforms, f, f), self._quantizer, MOST)

    def _recognised(self, pixels: Pixels, f: Float32) -> Settled | None:
        """Return the latents that a picture was decoded from; None if there are none."""
        for state, differ in self._nearer_and_nearer(pixels, f):
            if not differ:
                return state
            if differ > FOREIGN:
                break
        return None

    def _nearer_and_nearer(self, pixels: Pixels, f: Float32) -> Iterator[tuple[Settled, float]]:
        """Yield latents whose picture is ever more like a given one.

        Parameters
        ----------
        f : g_a of the picture

        Yields
        ------
        The latents, and the share of samples that differ; those that meet it are the last.
        """
        y = f
        for _ in range(CORRECTIONS):
            y = corrected(self._transforms, y, f)
        for factor in (*FACTORS, None):
            state = self._levels(y)
            y = self._latents_of(state)
            shown = self._transforms.g_s(y)
            differ = float((shown != pixels).mean())
            yield state, differ
            if factor is None or not differ:
                return
            y = y + np.float32(factor) * (f - self._transforms.g_a(shown))

    def _levels(self, y: Float32) -> Settled:
        """Return what a file holds whose latents are nearest to these."""
        return self._agreed(self._whole(y), self._keeping, REPEATS)

    def _agreed(self, f: Float32, quantizer: Quantizer, most: int) -> Settled:
        """Quantize latents, with the hyper-latents that they give then, if a few rounds reach that.

        Parameters
        ----------
        f : latents before their gains
        most : rounds in which hyper-latents may change
        """
        z = self._hyper(self._whole(f))
        random, v32 = np.random.default_rng(0), self._quantized(f, z, quantizer)
        for count in range(most):
            given = self._hyper(self._whole(self._unscaled(v32)))
            if np.array_equal(given, z):
                break
            # Cells that change together may change back and forth for ever: half of them break it.
            changes = True if count < WHOLE else random.random(z.shape) < 0.5
            z = np.where(changes, given, z)
            v32 = self._quantized(f, z, quantizer)
        return Settled(v32, z)

    def _quantized(self, f: Float32, z: Int64, quantizer: Quantizer) -> Int32:
        return self._latents.decoded(self._shown(f), z, self._plane, self._level, quantizer)

    def _whole(self, f: Float32) -> Float32:
        """Latents in whole steps."""
        whole: Float32 = np.rint(self._shown(f) * self._gain) / self._gain
        return whole

    def _shown(self, f: Float32) -> Float32:
        """Latents, of which those beyond the picture are copies of the last row and column.

        No pixel shows them, so they could not be found again.
        """
        stride, (height, width) = self._plane.stride, (self._plane.height, self._plane.width)
        rows, columns = -(-height // stride), -(-width // stride)
        if f.shape[1:] == (rows, columns):
            return f
        beyond = (0, 0), (0, f.shape[1] - rows), (0, f.shape[2] - columns)
        return np.pad(f[:, :rows, :columns], beyond, mode="edge")

    def _hyper(self, whole: Float32) -> Int64:
        """Hyper-latents of latents in whole steps."""
        return hyper_symbols(self._transforms.h_a(whole), self._level)

    def _latents_of(self, state: Settled) -> Float32:
        """Latents before their gains, as a decoder has them."""
        return self._unscaled(state.v32)

    def _unscaled(self, v32: Int32) -> Float32:
        unscaled: Float32 = v32.astype(np.float32) * self._unit
        return unscaled


def corrected(transforms: Transforms, f: Float32, target: Float32) -> Float32:
    """Take one step towards the latents that g_s makes a picture of: f + target - g_a(g_s(f)).

    g_a and g_s do not quite undo each other. The step takes back most of what a picture loses by
    that, once or each time that it is encoded again (docs/saving-again.md).

    Parameters
    ----------
    f : latents, before their gains
    target : g_a of the picture
    """
    moved = transforms.g_a(transforms.g_s(f))
    np.subtract(target, moved, out=moved)
    moved += f
    return moved


def elsewhere(one: Settled, other: Settled) -> Int64:
    """Return where levels differ, (N, 3): channel, row and column."""
    whole = (one.v32 % STEP32 == 0) & (other.v32 % STEP32 == 0)
    return np.argwhere(whole & (one.v32 != other.v32))


def pushed(v32: Int32, count: int, random: np.random.Generator) -> None:
    """Move a few levels one step towards zero, in place.

    Parameters
    ----------
    v32 : int32 (latents, rows, columns), part of a picture's, in 1/32 step
    count : of levels, at most
    """
    levels = np.argwhere((v32 % STEP32 == 0) & (v32 != 0))
    for place in random.permutation(levels)[:count]:
        v32[tuple(place)] -= STEP32 * np.sign(v32[tuple(place)])
