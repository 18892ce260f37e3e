"""A codec that stores pictures whole, for the commands; a model with several decoders."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from trellic import bitstream
from trellic.codec import Codec
from trellic.errors import TargetUnreachable, UnknownDecoder, UnknownModel
from trellic.images import Picture

FAKE_ID = bytes.fromhex("0fa4e001")


class FakeCodec:
    """Same methods as `Codec`; the one segment holds the deflated pixels."""

    def __init__(self, model="photo", device="auto"):
        if model not in ("photo", "/models/fake.zip"):
            raise UnknownModel(f"no model {model!r}", remedy="installed models: photo")
        self.model, self.device, self.calls = "photo", device, []
        self.precision = "fp32"

    def warm_up(self, *, trellis=None, decoder=None):
        self._check(decoder or "quality")
        self.calls.append(("warm_up", trellis, decoder))

    def encode_picture(self, picture, **options):
        self.calls.append(("encode", options))
        quality16 = round(16 * options.get("quality", 60))
        raw = zlib.compress(picture.pixels.tobytes())
        raw = struct.pack("<I", len(raw)) + raw + bytes(len(raw) % 2)
        if len(raw) > options.get("max_bytes", 2**40):
            raise TargetUnreachable(f"{options['max_bytes']} bytes", expected=f"over {len(raw)}")
        trellis = options.get("trellis", 8)
        header = bitstream.Header(
            picture.width, picture.height, quality16, trellis, 1, FAKE_ID, (1,), picture.grey
        )
        chunks = bitstream.Chunks.of(picture, strip=options.get("strip", False))
        data = bitstream.write(bitstream.Stream(header, [b"", raw], chunks))
        return SimpleNamespace(
            data=data,
            width=picture.width,
            height=picture.height,
            quality=quality16 / 16,
            trellis=trellis,
            lanes=1,
            seconds=0.03,
            stages={"g_a": 0.01, "code": 0.02},
        )

    def decode_picture(self, data, *, decoder="quality", max_pixels=2**28, **options):
        self._check(decoder)
        self.calls.append(("decode", decoder, *options.items()))
        stream = bitstream.read(data, max_pixels)
        header = stream.header
        (length,) = struct.unpack("<I", stream.segments[1][:4])
        raw = zlib.decompress(stream.segments[1][4 : 4 + length])
        shape = (header.height, header.width) + (() if header.grey else (3,))
        pixels = np.frombuffer(raw, np.uint8).reshape(shape).copy()
        return Picture(pixels, **vars(stream.chunks))

    def decode_timed(self, data, *, decoder="quality", max_pixels=2**28, best_effort=False):
        picture = self.decode_picture(data, decoder=decoder, max_pixels=max_pixels)
        stages = {"decode": 0.01, "g_s": 0.01}
        return SimpleNamespace(picture=picture, seconds=0.02, stages=stages, damage=None)

    def _check(self, decoder):
        if decoder.partition(":")[0] not in ("quality", "fast"):
            raise UnknownDecoder(f"model 'photo' has no decoder {decoder!r}", remedy="it has: fast")


@pytest.fixture
def fake_codec(monkeypatch):
    """Replace the codec of all commands; the list collects those that were loaded."""
    from trellic.cli import engines

    loaded = []

    def load(model, device, precision="fp32", threads=0):
        loaded.append(FakeCodec(model, device))
        return loaded[-1]

    def find(stream_id):
        if stream_id != FAKE_ID:
            raise UnknownModel(f"the stream needs a model with stream id {stream_id.hex()}")
        return "/models/fake.zip"

    monkeypatch.setattr(engines, "load_codec", load)
    monkeypatch.setattr(engines, "find_stream", find)
    return loaded


# ---- a model with tables for dither ----


@pytest.fixture(scope="session")
def dithered():
    """The tiny model with tables for dither, which still lattices need too."""
    from tests.data import make_dither

    return Codec.load(str(make_dither.BUNDLE), device="cpu", threads=1)


# ---- a model with several decoders ----


@pytest.fixture(scope="session")
def family_path(tiny_path, tmp_path_factory):
    """The tiny bundle with more decoders, alone in a folder."""
    from tests.runtime.family import make_family

    return make_family(tiny_path, tmp_path_factory.mktemp("family") / "family.zip")


@pytest.fixture(scope="session")
def family(family_path):
    return Codec.load(str(family_path), device="cpu", threads=1)


@pytest.fixture(scope="session")
def plain_stream(family):
    """A stream of one slice, 150 x 100 pixels."""
    from tests.runtime.family import noise

    return family.encode(noise(100, 150))


@pytest.fixture(scope="session")
def sliced_stream(family):
    """A stream of six slices, 515 x 300 pixels, with alpha and a profile."""
    from tests.runtime.family import in_slices, noise

    alpha = np.random.default_rng(1).integers(0, 256, (300, 515), dtype=np.uint8)
    return in_slices(family, noise(300, 515), bitstream.Chunks(alpha=alpha, icc=b"profile"))
