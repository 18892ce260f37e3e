"""Key pictures, and between them frames that are blended, corrected or coded as they are.

The way of Cheng et al. ("Learning image and video compression through spatial-temporal energy
compaction", CVPR 2019), with the lightest interpolator there is: the mean of two decoded frames,
weighted by their distance, without motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.video.container import Clip, Frame, read, write
from trellic.errors import BadParameter, CorruptStream

Pixels = npt.NDArray[np.uint8]
LOOPS = (16, 8, 4, 2, 1)  # frames from one key to the next, longest first
ENERGY = 2.0  # of a loop, in errors of its first key
GREY = 128  # a residual of 0
SLOPE = 6.0  # qualities between the two pictures that tell what a bit is worth


class PictureCodec(Protocol):
    """What codes pictures; `benchmarks.codecs.trellic.Trellic` is one."""

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Return a file."""

    def decode(self, data: bytes) -> Pixels:
        """Return the picture of a file."""


@dataclass(frozen=True)
class Try:
    """One way to make a frame."""

    frame: Frame
    decoded: Pixels
    cost: float
    """Squared error a pixel and channel, and bits at what they are worth."""


class VideoCodec:
    """Codes clips with a codec of pictures.

    Parameters
    ----------
    pictures : the codec
    loops : lengths to choose from, longest first; (1,) makes every frame a key
    energy : what a loop may have, in squared errors of its first key; more makes longer loops
    """

    def __init__(
        self, pictures: PictureCodec, loops: Sequence[int] = LOOPS, energy: float = ENERGY
    ) -> None:
        self._pictures, self._loops, self._energy = pictures, loops, energy

    def encode(self, frames: Sequence[Pixels], quality: float, rate: float = 25.0) -> bytes:
        """Return a clip as bytes.

        Raises
        ------
        BadParameter
            There are no frames, too many for the container, or of several sizes.
        """
        if not 0 < len(frames) < 1 << 16 or len({frame.shape for frame in frames}) > 1:
            raise BadParameter(f"{len(frames)} frames", expected="1 to 65535 of one size")
        worth = self._worth(frames[0], quality)
        made: dict[int, Try] = {0: self._picture(frames[0], quality, worth, Frame("key"))}
        start = 0
        while start < len(frames) - 1:
            error = squared_error(frames[start], made[start].decoded)
            limit = self._energy * error
            end = start + loop_length(frames[start:], self._loops, limit)
            made[end] = self._picture(frames[end], quality, worth, Frame("key"))
            self._between(frames, made, (start, end), quality, worth)
            start = end
        height, width = frames[0].shape[:2]
        order = tuple(made[i].frame for i in range(len(frames)))
        return write(Clip(width, height, rate, order))

    def _worth(self, frame: Pixels, quality: float) -> float:
        """Return the squared error that one bit a pixel takes away, near a quality."""
        fine, coarse = (
            self._picture(frame, q, 0.0, Frame("key")) for q in (quality, max(1, quality - SLOPE))
        )
        bits = 8 * (len(fine.frame.data) - len(coarse.frame.data)) / frame[..., 0].size
        return max(coarse.cost - fine.cost, 0.0) / bits if bits > 0 else 0.0

    def _between(
        self,
        frames: Sequence[Pixels],
        made: dict[int, Try],
        ends: tuple[int, int],
        quality: float,
        worth: float,
    ) -> None:
        """Code the frame in the middle of two coded ones, then both halves."""
        left, right = ends
        if right - left < 2:
            return
        middle = (left + right) // 2
        frame = frames[middle]
        guess = blend(made[left].decoded, made[right].decoded, middle - left, right - middle)
        residual = np.clip(frame.astype(np.int16) - guess + GREY, 0, 255).astype(np.uint8)
        data = self._pictures.encode(residual, quality)
        ways = [
            Try(Frame("skip", left, right), guess, squared_error(frame, guess)),
            self._tried(frame, Frame("residual", left, right, data), worth, guess),
            self._picture(frame, quality, worth, Frame("own")),
        ]
        made[middle] = min(ways, key=lambda way: way.cost)
        self._between(frames, made, (left, middle), quality, worth)
        self._between(frames, made, (middle, right), quality, worth)

    def _picture(self, frame: Pixels, quality: float, worth: float, how: Frame) -> Try:
        data = self._pictures.encode(frame, quality)
        return self._tried(frame, Frame(how.kind, data=data), worth, None)

    def _tried(self, frame: Pixels, how: Frame, worth: float, guess: Pixels | None) -> Try:
        decoded = corrected(self._pictures.decode(how.data), guess)
        bits = 8 * len(how.data) / frame[..., 0].size
        return Try(how, decoded, squared_error(frame, decoded) + worth * bits)


class Reader:
    """Decodes single frames of a clip: each frame, and what it is predicted from.

    Frames that were decoded are kept.

    Parameters
    ----------
    data : of `VideoCodec.encode`
    pictures : the codec
    """

    def __init__(self, data: bytes, pictures: PictureCodec) -> None:
        self.clip = read(data)
        self._pictures = pictures
        self.decoded: dict[int, Pixels] = {}

    def frame(self, number: int) -> Pixels:
        """Return a frame.

        Raises
        ------
        BadParameter
            There is no such frame.
        CorruptStream
            A picture is damaged, or of another size than the clip.
        """
        if not 0 <= number < len(self.clip.frames):
            raise BadParameter(f"frame {number}", expected=f"0 to {len(self.clip.frames) - 1}")
        if number not in self.decoded:
            self.decoded[number] = self._make(number, self.clip.frames[number])
        return self.decoded[number]

    def _make(self, number: int, how: Frame) -> Pixels:
        guess = None
        if how.predicted:
            ends = self.frame(how.left), self.frame(how.right)
            guess = blend(*ends, number - how.left, how.right - number)
        if guess is not None and how.kind == "skip":
            return guess
        picture = self._pictures.decode(how.data)
        if picture.shape != (self.clip.height, self.clip.width, 3):
            raise CorruptStream(
                f"frame {number} of shape {picture.shape}",
                expected=f"{self.clip.width}x{self.clip.height} pixels, as the clip",
            )
        return corrected(picture, guess)


def loop_length(frames: Sequence[Pixels], loops: Sequence[int], limit: float) -> int:
    """Return the longest loop whose temporal energy is within a limit; the shortest otherwise.

    The energy is the mean squared difference of the frames between both ends from their blend.
    """
    last = len(frames) - 1
    for length in loops:
        end = min(length, last)
        between = range(1, end)
        energies = [
            squared_error(frames[i], blend(frames[0], frames[end], i, end - i)) for i in between
        ]
        if not energies or float(np.mean(energies)) <= limit:
            return end
    return min(loops[-1], last)


def blend(left: Pixels, right: Pixels, after: int, before: int) -> Pixels:
    """Return the frame that lies so many frames after one and before another."""
    total = after + before
    both = left.astype(np.int32) * before + right.astype(np.int32) * after
    return ((2 * both + total) // (2 * total)).astype(np.uint8)


def corrected(picture: Pixels, guess: Pixels | None) -> Pixels:
    """Return a picture, or, as a residual, what it makes of a guess."""
    if guess is None:
        return picture
    return np.clip(guess.astype(np.int16) + picture - GREY, 0, 255).astype(np.uint8)


def squared_error(one: Pixels, other: Pixels) -> float:
    """Return the mean squared difference."""
    return float(((one.astype(np.float32) - other) ** 2).mean())
