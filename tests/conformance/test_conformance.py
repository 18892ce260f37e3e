"""Trellic conforms; the kit covers the format; the runner finds what is wrong."""

from __future__ import annotations

import re
import stat
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests.conformance import kit, make, run
from tests.data import make_dither

import trellic.entropy
import trellic.latents.decoder
from trellic import bitstream, images
from trellic.constants import TRELLIS_STATES
from trellic.entropy.lanes import LONG_COUNT
from trellic.errors import StreamError
from trellic.images import Picture
from trellic.model.bundle import Bundle

CASES = kit.load()
GOOD = [case for case in CASES if not case.refuse]
BAD = [case for case in CASES if case.refuse]
BY_NAME = {case.name: case for case in CASES}


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


# ---- Trellic on all streams ----


@named(GOOD)
def test_good_streams(case):
    data, codec = case.stream.read_bytes(), kit.codec(case.bundle)
    z, y = kit.latents(codec, data)
    assert (kit.described(z), kit.described(y)) == (case.z, case.y)
    for decoder in codec.decoders:
        verdict = run.check_picture(case, decoder, codec.decode_picture(data, decoder=decoder))
        assert verdict.faults == []
        assert verdict.dropped == ()


EXHAUSTIVE = 200  # bytes
FEW = 60  # bytes of a stream with layers, whose longer header takes longer to read
REASONS = {
    "bad-empty": "is empty",
    "bad-signature": "begins with b'TLB'",
    "bad-version": "format version 2",
    "bad-reserved": "reserved bit",
    "bad-dither": "dither with 8 states",
    "bad-flag": "unknown further flags 0x20",
    "bad-more-flag": "not in its shortest form",
    "bad-further-flag": "segment table has entries of 0 bits",
    "bad-unknown-flag": "unknown further flags 0x20",
    "bad-bare": "neither latents nor patches",
    "bad-more-empty": "announces further flags and has none",
    "bad-no-adapter": "names no adapter",
    "bad-empty-extension": "extension is empty",
    "bad-default-side": "slice side of 64",
    "bad-model": "stream id 00facade",
    "bad-cut-head": "inside the hyper-latents",
    "bad-cut": "checksum of the file",
    "bad-tail": "checksum of the file",
    "bad-head": "checksum of the header",
    "bad-segment": "checksum of segment 1",
    "bad-last": "checksum of the file",
    "bad-check": "checksum of the file",
    "bad-odd": "odd number of bytes",
    "bad-words-over": "words left over",
    "bad-words-out": "runs out of words",
    "bad-final-state": "ended in state",
    "bad-steps": "3 segments",
    "bad-zlib": "does not inflate",
    "bad-still": "still lattice with a trellis, dither or layers",
    "bad-still-dither": "still lattice with a trellis, dither or layers",
    "bad-still-layers": "still lattice with a trellis, dither or layers",
    "bad-still-model": "a stream with a still lattice, but model 'tiny' has no tables for it",
    "bad-layers-bits": "trellis of 32 states with intervals",
    "bad-layers-bits-5": "unknown bits 0x20",
    "bad-layers-many": "layers of 280 passes",
    "bad-layers-equal": "qualities (480, 480)",
    "bad-layers-falling": "qualities (848, 480)",
    "bad-layers-low": "qualities (15, 848)",
    "bad-layers-last": "a layer of quality 1200",
    "bad-layers-passes": "37 passes",
    "bad-layers-dither": "layers with dither",
    "bad-layers-cut": "the stream ends after",
    "bad-layers-cut-pass": "the stream ends after",
    "bad-layers-segment": "checksum of segment 18",
    "bad-layers-final-state": "ended in state",
    "bad-layers-words-over": "words left over",
    "bad-layers-words-out": "runs out of words",
}


@named(BAD)
def test_bad_streams(tiny, case):
    with pytest.raises(StreamError, match=re.escape(REASONS[case.name])):
        tiny.decode(case.stream.read_bytes())


@named(GOOD)
def test_no_flip_and_no_cut_is_taken_for_the_picture(case):
    """Every bit and every length of the small streams, some of the larger ones."""
    data = case.stream.read_bytes()
    most = FEW if case.name.startswith("layers") else EXHAUSTIVE
    stride = 1 if len(data) <= most else len(data) // 25
    for at in range(0, len(data), stride):
        with pytest.raises(StreamError):
            bitstream.read(data[:at])
        for bit in range(8):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(StreamError):
                bitstream.read(changed)


# ---- what the kit covers, and that it stays ----


def test_nothing_was_changed_or_lost():
    for case in CASES:
        assert kit.digest(case.stream.read_bytes()) == case.sha256, case.name
    stored = {path.stem for path in (kit.FOLDER / "streams").iterdir()}
    assert stored == set(BY_NAME)
    made = {name: kit.MODEL for name, _, _ in make.streams()}
    made |= {name: kit.DITHER_MODEL for name, _, _ in make.still_streams()}
    assert {case.name: case.bundle for case in GOOD} == made
    assert {case.name for case in BAD} == set(REASONS)


def test_the_second_bundle_is_the_first_one_with_tables_for_dither(tmp_path):
    made = Bundle(make_dither.dithered_bundle(tmp_path / "made.zip")).manifest
    kept = Bundle(kit.DATA / kit.DITHER_MODEL).manifest
    assert (kept.stream_id, kept.name) == (made.stream_id, made.name)


def test_files_that_exist_are_never_written_again():
    case = GOOD[0]
    before = case.stream.stat()
    with pytest.raises(FileExistsError):
        make._write(case, b"other")
    assert case.stream.stat() == before


@pytest.fixture(scope="module")
def headers():
    return {case.name: bitstream.read_header(case.stream.read_bytes()) for case in GOOD}


def test_every_field_of_the_header_is_covered(headers):
    found = headers.values()
    assert {head.trellis for head in found} == set(TRELLIS_STATES)
    assert {lanes for head in found for lanes in head.lanes} == {1 << i for i in range(11)}
    assert {16, 17, 1600} <= {head.quality16 for head in found}
    assert {head.grey for head in found} == {False, True}
    assert {16, 20, 64, 1020} <= {head.slice_side for head in found}
    assert {(head.width, head.height) for head in found} >= {(w, h) for h, w in make.SIZES}
    assert {head.slices == 1 for head in found} == {False, True}


def test_still_lattices_are_covered(headers):
    """Grey and colour, one slice and several, all classes, escapes of every length."""
    found = [head for head in headers.values() if head.still]
    assert {head.grey for head in found} == {False, True}
    assert {head.slices > 1 for head in found} == {False, True}
    assert {1, 2, 64, 1024} <= {lanes for head in found for lanes in head.lanes}
    codec = kit.codec(kit.DITHER_MODEL)
    book, classes, digits, edges = codec.bundle.tables.dithered, set(), set(), 0
    real = trellic.entropy.Decoder.known

    def spy(self, segment, index, cls):
        nonlocal edges
        k = real(self, segment, index, cls)
        beyond = np.abs(k) - book.half_width[cls, index].astype(int)
        classes.update(cls.tolist())
        digits.update(one.bit_length() for one in beyond[beyond > 0].tolist())
        edges += int((beyond == 0).sum())
        return k

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellic.entropy.Decoder, "known", spy)
        for name in ("still-escapes", "still-edges"):
            kit.latents(codec, BY_NAME[name].stream.read_bytes())
    assert classes == set(range(3, 19))
    assert digits == set(range(1, 16))
    assert edges > 0
    assert b"" in bitstream.read(BY_NAME["still-flat"].stream.read_bytes()).segments


@pytest.mark.parametrize("intervals", [False, True])
def test_layers_are_covered(headers, intervals):
    """Counts of layers and parts; whole files, and cuts at and inside layers and steps."""
    layered = [head for head in headers.values() if head.layering is not None]
    found = [head for head in layered if head.layering.intervals == intervals]
    assert {head.layering.layers for head in found} == {1, 2, 3, 4}
    assert {head.layering.parts for head in found} == {1, 2, 4, 8}
    several = [head for head in found if head.layering.layers > 1]
    cut = [head for head in several if head.passes < head.layering.passes(head.steps)]
    assert len(cut) < len(several)
    ends = {head.layering.of(head.passes, head.steps) for head in cut}  # where the next would begin
    inside = {(1, 1, 2), (1, 0, 0), (1, 1, 3)} if intervals else {(1, 1, 0), (1, 1, 2)}
    assert {(0, 1, 2), (1, 0, 0)} | inside <= ends
    assert {head.slices > 1 for head in found} == {False, True}


def test_parts_of_intervals_are_covered():
    """An interval has up to 17 parts, around its mean and evenly."""
    divided, codec = [], kit.codec(kit.MODEL)
    of_lanes = trellic.entropy.Decoder.divided

    def spy(decoder, segment, cumulative):
        divided.append(np.count_nonzero(cumulative < 1 << 15, axis=1))
        return of_lanes(decoder, segment, cumulative)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellic.entropy.Decoder, "divided", spy)
        for name in ("intervals-apart", "intervals-noise", "intervals-4"):
            kit.latents(codec, BY_NAME[name].stream.read_bytes())
    found = set(np.concatenate(divided).tolist())
    assert {2, 3, 4, 5, 6, 17} <= found <= set(range(2, 18))


def test_every_kind_of_chunk_is_covered():
    layouts = [bitstream.read_contents(case.stream.read_bytes()) for case in GOOD]
    chunks = [frozenset(layout.chunks) for layout in layouts]
    assert {frozenset({name}) for name in ("alpha", "icc", "exif", "xmp")} < set(chunks)
    assert frozenset({"alpha", "icc", "exif", "xmp"}) in chunks
    filters = set()
    for name in ("none", "left", "up", "gradient"):
        data = BY_NAME[f"alpha-{name}"].stream.read_bytes()
        span = bitstream.read_contents(data).chunks["alpha"]
        filters.add(zlib_first(data[span.offset : span.end]))
    assert filters == {0, 1, 2, 3}


def zlib_first(stored):
    return zlib.decompressobj().decompress(stored, 1)[0]


def test_symbols_of_every_kind_are_covered(tiny, monkeypatch):
    seen = {"escapes": set(), "skipped": False, "nothing": False, "classes": set()}
    real = trellic.latents.decoder.reconstruct

    def spy(k, cls, index, tables):
        beyond = np.abs(k) - tables.half_width[cls, index].astype(int)
        seen["escapes"] |= {int(v).bit_length() for v in beyond[beyond > 0]}
        seen["nothing"] |= len(k) == 0
        seen["classes"] |= set(cls.tolist())
        seen["most"] = max(seen.get("most", 0), int(np.abs(k).max(initial=0)))
        return real(k, cls, index, tables)

    monkeypatch.setattr(trellic.latents.decoder, "reconstruct", spy)
    for name in ("escapes-0", "escapes-256", "flat", "size-1x1"):
        kit.latents(tiny, BY_NAME[name].stream.read_bytes())
    assert seen["escapes"] == set(range(1, 16))
    assert seen["nothing"]
    assert seen["most"] == 32767
    assert seen["classes"] == {0, 1, 2}
    assert b"" in bitstream.read(BY_NAME["size-1x1"].stream.read_bytes()).segments


def test_a_long_count_is_covered():
    stream = bitstream.read(BY_NAME["long-count"].stream.read_bytes())
    assert any(np.frombuffer(part, "<u2")[0] & LONG_COUNT for part in stream.segments[1:])


def test_latents_that_are_skipped_are_covered(tiny):
    """Of a flat picture, most latents of the last step are their means and cost nothing."""
    stream = bitstream.read(BY_NAME["flat"].stream.read_bytes())
    assert len(stream.segments[-1]) == 0
    assert len(stream.segments[1]) > 0


# ---- the comparison can fail ----


def test_a_wrong_picture_is_found():
    case = BY_NAME["all-chunks"]
    right = images.read(case.picture("quality"))
    assert run.check_picture(case, "quality", right).faults == []
    pixels = right.pixels.astype(int)
    near = Picture((pixels + np.where(pixels > 200, -1, 1)).astype(np.uint8), right.alpha)
    assert run.check_picture(case, "quality", near).faults == []
    far = Picture((pixels + np.where(pixels > 200, -2, 2)).astype(np.uint8), right.alpha)
    assert "42.1 dB" in run.check_picture(case, "quality", far).faults[0]
    alpha = right.alpha.copy()
    alpha[3, 4] ^= 1
    assert run.check_picture(case, "quality", Picture(right.pixels, alpha)).faults == [
        "another alpha plane"
    ]
    for other in (Picture(right.pixels), Picture(right.pixels[:-1], right.alpha[:-1])):
        assert "in place of" in run.check_picture(case, "quality", other).faults[0]
    grey = Picture(right.pixels[..., 0].copy(), right.alpha)
    assert "grey with alpha" in run.check_picture(case, "quality", grey).faults[0]
    assert run.check_picture(case, "quality", right).dropped == ("icc", "exif", "xmp")
    other = Picture(right.pixels, right.alpha, icc=b"another")
    assert run.check_picture(case, "quality", other).faults == ["another icc chunk"]


def test_colours_under_transparent_pixels_are_free():
    case = BY_NAME["alpha-none"]
    right = images.read(case.picture("quality"))
    pixels = np.where(right.alpha[..., None] > 0, right.pixels, 255 - right.pixels)
    assert run.check_picture(case, "quality", Picture(pixels, right.alpha)).faults == []


def test_wrong_latents_are_found(tiny):
    case = BY_NAME["trellis-8"]
    z, y = kit.latents(tiny, case.stream.read_bytes())
    assert run.check_latents(case, z.tobytes() + y.tobytes()) == []
    z[0, 0, 0] += 1
    assert run.check_latents(case, z.tobytes() + y.tobytes()) == ["another z"]
    z[0, 0, 0] -= 1
    assert run.check_latents(case, z.tobytes() + y.tobytes()[:-4]) == ["another y"]
    assert run.check_latents(case, b"") == ["another z", "another y"]


# ---- the runner, with commands that are not Trellic ----


def script(folder: Path, body: str) -> str:
    """A command that runs some Python."""
    path = folder / "decoder.py"
    path.write_text(f"import shutil, sys\nfrom pathlib import Path\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{sys.executable} {path} {{input}} {{output}}"


COPY = """
name = Path(sys.argv[1]).stem
if name.startswith("bad"):
    sys.exit("refused")
shutil.copy(Path(sys.argv[1]).parents[1] / "pictures" / f"{name}.quality.png", sys.argv[2])
"""


def test_any_command_will_do(tmp_path, capsys):
    """This one knows the pictures by heart."""
    command = script(tmp_path, COPY)
    assert run.main(["--decoder", command, "--only", "alpha"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"alpha-none +- +inf +48  ok", shown)
    assert "6 streams, 0 failed" in shown
    assert run.main(["--decoder", command, "--only", "bad-z"]) == 0
    assert "refused, as it must" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "only", "message"),
    [
        ("sys.exit('no such model')", "trellis-4", "exit code 1: no such model"),
        ("", "trellis-4", "no picture"),
        ("Path(sys.argv[2]).write_text('hello')", "trellis-4", "no picture that can be read"),
        (COPY.replace("{name}", "grey"), "trellis-4", "in place of 70x50 colour"),
        (COPY.replace("{name}", "trellis-0"), "trellis-4", r"\d\d\.\d dB, at least 48"),
        ("", "bad-cut-head", "must be refused: cut inside the head"),
        ("Path(sys.argv[2]).touch(); sys.exit(1)", "bad-tail", "left a picture behind"),
        ("import os; os.abort()", "bad-tail", "ended by signal 6"),
        ("import time; time.sleep(60)", "trellis-4", r"no end after 0\.5 s"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, capsys, body, only, message):
    command = script(tmp_path, body)
    options = ["--decoder", command, "--only", only, *(["--timeout", "0.5"] * ("sleep" in body))]
    assert run.main(options) == 1
    assert re.search(message, capsys.readouterr().out)


def test_latents_of_a_command(tmp_path, capsys, tiny):
    z, y = kit.latents(tiny, BY_NAME["trellis-16"].stream.read_bytes())
    (tmp_path / "latents").write_bytes(z.tobytes() + y.tobytes())
    decoder = script(tmp_path, COPY)
    with pytest.raises(SystemExit):
        run.main(["--decoder", decoder, "--latents", "no placeholders"])
    body = f"import shutil, sys; shutil.copy({str(tmp_path / 'latents')!r}, sys.argv[2])"
    latents = f'{sys.executable} -c "{body}" {{input}} {{output}}'
    names = ["--decoder", decoder, "--latents", latents, "--only"]
    assert run.main([*names, "trellis-16"]) == 0
    assert "exact" in capsys.readouterr().out
    assert run.main([*names, "trellis-64"]) == 1
    assert "another y" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--decoder", "trellic decode {input}"],
        ["--decoder", "a {input} {output}", "--only", "no-such-stream"],
        [],
    ],
)
def test_misuse(options, capsys):
    with pytest.raises(SystemExit) as left:
        run.main(options)
    assert left.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_command_that_is_not_there(capsys):
    with pytest.raises(SystemExit, match="cannot run 'no-such-decoder'"):
        run.main(["--decoder", "no-such-decoder {input} {output}", "--only", "trellis-4"])


@pytest.mark.slow("the command decodes the whole kit")
def test_the_real_command(capsys):
    command = f"{sys.executable} -m trellic decode {{input}} {{output}}"
    assert run.main(["--decoder", command, "--only", "grey-alpha"]) == 0
    assert "1 streams, 0 failed" in capsys.readouterr().out


def test_what_the_maker_says(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make"])
    assert make.main() == 0
    assert "missing: nothing" in capsys.readouterr().out
