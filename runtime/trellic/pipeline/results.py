"""Results of encoding and decoding, with the time of each stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from trellic.images import Picture


@dataclass(frozen=True)
class Encoded:
    """A stream and how it was made.

    Attributes
    ----------
    data : the bytes of a ``.tlc`` file
    width, height : pixels
    quality : the quality used, in [1, 100]
    trellis : number of trellis states, 0 for scalar
    lanes : rANS lanes of the first slice
    seconds : wall time from pixels to bytes
    stages : wall time of each stage, in seconds
    """

    data: bytes
    width: int
    height: int
    quality: float
    trellis: int
    lanes: int
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole stream."""
        return 8 * len(self.data) / (self.width * self.height)


@dataclass(frozen=True)
class Damage:
    """The missing parts of a picture that was decoded in spite of damage.

    Attributes
    ----------
    lost : number of segments of latents that were not used: damaged, missing, or after such a one
    segments : number of segments of latents
    slices : slices with a loss, ascending
    chunks : alpha or metadata that are lost, by name
    """

    lost: int
    segments: int
    slices: tuple[int, ...]
    chunks: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.lost} of {self.segments} segments"] if self.lost else []
        parts += [f"the {name} chunk" for name in self.chunks]
        missing = ", ".join(parts) or "nothing that the picture needs"
        return f"the file is damaged; lost: {missing}"


@dataclass(frozen=True)
class Decoded:
    """A picture, how long each stage took, in seconds, and what it lacks, if anything."""

    picture: Picture
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)
    damage: Damage | None = None
