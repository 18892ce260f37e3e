"""MPEG-4 and H.264 by ffmpeg, which the package imageio-ffmpeg carries."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.codecs import CodecUnavailableError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rival:
    """A codec of ffmpeg: elementary streams, without a container."""

    options: tuple[str, ...]
    setting: str
    """The option that sets the quality."""
    ladder: tuple[int, ...]
    format: str
    pixels: str

    def encode(self, frames: Sequence[Pixels], quality: int, rate: float) -> bytes:
        """Return a stream."""
        height, width = frames[0].shape[:2]
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate:g}"]
        out = ["-pix_fmt", self.pixels, *self.options, self.setting, str(quality)]
        out += ["-f", self.format]
        return _run([*raw, "-i", "-", *out, "-"], b"".join(f.tobytes() for f in frames))

    def decode(self, data: bytes, shape: tuple[int, ...]) -> list[Pixels]:
        """Return all frames."""
        out = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough"]
        raw = _run(["-f", self.format, "-i", "-", *out, "-"], data)
        return list(np.frombuffer(raw, np.uint8).reshape(-1, *shape))


_H264 = ("-c:v", "libx264", "-preset", "medium", "-tune", "psnr")
_MPEG4 = ("-c:v", "mpeg4", "-g", "250")
_CRF = (18, 23, 28, 33, 38, 43)
RIVALS = {
    "MPEG-4": Rival(
        ("-c:v", "mpeg4", "-g", "250"), "-q:v", (2, 4, 8, 14, 22, 31), "m4v", "yuv420p"
    ),
    "H.264, intra": Rival((*_H264, "-g", "1"), "-crf", _CRF, "h264", "yuv444p"),
    "H.264": Rival((*_H264, "-g", "250"), "-crf", _CRF, "h264", "yuv444p"),
}


def ffmpeg() -> str:
    """Return the program.

    Raises
    ------
    CodecUnavailableError
        The package is missing.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise CodecUnavailableError(
            "MPEG-4 and H.264 need ffmpeg; remedy: pip install --group video"
        ) from error
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _run(arguments: Sequence[str], data: bytes) -> bytes:
    command = [ffmpeg(), "-hide_banner", "-loglevel", "error", "-threads", "1", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout
