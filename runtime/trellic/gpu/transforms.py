"""Pixels of a batch to latents and back: `trellic.pipeline.transforms` on a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trellic.gpu.batch import Images, Run, view
from trellic.gpu.device import Device
from trellic.gpu.engines import DeviceEngine
from trellic.gpu.given import DeviceArray
from trellic.gpu.kernels import pixels as kernels
from trellic.model.channels import Layout

Shape = tuple[int, ...]


class Graphs(Protocol):
    """The free networks of one model on a device."""

    def graph(self, name: str) -> DeviceEngine:
        """Return "encoder", "hyper_encoder" or "decoder NAME"."""


class BatchTransforms:
    """The free networks of a model, for batches: g_a, h_a and the decoders.

    Parameters
    ----------
    device
    layout : of the bundle
    graphs : of the bundle, on that device
    """

    def __init__(self, device: Device, layout: Layout, graphs: Graphs) -> None:
        self._device, self._layout, self._graphs = device, layout, graphs

    def tables(
        self, shapes: Sequence[Shape], images: Images
    ) -> dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float32]]:
        """Return the tables that `analyse` and `synthesise` need on the device."""
        qualities = {f"quality {i}": own for i, own in enumerate(images.qualities)}
        return {"pixel table": _table(shapes, images), **qualities}

    def analyse(
        self,
        arrays: Sequence[DeviceArray | npt.NDArray[np.uint8]],
        images: Images,
        staged: Mapping[str, DeviceArray],
    ) -> DeviceArray:
        """Latents before their gains, flat: g_a.

        Parameters
        ----------
        arrays : uint8 (H, W, 3) or (H, W), C contiguous, on the host or the device
        images : where everything lies
        staged : `tables` on the device, and "host pixels": those of arrays on the host, if any
        """
        device, layout = self._device, self._layout
        pixels, padded = self._pixels(arrays, staged), self._padded(images)
        grid = device.grid(len(arrays))
        kernels.pad_pixels(*grid, staged["pixel table"], pixels, padded)
        device.mark("pixels in")
        f = device.empty("latents", layout.latents * images.latent_total, np.float32)
        g_a = self._graphs.graph("encoder")
        for run, quality in zip(images.latent_runs, _qualities(images, staged), strict=True):
            inputs = {"image": pixel_view(device, padded, run, layout.stride), "quality": quality}
            g_a(inputs, [view(device, f, run, layout.latents)])
        device.mark("g_a")
        return f

    def analyse_hyper(self, f: DeviceArray, images: Images) -> DeviceArray:
        """Hyper-latents before their gains, flat, from latents: h_a."""
        device, layout = self._device, self._layout
        h = device.empty("hyper", layout.hyper * images.z_total, np.float32)
        h_a = self._graphs.graph("hyper_encoder")
        for run, z_run in zip(images.latent_runs, images.z_runs, strict=True):
            h_a(
                {"latents": view(device, f, run, layout.latents)},
                [view(device, h, z_run, layout.hyper)],
            )
        device.mark("h_a")
        return h

    def synthesise(
        self,
        name: str,
        latents: DeviceArray,
        out: DeviceArray,
        images: Images,
        staged: Mapping[str, DeviceArray],
    ) -> None:
        """Make the pixels of all pictures, one after the other.

        Parameters
        ----------
        name : of the decoder
        latents : float32, flat, where `images` says
        out : uint8, flat
        images : where everything lies
        staged : `tables` on the device
        """
        device, layout = self._device, self._layout
        padded, g_s = self._padded(images), self._graphs.graph(f"decoder {name}")
        for run, quality in zip(images.latent_runs, _qualities(images, staged), strict=True):
            g_s(
                {"latents": view(device, latents, run, layout.latents), "quality": quality},
                [pixel_view(device, padded, run, layout.stride)],
            )
        device.mark("g_s")
        grid = device.grid(len(images.images))
        kernels.crop_pixels(*grid, staged["pixel table"], padded, out)
        device.mark("pixels out")

    def _padded(self, images: Images) -> DeviceArray:
        size = 3 * self._layout.stride**2 * images.latent_total
        return self._device.empty("padded", size, np.uint8)

    def _pixels(
        self,
        arrays: Sequence[DeviceArray | npt.NDArray[np.uint8]],
        staged: Mapping[str, DeviceArray],
    ) -> DeviceArray:
        """Bring all pixels together: those of the host are staged, others are copied one by one."""
        device, sent = self._device, staged.get("host pixels")
        if sent is not None and all(isinstance(a, np.ndarray) for a in arrays):
            return sent
        if len(arrays) == 1:
            return arrays[0].reshape(-1)
        flat = device.empty("pixels", sum(_size(a.shape) for a in arrays), np.uint8)
        at = sent_at = 0
        for array in arrays:
            size = _size(array.shape)
            if isinstance(array, np.ndarray):
                source = staged["host pixels"][sent_at : sent_at + size]
                sent_at += size
            else:
                source = array.reshape(-1)
            flat[at : at + size].copy_to_device(source, stream=device.stream)
            at += size
        return flat


def host_pixels(
    arrays: Sequence[DeviceArray | npt.NDArray[np.uint8]],
) -> dict[str, npt.NDArray[np.uint8]]:
    """Return the pixels of the host among a batch, one after the other, under their name."""
    host = [array.reshape(-1) for array in arrays if isinstance(array, np.ndarray)]
    return {"host pixels": np.concatenate(host)} if host else {}


def _qualities(images: Images, staged: Mapping[str, DeviceArray]) -> list[DeviceArray]:
    """Return the pictures' qualities, run by run."""
    return [staged[f"quality {i}"] for i in range(len(images.latent_runs))]


def parts(flat: DeviceArray, shapes: Sequence[Shape]) -> list[DeviceArray]:
    """Return the pictures that lie in a flat array, one after the other."""
    ends = np.cumsum([_size(shape) for shape in shapes]).tolist()
    return [
        flat[end - _size(shape) : end].reshape(shape)
        for shape, end in zip(shapes, ends, strict=True)
    ]


def pixel_view(device: Device, flat: DeviceArray, run: Run, stride: int) -> DeviceArray:
    """Return the tensor of a run, (count, height, width, 3), in a flat buffer of pixels."""
    size = 3 * stride**2
    height, width = (stride * side for side in run.shape)
    stop = run.at + run.count * run.shape[0] * run.shape[1]
    return device.part(flat, size * run.at, size * stop, (run.count, height, width, 3))


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _table(shapes: Sequence[Shape], images: Images) -> npt.NDArray[np.int64]:
    table = np.zeros((len(shapes), kernels.PIXEL_COLUMNS), np.int64)
    at = 0
    for row, shape, image in zip(table, shapes, images.images, strict=True):
        row[kernels.HEIGHT], row[kernels.WIDTH] = shape[:2]
        row[kernels.CHANNELS] = 3 if len(shape) == 3 else 1
        row[kernels.PIXEL_AT] = at
        row[[kernels.PADDED_HEIGHT, kernels.PADDED_WIDTH]] = image.plane.padded
        at += _size(shape)
    table[:, kernels.PADDED_AT] = 3 * images.layout.stride**2 * images.latent_at
    return table
