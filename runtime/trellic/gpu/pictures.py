"""Pictures to files on a GPU, part by part; two parts are in flight.

While the host waits for the words of one part and writes its files, the device works on the next.
Work is done in the order of one stream, so networks and kernels never run side by side, but what a
part has on the device stays until its files are there: each of the two has memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trellic import bitstream
from trellic.bitstream import Chunks, Stream
from trellic.errors import BadImage
from trellic.gpu import encoder
from trellic.gpu.batch import Image, Images, Slices
from trellic.gpu.device import Device
from trellic.gpu.dlpack import DeviceImage, lies_there, taken
from trellic.gpu.toolkit import cuda
from trellic.gpu.transforms import BatchTransforms, Shape, host_pixels
from trellic.model.bundle import Bundle
from trellic.pipeline.header import header_of


@dataclass(frozen=True)
class Part:
    """Pictures that are coded together; see `GpuCodec.encode_batch`.

    Attributes
    ----------
    pictures, quality16, trellis : one of each for each
    chunks : alpha and metadata of each
    """

    pictures: Sequence[Any]
    quality16: Sequence[int]
    trellis: Sequence[int]
    chunks: Sequence[Chunks]


@dataclass(frozen=True)
class Begun:
    """A part whose first networks run, in memory of its turn; holds the arrays that they read."""

    turn: int
    part: Part
    arrays: list[Any]
    latents: encoder.Begun


@dataclass(frozen=True)
class Launched:
    """A part of which everything has been launched."""

    begun: Begun
    latents: encoder.Launched


class PictureEncoder:
    """Pictures to files, with the networks and tables of one model.

    Parameters
    ----------
    bundle : the model
    device
    transforms, latents : of that model, on that device
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        transforms: BatchTransforms,
        latents: encoder.BatchEncoder,
    ) -> None:
        self._bundle, self._device = bundle, device
        self._transforms, self._encoder = transforms, latents

    def encode(self, parts: Iterable[Part]) -> list[bytes]:
        """Encode all pictures of all parts; return their files."""
        files: list[bytes] = []
        before: Launched | None = None
        try:
            for n, part in enumerate(part for part in parts if part.pictures):
                begun = self._begin(n % 2, part)
                if before is not None:
                    files += self._finish(before)
                before = self._launch(begun)
            return files if before is None else files + self._finish(before)
        finally:
            self._device.turn = 0

    def _begin(self, turn: int, part: Part) -> Begun:
        self._device.turn = turn
        arrays = [_checked(picture, self._device) for picture in part.pictures]
        shapes = [tuple(array.shape) for array in arrays]
        images = images_of(self._bundle, shapes, part.quality16, part.trellis)
        slices = Slices.all(images, [None] * len(arrays))
        tables = self._encoder.tables(slices) | self._transforms.tables(shapes, images)
        staged = self._device.stage("of pictures", tables | host_pixels(arrays))
        f = self._transforms.analyse(arrays, images, staged)
        asked = self._encoder.ask_sizes(slices, staged, f)
        h = self._transforms.analyse_hyper(f, images)
        return Begun(turn, part, arrays, self._encoder.begin(slices, staged, f, h, asked))

    def _launch(self, begun: Begun) -> Launched:
        self._device.turn = begun.turn
        return Launched(begun, self._encoder.launch(begun.latents))

    def _finish(self, launched: Launched) -> list[bytes]:
        begun, files = launched.begun, []
        self._device.turn, part = begun.turn, begun.part
        coded = self._encoder.finish(launched.latents)
        each = zip(begun.arrays, part.quality16, part.trellis, coded, part.chunks, strict=True)
        for array, quality, states, one, own in each:
            size, grey = (array.shape[1], array.shape[0]), array.ndim == 2
            header = header_of(self._bundle, size, quality, states, one.lanes, grey=grey)
            contents = header, one.segments, own, self._bundle.embedded
            files.append(bitstream.write(Stream(*contents)))
        return files


def images_of(
    bundle: Bundle, shapes: Sequence[Shape], quality16: Sequence[int], trellis: Sequence[int]
) -> Images:
    """Lay out pictures of these shapes, (H, W) or (H, W, 3), as a model codes them."""
    layout, search, levels = bundle.manifest.layout, bundle.manifest.search, bundle.levels
    made = []
    for shape, quality, states in zip(shapes, quality16, trellis, strict=True):
        lam = search["trellis" if states else "scalar"].lam
        plane = layout.plane(shape[1], shape[0])
        made.append(Image(plane, levels.at(quality, states), states, lam))
    return Images(made, layout)


def _checked(picture: Any, device: Device) -> Any:
    """Return a picture as a NumPy array or a device array.

    If a library has DLPack and ``__cuda_array_interface__``, DLPack is used, because it tells the
    library which stream will read the array, so that pending work on other streams ends first.
    """
    if isinstance(picture, np.ndarray):
        array = np.ascontiguousarray(picture)
    elif isinstance(picture, DeviceImage):
        array = picture.array
    elif hasattr(picture, "copy_to_host"):
        array = picture
    elif lies_there(picture):
        array = taken(picture, device.stream_address)
    elif hasattr(picture, "__cuda_array_interface__"):
        array = cuda.as_cuda_array(picture)
    else:
        array = np.ascontiguousarray(picture)
    good = array.dtype == np.uint8 and array.size and array.ndim in (2, 3)
    if not good or (array.ndim == 3 and array.shape[2] != 3):
        raise BadImage(
            f"a picture of {array.dtype} {tuple(array.shape)}",
            expected="uint8 (H, W, 3) or (H, W), C contiguous, on the host or the GPU",
        )
    return array
