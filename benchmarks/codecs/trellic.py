"""Trellic itself: whole .tlc files from `trellic.codec.Codec`."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from benchmarks.codecs import Pixels
from trellic.codec import Codec
from trellic.constants import DEFAULT_TRELLIS
from trellic.engines.openvino import has_bf16
from trellic.model.manifest import Manifest


class Trellic:
    """Trellic's codec, with one decoder and one trellis setting.

    Parameters
    ----------
    model
        Name or path of a bundle.
    trellis
        States of the trellis; 0 is scalar quantization with RDOQ.
    decoder
        Name of the decoder.
    search
        ``trellis``, or ``round`` for plain rounding (with trellis 0).
    device
        Where the networks run.
    threads
        Threads of the networks; empty: the engine's default.
    dither
        Seed of dither (with trellis 0); empty: none.
    precision
        Of encoder and decoder: ``fp32``, ``bf16`` or ``int8``.
    patches
        ``off`` or ``auto``, for patches; empty: the codec's default.
    steady
        ``1`` for a lattice that stands still, and latents that are corrected once.
    refine
        ``1`` for latents that are corrected once.
    """

    ladder = (1, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 94, 100)

    def __init__(
        self,
        model: str = "photo",
        trellis: str = str(DEFAULT_TRELLIS),
        decoder: str = "quality",
        search: str = "trellis",
        device: str = "auto",
        threads: str = "",
        dither: str = "",
        precision: str = "fp32",
        patches: str = "",
        steady: str = "",
        refine: str = "",
    ) -> None:
        self.codec = Codec.load(model, device, int(threads) if threads else None, precision)
        manifest = self.codec.bundle.manifest
        self.settings: dict[str, str | int | float] = {
            "model": str(manifest.name),
            "trellis": int(trellis),
            "decoder": decoder,
            "search": search,
            "precision": precision,
        }
        self.versions = {
            "trellic": _installed(),
            "stream_id": str(manifest.stream_id),
            "networks": _digest(manifest, decoder.partition(":")[0], precision),
        }
        self._encode_options: dict[str, Any] = {"trellis": int(trellis), "search": search}
        if patches:
            self.settings["patches"] = self._encode_options["patches"] = patches
        if dither:
            self.settings["dither"] = self._encode_options["dither"] = int(dither)
        for name, given in (("steady", steady), ("refine", refine)):
            if given:
                self.settings[name] = self._encode_options[name] = bool(int(given))
        self._decoder = decoder

    @property
    def decoders(self) -> list[str]:
        """Names of the model's decoders that give a picture of full size."""
        found = self.codec.decoders.items()
        return [name for name, one in found if one.kind == "picture" and one.scale == 1]

    def precisions(self, decoder: str) -> list[str]:
        """What a decoder can be computed in here."""
        info = self.codec.decoders.get(decoder)
        if not info:
            return []
        return info.graph.precisions + ["bf16"] * has_bf16()

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at quality 1 to 100."""
        return bytes(self.codec.encode(pixels, quality=quality, **self._encode_options))

    def decode(self, data: bytes) -> Pixels:
        """Decode with the decoder chosen."""
        return np.asarray(self.codec.decode(data, decoder=self._decoder))


def _digest(manifest: Manifest, decoder: str, precision: str) -> str:
    """Return one hash of what codes and decodes: models of one stream id may differ in networks.

    Other decoders, and graphs in other precisions, are left out.
    """
    info = manifest.decoders.get(decoder)
    used = {decoder, info.base} if info else {decoder}
    unused = set()
    for name, one in manifest.decoders.items():
        unused |= set() if name in used else {one.graph.file, *one.graph.variants.values()}
    for graph in (manifest.encoder, *(one.graph for one in manifest.decoders.values())):
        unused |= {file for kind, file in graph.variants.items() if kind != precision}
    hashes = {file: value for file, value in manifest.sha256.items() if file not in unused}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


def _installed() -> str:
    try:
        return version("trellic")
    except PackageNotFoundError:
        return "source tree"
