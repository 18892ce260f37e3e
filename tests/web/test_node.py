"""The decoder for web pages, in node: the same latents, the same refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests.conformance import kit, run

from trellic import bitstream, images
from trellic.bitstream import Layering
from trellic.bitstream.container import assemble, stored_of
from trellic.bitstream.fields import pack_varint
from trellic.bitstream.front import PATCHES
from trellic.codec import Codec
from trellic.errors import StreamError
from trellic.geometry import Plane
from trellic.images.av1 import contained, pack_still
from trellic.latents.intervals import Division
from trellic.latents.law import law
from trellic.latents.quantizer import Lattice
from trellic.latents.refine import variances
from trellic.limits import MEAN_LIMIT
from trellic.pipeline.layers import told16
from trellic_export.web import WebOptions, export_web

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "data" / "golden"


@pytest.mark.parametrize("bundle", [kit.MODEL, kit.DITHER_MODEL])
def test_the_conformance_kit(node, folders, tiny, bundle):
    """Latents by hash; what must be refused is, with the same kind of error as in Python."""
    cases = [case for case in kit.load() if case.bundle == bundle]
    streams = [case.stream for case in cases]
    found = json.loads(node(HERE / "conformance.mjs", folders[bundle], *streams))
    for case in cases:
        seen = found[str(case.stream)]
        if case.refuse:
            with pytest.raises(StreamError) as refused:
                tiny.decode(case.stream.read_bytes())
            assert seen["kind"] == type(refused.value).__name__, case.name
        else:
            assert seen == {"z": case.z["sha256"], "y": case.y["sha256"]}, case.name


def test_adapters_are_named_and_not_used(node, folder):
    """Latents are what they are; the picture is that of the plain decoder."""
    paths = [GOLDEN / "adapter.tlc", GOLDEN / "adapter-embedded.tlc"]
    named, held = json.loads(node(HERE / "conformance.mjs", folder, *paths)).values()
    assert named == held
    assert set(named) == {"z", "y"}


@pytest.mark.parametrize("grey", [False, True])
def test_av1_gets_the_same_container(node, folder, tmp_path, grey):
    pixels = np.arange(40 * 600).reshape(40, 600).astype(np.uint8)
    data = pack_still(pixels if grey else np.stack([pixels] * 3, 2), 50)
    (tmp_path / "data").write_bytes(data)
    said = node(HERE / "patches.mjs", folder, tmp_path / "data", 40, 600, str(grey).lower())
    assert bytes.fromhex(said) == contained(data, 40, 600, grey=grey)


def test_broken_patches_are_refused_for_the_same_reasons(node, folder, tiny, tmp_path):
    """Node decodes no pixels, but all of a file is checked before."""
    good = (GOLDEN / "bare.tlc").read_bytes()
    contents, stream = bitstream.read_contents(good), bitstream.read(good)
    stored = bytes(stored_of(memoryview(good), contents)[PATCHES])
    header, empty = stream.header, stream.segments
    first = stored.index(stream.patches.data[0])
    second = stored.index(stream.patches.data[1])
    mask = pack_varint(len(packed := zlib.compress(b"\xff" * 12 + b"\0"))) + packed
    behind = stored[1 + stored[0] :]

    def flipped(at: int, bit: int = 0) -> bytes:
        return stored[:at] + bytes([stored[at] ^ 1 << bit]) + stored[at + 1 :]

    made = {
        "cut": stored[:-1],
        "longer": stored + b"x",
        "mask": mask + behind,
        "unit": flipped(first, 5),
        "profile": flipped(first + 2, 5),
        "still": flipped(first + 2, 4),
        "width": flipped(first + 5, 3),
        "neither": flipped(second, 3),
        "webp": flipped(second + 1),
        "alpha": flipped(second + 4, 4),
    }
    files = {name: assemble(header, {PATCHES: chunk}, empty) for name, chunk in made.items()}
    files["none"] = assemble(header, {}, empty)
    files["segment"] = assemble(header, {PATCHES: stored}, [b"ab", *empty[1:]])
    paths = []
    for name, data in files.items():
        paths.append(tmp_path / f"{name}.tlc")
        paths[-1].write_bytes(data)
    found = json.loads(node(HERE / "conformance.mjs", folder, *paths))
    for path in paths:
        with pytest.raises(StreamError) as refused:
            tiny.decode(path.read_bytes())
        seen = found[str(path)]
        assert seen["kind"] == type(refused.value).__name__, path.name
        assert seen["message"][:20] == str(refused.value)[:20], path.name


def test_patches_are_refused(node, folder, tmp_path):
    """Their latents decode; a picture of them alone would lack the patches."""
    path = GOLDEN / "patches.tlc"
    (found,) = json.loads(node(HERE / "conformance.mjs", folder, path)).values()
    assert set(found) == {"z", "y"}
    with pytest.raises(AssertionError, match="a file with patches"):
        node(HERE / "pictures.mjs", folder, tmp_path, "quality", path)


@pytest.mark.parametrize("bundle", [kit.MODEL, kit.DITHER_MODEL])
def test_pictures_of_the_kit(node, folders, tmp_path, bundle):
    """By the kernels that pages have; each picture as close as the kit asks."""
    cases = [case for case in kit.load() if not case.refuse and case.bundle == bundle]
    streams = [case.stream for case in cases]
    node(HERE / "pictures.mjs", folders[bundle], tmp_path, "quality", *streams)
    for case in cases:
        picture = images.from_bytes((tmp_path / f"{case.stream.stem}.png").read_bytes())
        assert run.check_picture(case, "quality", picture).faults == [], case.name


@pytest.mark.slow("node runs the networks that ship")
def test_decoders_that_ship(node, tmp_path):
    """Large kernels, several blocks, quality by vectors: Python's pictures up to one step."""
    codec = Codec.load(device="cpu", threads=1)
    y, x = np.mgrid[:56, :104]
    pixels = np.stack([2 * x, 4 * y, (x * y) % 251], 2).astype(np.uint8)
    stream = tmp_path / "photo.tlc"
    stream.write_bytes(codec.encode(pixels, quality=60))
    export_web(codec.bundle, tmp_path / "web", WebOptions(("preview", "fast", "quality")))
    for name in ("preview", "fast", "quality"):
        node(HERE / "pictures.mjs", tmp_path / "web", tmp_path, name, stream)
        ours = images.from_bytes((tmp_path / "photo.png").read_bytes()).pixels.astype(int)
        theirs = codec.decode(stream.read_bytes(), decoder=name)
        assert np.abs(ours - theirs).max() <= 1, name
        assert np.mean(ours != theirs) < 0.01, name


@pytest.mark.slow("node decodes with the model that ships")
def test_a_dithered_stream_of_a_real_model(node, tmp_path):
    """The tiny model has no tables for dither; those of the model that ships hang together too."""
    codec = Codec.load(device="cpu", threads=1)
    y, x = np.mgrid[:40, :72]
    pixels = np.stack([3 * x, 5 * y, (x * y) % 251], 2).astype(np.uint8)
    stream = tmp_path / "dithered.tlc"
    stream.write_bytes(codec.encode(pixels, trellis=0, dither=7))
    export_web(codec.bundle, tmp_path / "web")
    found = json.loads(node(HERE / "conformance.mjs", tmp_path / "web", stream))
    read = bitstream.read(stream.read_bytes())
    head = read.header
    level = codec.bundle.levels.at(head.quality16, 0, dithered=True)
    sizes = head.lanes, Plane(head.width, head.height), level, 0, head.slice_side
    latents = codec._decoding.latents().decode(read.segments, *sizes, lattice=Lattice(dither=7))
    assert found[str(stream)]["y"] == kit.digest(latents)


def test_golden_streams_with_layers(node, folder, tiny):
    paths = sorted(GOLDEN.glob("layers*.tlc"))
    found = json.loads(node(HERE / "conformance.mjs", folder, *paths))
    assert len(paths) == 3
    for path in paths:
        z, y = kit.latents(tiny, path.read_bytes())
        assert found[str(path)] == {"z": kit.digest(z), "y": kit.digest(y)}, path.name


def test_variances_of_scale_indices_are_pythons(node, folder):
    script = (
        "import('FOLDER/refine.js').then(({ variances }) => {"
        "const all = {};"
        "for (let n = 2; n < 256; n++) {"
        "const { centres, borders } = variances(n); all[n] = [[...centres], [...borders]];"
        "} console.log(JSON.stringify(all)); });"
    )
    found = json.loads(node("-e", script.replace("FOLDER", folder.as_uri())))
    for scales, tables in found.items():
        assert tables == [table.tolist() for table in variances(int(scales))], scales


def test_the_law_of_intervals_is_pythons(node, folder):
    """To the last integer, though there is no erfc in JavaScript."""
    script = (
        "import('FOLDER/law.js').then(({ law }) => {"
        "const { mass, moment } = law(64);"
        "const widths = {};"
        "for (let n = 1; n < 256; n++) widths[n] = [[...law(n).sigma], [...law(n).inverse]];"
        "console.log(JSON.stringify({ mass: [...mass], moment: [...moment], widths })); });"
    )
    found = json.loads(node("-e", script.replace("FOLDER", folder.as_uri())))
    assert found["mass"] == law(64).mass.tolist()
    assert found["moment"] == law(64).moment.tolist()
    for scales, widths in found["widths"].items():
        own = law(int(scales))
        assert widths == [own.sigma.tolist(), own.inverse.tolist()], scales


def test_intervals_are_divided_as_in_python(node, folder, tmp_path):
    """Of all widths, about means near and far, up to the limits of both."""
    rng = np.random.default_rng(8)
    n, scales = 20_000, 64
    mean = rng.integers(-MEAN_LIMIT, MEAN_LIMIT, n, endpoint=True)
    width = np.floor(2 ** rng.uniform(0, 21, n)).astype(np.int64)
    place = np.where(rng.random(n) < 0.6, rng.uniform(-0.2, 1.2, n), rng.normal(0.5, 30, n))
    low = np.clip(mean - np.floor(place * width).astype(np.int64), -MEAN_LIMIT, MEAN_LIMIT)
    high = np.minimum(low + width, 2 * MEAN_LIMIT)
    low[:4], high[:4] = -MEAN_LIMIT, [MEAN_LIMIT, MEAN_LIMIT, 1 - MEAN_LIMIT, 1 - MEAN_LIMIT]
    mean[:4] = [-MEAN_LIMIT, MEAN_LIMIT, MEAN_LIMIT, -MEAN_LIMIT]
    index = rng.integers(0, scales, n)
    ours = Division(low, high, mean, index, scales)
    lows = [ours.part(np.minimum(j, ours.parts - 1).astype(np.int32))[0] for j in range(17)]
    wanted = [ours.parts, ours.values(), ours.spreads(), np.stack(lows, 1), ours.cumulative()]
    (tmp_path / "cases").write_text(json.dumps(np.stack([low, high, mean, index], 1).tolist()))
    script = (
        "import { readFileSync } from 'node:fs';"
        "const { Division } = await import('FOLDER/intervals.js');"
        "const division = new Division(64);"
        "const row = new Uint16Array(18);"
        "const found = JSON.parse(readFileSync('CASES')).map((values) => {"
        "const { parts } = division.of(...values);"
        "division.cumulative(row);"
        "const lows = [...row].slice(1).map((_, j) => division.edge(Math.min(j, parts - 1)));"
        "return [parts, division.centroid(), division.spread(), lows, [...row]]; });"
        "console.log(JSON.stringify(found));"
    )
    script = script.replace("FOLDER", folder.as_uri()).replace("CASES", str(tmp_path / "cases"))
    (tmp_path / "divide.mjs").write_text(script)
    found = json.loads(node(tmp_path / "divide.mjs"))
    assert set(ours.parts.tolist()) == set(range(1, 18))
    for i, name in enumerate(("parts", "values", "spreads", "lows", "cumulative")):
        np.testing.assert_array_equal([of[i] for of in found], wanted[i], name)


def test_the_quality_that_a_decoder_is_told_is_pythons(node, folder):
    script = (
        "import('FOLDER/layering.js').then(({ toldQuality }) => {"
        "const layering = { below: [400, 848], parts: 4, intervals: true };"
        "const passes = Array.from({ length: 60 }, (_, n) => n + 1);"
        "const told = (n) => toldQuality(layering, { quality16: 1200, steps: 3 }, n);"
        "console.log(JSON.stringify(passes.map(told))); });"
    )
    found = json.loads(node("-e", script.replace("FOLDER", folder.as_uri())))
    layering = Layering((400, 848), 4, 60, intervals=True)
    assert found == [told16(layering, 1200, 3, n) / 16 for n in range(1, 61)]
    assert found[-1] == 75


def test_intervals_cut_after_every_pass(node, folder, tiny, tmp_path):
    """Of a picture of odd size, and what Python makes of each."""
    y, x = np.mgrid[:37, :83]
    waves = 128 + 90 * np.sin(x / 9) * np.cos(y / 13) + (x * y) % 29
    pixels = np.stack([waves, waves[::-1], 255 - waves], 2).clip(0, 255).astype(np.uint8)
    data = tiny.encode(pixels, quality=75, progressive=True)
    head = bitstream.read_header(data)
    assert head.layering.intervals
    cut = {n: bitstream.cut(data, passes=n).data for n in range(1, head.passes + 1)}
    paths = {n: tmp_path / f"{n}.tlc" for n in cut}
    for n, path in paths.items():
        path.write_bytes(cut[n])
    found = json.loads(node(HERE / "conformance.mjs", folder, *paths.values()))
    for n, path in paths.items():
        z, latents = kit.latents(tiny, cut[n])
        assert found[str(path)] == {"z": kit.digest(z), "y": kit.digest(latents)}, n


@pytest.mark.slow("node runs the networks that ship")
def test_intervals_of_the_model_that_ships(node, tmp_path):
    """Latents and pictures, whole and cut, with the quality that the decoder is told."""
    codec = Codec.load(device="cpu", threads=1)
    y, x = np.mgrid[:57, :103]
    pixels = np.stack([2 * x, 4 * y, (x * y) % 251], 2).astype(np.uint8)
    whole = codec.encode(pixels, quality=75, progressive=True)
    export_web(codec.bundle, tmp_path / "web", WebOptions(("fast", "quality")))
    total = bitstream.read_header(whole).passes
    for passes in (1, 7, total // 5, total // 3, 3 * total // 5, total - 3, total):
        stream = tmp_path / f"{passes}.tlc"
        stream.write_bytes(bitstream.cut(whole, passes=passes).data)
        for name in ("fast", "quality"):
            node(HERE / "pictures.mjs", tmp_path / "web", tmp_path, name, stream)
            ours = images.from_bytes((tmp_path / f"{passes}.png").read_bytes()).pixels.astype(int)
            theirs = codec.decode(stream.read_bytes(), decoder=name)
            assert np.abs(ours - theirs).max() <= 1, (passes, name)
            assert np.mean(ours != theirs) < 0.01, (passes, name)
    paths = sorted(tmp_path.glob("*.tlc"))
    found = json.loads(node(HERE / "conformance.mjs", tmp_path / "web", *paths))
    for path in paths:
        z, latents = kit.latents(codec, path.read_bytes())
        assert found[str(path)] == {"z": kit.digest(z), "y": kit.digest(latents)}, path.name


@pytest.mark.parametrize("script", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_in_javascript(node, folder, script):
    streams = kit.FOLDER / "streams"
    said = node(
        "--test", "--test-reporter=tap", HERE / script, FOLDER=str(folder), STREAMS=str(streams)
    )
    assert "# fail 0" in said
    assert "# pass 0" not in said


def test_npm_makes_a_package(node, folder, tiny):
    """With all that pages load, and a version that names the stream id."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed (apt-get install npm)")
    done = subprocess.run(
        ["npm", "pack", "--dry-run", "--json"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    packed = said[0] if isinstance(said, list) else next(iter(said.values()))
    assert packed["version"].endswith(f"-tlc1-{tiny.bundle.manifest.stream_id}")
    names = {entry["path"] for entry in packed["files"]}
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == names
    script = "const m = await import('trellic-web-tiny/png.js'); console.log(Object.keys(m))"
    (folder / "self.mjs").write_text(script)
    try:
        assert "toPng" in node(folder / "self.mjs")  # by its own name, through its exports
    finally:
        (folder / "self.mjs").unlink()
