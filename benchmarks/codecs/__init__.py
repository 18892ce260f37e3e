"""Codecs that the rate-distortion benchmark can run, one per module.

A codec is named by a *spec*: its name, then options after colons, such as ``avif:speed=3`` or
``trellic:trellis=32:decoder=fast``. Third-party packages are imported when a codec is made.
"""

import importlib
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Codec(Protocol):
    """What the benchmark needs of a codec; pixels are (H, W, 3) uint8."""

    @property
    def settings(self) -> dict[str, str | int | float]:
        """Everything about the encoder that is not the quality."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that decide size and picture."""

    @property
    def ladder(self) -> tuple[float, ...]:
        """The quality settings to run by default, in the codec's own scale."""

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Return a whole file."""

    def decode(self, data: bytes) -> Pixels:
        """Return the picture that the codec's own decoder makes of a file."""


class CodecUnavailableError(RuntimeError):
    """A codec's package is missing, or its build lacks what the benchmark needs."""


class SpecError(ValueError):
    """A codec spec names an unknown codec or option."""


@dataclass(frozen=True)
class Spec:
    """A codec and its options, as written on the command line."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """Read ``name[:option=value]...``.

        Examples
        --------
        >>> Spec.parse("avif:speed=3")
        Spec(name='avif', options=(('speed', '3'),))
        """
        name, *parts = text.strip().split(":")
        if name not in CODECS:
            raise SpecError(f"unknown codec {name!r}; choose from {', '.join(CODECS)}")
        pairs = [part.partition("=") for part in parts]
        if not all(key and value for key, _, value in pairs):
            raise SpecError(f"options of {text!r} must be written option=value")
        return cls(name, tuple((key, value) for key, _, value in pairs))

    def text(self) -> str:
        """Return the text that `parse` reads, for another process."""
        return ":".join([self.name, *(f"{key}={value}" for key, value in self.options)])

    def __str__(self) -> str:
        """Return that text with paths cut to their last part, for people."""
        options = (f"{key}={value.rstrip('/').rpartition('/')[2]}" for key, value in self.options)
        return ":".join([self.name, *options])


# name: (module, class, packages to install)
CODECS: Final[dict[str, tuple[str, str, str]]] = {
    "trellic": ("benchmarks.codecs.trellic", "Trellic", "trellic[cpu]"),
    "jpeg": ("benchmarks.codecs.jpeg", "MozJpeg", "pyvips[binary]"),
    "jpegli": ("benchmarks.codecs.jpegli", "Jpegli", "ajpegli"),
    "webp": ("benchmarks.codecs.webp", "WebP", "pillow"),
    "avif": ("benchmarks.codecs.avif", "Avif", "pillow>=11.3"),
    "jxl": ("benchmarks.codecs.jxl", "JpegXl", "imagecodecs"),
    "heic": ("benchmarks.codecs.heic", "Heic", "pillow-heif"),
    "jp2": ("benchmarks.codecs.jp2", "Jpeg2000", "pillow"),
}


def make(spec: Spec) -> Codec:
    """Make a codec.

    Raises
    ------
    CodecUnavailableError
        Its package is missing; the message names it.
    SpecError
        It has no such option, or not that value.
    """
    module, cls, packages = CODECS[spec.name]
    try:
        codec: Codec = getattr(importlib.import_module(module), cls)(**dict(spec.options))
    except ImportError as error:
        raise CodecUnavailableError(
            f"codec {spec.name} lacks a package ({error}); remedy: pip install '{packages}'"
        ) from error
    except TypeError as error:
        raise SpecError(f"{spec}: {error}") from error
    return codec
