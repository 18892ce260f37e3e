"""The library decodes every stream of the kit; the runner finds decoders that do not."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pytest
from PIL import Image
from tests.conformance import run, streams

from trellic import bitstream
from trellic.codec import Codec
from trellic.images import to_array

MANIFEST = run.manifest()["streams"]


@pytest.fixture(scope="module")
def codec():
    return Codec(streams.MODEL)


@pytest.mark.parametrize("name", MANIFEST)
def test_streams_decode(codec, name, tmp_path):
    data = (streams.HERE / "streams" / f"{name}.tlc").read_bytes()
    entry = MANIFEST[name]
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert streams.digest(streams.latents(codec, data)) == entry["latents"]
    picture = to_array(codec.decode_picture(data))
    expected = np.asarray(Image.open(streams.HERE / "pictures" / f"{name}.png"))
    assert list(picture.shape) == entry["shape"]
    assert run.psnr(picture, expected) >= entry["psnr"]["quality"]


def test_every_stream_is_listed():
    assert set(MANIFEST) == set(streams.STREAMS)
    for folder, suffix in (("streams", ".tlc"), ("pictures", ".png")):
        files = {path.name for path in (streams.HERE / folder).iterdir()}
        assert files == {name + suffix for name in MANIFEST}


def header_of(name: str) -> bitstream.Header:
    return bitstream.read_header((streams.HERE / "streams" / f"{name}.tlc").read_bytes())


def test_the_kit_covers_what_it_says(codec):
    headers = [header_of(name) for name in MANIFEST]
    assert {h.trellis for h in headers} == set(bitstream.TRELLIS_STATES)
    assert {n for h in headers for n in h.lanes} >= {1, 2, 8, 32, 64, 256, 1024}
    assert {h.quality16 for h in headers} >= {16, 597, 1600}
    assert {(h.width, h.height) for h in headers} >= {(1, 1), (3, 1), (17, 33)}
    assert {h.slice_side for h in headers} == {16, 64, 128}
    assert max(h.slices for h in headers) >= 4
    assert any(h.grey for h in headers)
    flat = bitstream.read((streams.HERE / "streams" / "flat.tlc").read_bytes())
    assert b"" in flat.segments[1:]
    everything = bitstream.read((streams.HERE / "streams" / "everything.tlc").read_bytes())
    assert all(chunk is not None for chunk in vars(everything.chunks).values())


def test_the_kit_holds_escapes(codec, monkeypatch):
    seen = []
    coder = type(codec._coder())
    fill = coder._fill

    def watch(self, v32, step, position, k, cls, index):
        seen.append((np.abs(k) > self.tables.half_width[cls, index]).sum())
        fill(self, v32, step, position, k, cls, index)

    monkeypatch.setattr(coder, "_fill", watch)
    streams.latents(codec, (streams.HERE / "streams" / "escapes.tlc").read_bytes())
    assert sum(seen) > 50


# ---- the runner ----

OURS = f"{sys.executable} -m trellic decode {{input}} {{output}} --model {{model}}"
COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"


@pytest.fixture
def two(monkeypatch):
    """A kit of two streams, so that processes are few."""
    part = {name: MANIFEST[name] for name in ("size-1x1", "alpha")}
    monkeypatch.setattr(run, "manifest", lambda: {"streams": part})


def test_our_command_conforms(two, capsys):
    assert run.main(["--decoder", OURS.replace(" --model {model}", "")]) == 0
    assert "2 of 2 streams conform" in capsys.readouterr().out


def test_our_latents_conform(monkeypatch):
    monkeypatch.setattr(run, "manifest", lambda: {"streams": {"grey": MANIFEST["grey"]}})
    command = f"{sys.executable} -m tests.conformance.latents {{input}} {{output}}"
    assert run.main(["--latents", command]) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program {input}", "No such file"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "exit code 3"),
        (f"{sys.executable} -c pass", "no output file"),
    ],
)
def test_faults_are_named(two, capsys, command, message):
    assert run.main(["--decoder", command]) == 1
    out = capsys.readouterr().out
    assert message in out
    assert "0 of 2" in out


def test_a_wrong_picture_does_not_conform(two, capsys, tmp_path):
    picture = np.asarray(Image.open(streams.HERE / "pictures" / "alpha.png")).copy()
    picture[..., :3] ^= 8
    wrong = tmp_path / "wrong.png"
    Image.fromarray(picture).save(wrong)
    command = f"{sys.executable} -c {json.dumps(COPY)} {wrong} {{output}}"
    assert run.main(["--decoder", command]) == 1
    out = capsys.readouterr().out
    assert "dB from the kit's picture" in out
    assert "shape" in out
    assert run.main(["--latents", command]) == 1
    assert "latents differ" in capsys.readouterr().out
