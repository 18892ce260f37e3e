"""Adapters: their files, the streams that name or hold them, and hostile ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import struct
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.data.make_adapter import ADAPTER, GOLDEN, TINY, made
from tests.data.make_dither import scene
from typer.testing import CliRunner

from trellic import bitstream
from trellic.bitstream.container import assemble
from trellic.bitstream.fields import crc16, crc32
from trellic.bitstream.front import EMBEDDED
from trellic.cli.app import app
from trellic.codec import Codec
from trellic.codec.loaded import MOST_ADAPTERS
from trellic.errors import (
    BadAdapter,
    BadParameter,
    CorruptStream,
    StreamError,
    TrellicError,
    TrellicWarning,
    UnknownAdapter,
    UnsupportedVersion,
)
from trellic.limits import MAX_ADAPTER
from trellic.model import adapter, adapters, weights
from trellic.model.adapter import Adapter, Side
from trellic.support.files import write_atomically

SEGMENTS = "c82de83161cae2c42b6747494ebf95559b339b3ed4d138c7b13d5ee810101989"


@pytest.fixture(scope="module")
def own(tiny):
    return made(tiny.bundle)


@pytest.fixture(scope="module")
def adapted(own):
    return Codec.load(TINY, "cpu", adapter=own)


@pytest.fixture(scope="module")
def holding(own):
    return Codec.load(TINY, "cpu", adapter=own, embed_adapter=True)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder of models with the tiny one."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny.zip").write_bytes(TINY.read_bytes())
    monkeypatch.setenv("TRELLIC_MODELS", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


# ---- the file ----


def test_a_file_is_read_back(own):
    data = own.to_bytes()
    back = adapter.parse(data, "it")
    assert back.to_bytes() == data
    assert (back.id, back.name, back.parameters) == (own.id, "test", own.parameters)
    held = adapter.parse(own.for_decoding(), "it")
    assert held.encoder is None
    assert held.id == own.id == hashlib.sha256(own.for_decoding()).digest()[:4]


def test_the_golden_file_stays(own):
    assert ADAPTER.read_bytes() == own.to_bytes()
    assert own.id.hex() == "44bf2c92"


def test_what_is_added_is_a_product_or_given_as_it_is(tiny, own):
    manifest = tiny.bundle.manifest
    graph = manifest.decoders["quality"].graph
    data, side = tiny.bundle.graph(graph), own.decoders
    changed = tiny.bundle.with_adapter(own).graph(graph)
    known, first = weights.constants(data), 0
    touched = np.zeros(len(data), bool)
    for place in side.facts.graphs["quality"].places:
        constant = known[place.constant]
        rows, columns = constant.shape[0], constant.size // constant.shape[0]
        numbers = side.numbers[first : first + place.size(constant.shape)].astype(np.float64)
        change = numbers
        if place.rank:
            a, b = np.split(numbers, [rows * place.rank])
            change = a.reshape(rows, -1) @ b.reshape(-1, columns)
        size = constant.size * np.dtype(constant.dtype).itemsize
        span = slice(constant.offset, constant.offset + size)
        before, after = (np.frombuffer(d[span], constant.dtype) for d in (data, changed))
        expected = before.astype(np.float64) + change.ravel().astype(np.float32)
        np.testing.assert_array_equal(after, expected.astype(constant.dtype))
        assert (before != after).any()
        touched[span] = True
        first += len(numbers)
    assert first == len(side.numbers)
    same = np.frombuffer(data, np.uint8) == np.frombuffer(changed, np.uint8)
    assert same[~touched].all()


def test_sums_stay_finite(tiny):
    data = tiny.bundle.graph(tiny.bundle.manifest.encoder)
    name, constant = next(iter(weights.constants(data).items()))
    huge = np.full(constant.shape, 3e38, np.float32)
    found = weights.constants(changed := weights.add(data, {name: huge}))[name]
    numbers = np.frombuffer(changed, found.dtype, found.size, found.offset)
    assert np.isfinite(numbers).all()
    with pytest.raises(BadAdapter, match="no constant"):
        weights.add(data, {"nothing": huge})


def spoilt(own: Adapter, side: str = "decoders", **facts) -> bytes:
    """The file with other facts of a side."""
    text = json.loads(getattr(own, side).facts.model_dump_json()) | facts
    raw = json.dumps(text).encode()
    held = getattr(own, side).numbers.tobytes()
    packed = struct.pack("<I", len(raw)) + raw + held
    if side == "encoder":
        return own.for_decoding() + packed
    return adapter.SIGNATURE + struct.pack("<I", len(packed)) + packed + own.encoder.to_bytes()


def test_damaged_files_are_refused_with_one_error(own):
    data = own.to_bytes()
    wrong = {
        "empty": b"",
        "another": b"TLB\1" + data[4:],
        "version": b"TLA\2" + data[4:],
        "cut": data[:-1],
        "more": data + b"\0\0",
        "huge": bytes(MAX_ADAPTER + 1),
        "length": data[:4] + b"\xff\xff\xff\xff" + data[8:],
        "deep": b"TLA\1" + (side := struct.pack("<II", 50_004, 50_000) + b"[" * 50_000) + side,
        "name": spoilt(own, name="../up"),
        "other side": spoilt(own, "encoder", name="other"),
        "field": spoilt(own, more=1),
        "graphs": spoilt(own, graphs={}),
    }
    endless = Side(own.decoders.facts, np.full_like(own.decoders.numbers, np.inf))
    wrong["inf"] = Adapter(endless).to_bytes()
    nothing = Side(own.decoders.facts, np.full_like(own.decoders.numbers, np.nan))
    wrong["nan"] = Adapter(nothing).to_bytes()
    for name, bad in wrong.items():
        with pytest.raises(BadAdapter) as error:
            adapter.parse(bad, "it")
        assert "\n" not in str(error.value), name
    rng = np.random.default_rng(3)
    for at in rng.integers(len(data), size=200):
        flipped = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
        with contextlib.suppress(BadAdapter):
            adapter.parse(flipped, "it")


def test_an_adapter_of_other_networks_is_refused_by_name(tiny, own):
    facts = own.decoders.facts
    with pytest.raises(BadAdapter, match="'test' is of a model with stream id 01234567"):
        tiny.bundle.with_adapter(adapter.parse(_renamed(own, "01234567"), "it"))
    part = facts.graphs["quality"]
    other = facts.model_copy(
        update={"graphs": {"quality": part.model_copy(update={"sha256": "0" * 64})}}
    )
    with pytest.raises(BadAdapter, match="made for another 'quality'"):
        tiny.bundle.with_adapter(Adapter(Side(other, own.decoders.numbers)))
    unknown = facts.model_copy(update={"graphs": {"other": part}})
    with pytest.raises(BadAdapter, match="made for another 'other'"):
        tiny.bundle.with_adapter(Adapter(Side(unknown, own.decoders.numbers)))
    for places in (
        part.places[:-1],
        part.places[::-1][:1] * 2,
        [p.model_copy(update={"rank": 32}) for p in part.places],
    ):
        wrong = facts.model_copy(
            update={"graphs": {"quality": part.model_copy(update={"places": places})}}
        )
        with pytest.raises(BadAdapter, match="does not fit"):
            tiny.bundle.with_adapter(Adapter(Side(wrong, own.decoders.numbers)))


def _renamed(own: Adapter, stream_id: str) -> bytes:
    sides = [
        Side(side.facts.model_copy(update={"stream_id": stream_id}), side.numbers)
        for side in (own.decoders, own.encoder)
    ]
    return Adapter(*sides).to_bytes()


# ---- streams ----


def test_golden_streams(tiny, adapted):
    named, holds = ((GOLDEN / f"{n}.tlc").read_bytes() for n in ("adapter", "adapter-embedded"))
    with pytest.warns(TrellicWarning, match="not installed"):
        plain = tiny.decode(named)
    shown = tiny.decode(holds)
    assert bitstream.read(named).segments == bitstream.read(holds).segments
    np.testing.assert_array_equal(shown, adapted.decode(named))
    assert psnr(shown, plain) < 48  # they differ
    assert hashlib.sha256(b"".join(bitstream.read(named).segments)).hexdigest() == SEGMENTS


def test_streams_without_an_adapter_are_what_they_were(tiny, adapted):
    data = tiny.encode(scene(40, 60), quality=60, trellis=8)
    assert bitstream.read_header(data).adapter is None
    np.testing.assert_array_equal(adapted.decode(data), tiny.decode(data))


def test_streams_without_an_adapter_may_be_shown_with_one(tiny, own):
    """If it changes decoders alone: latents are the same then."""
    codec = Codec.load(TINY, "cpu", adapter=Adapter(own.decoders))
    plain = tiny.encode(scene(40, 60), quality=60, trellis=8)
    named = codec.encode(scene(40, 60), quality=60, trellis=8)
    shown = codec.decode(plain)
    np.testing.assert_array_equal(shown, codec.decode(named))
    assert not np.array_equal(shown, tiny.decode(plain))
    assert codec.encode_again(tiny.decode(plain), plain).data == plain  # it names none, as before
    assert bitstream.read_header(codec.transcode(plain, quality=40)).adapter is None


def test_a_name_costs_six_bytes(tiny, adapted):
    data = adapted.encode(scene(40, 60), quality=60, trellis=8)
    header = bitstream.read_header(data)
    stream = bitstream.read(data)
    plain = bitstream.write(replace(stream, header=replace(header, adapter=None)))
    assert len(data) - len(plain) == 6


def test_what_is_done_to_a_stream_keeps_its_adapter(tiny, adapted, holding):
    pixels = scene(60, 80)
    data = holding.encode(pixels, quality=70, trellis=8)
    id_ = holding.bundle.adapter_id
    made_of_it = {
        "transcoded": tiny.transcode(data, quality=40),
        "cut": bitstream.cut(data, passes=2).data,
        "again": holding.encode_again(holding.decode_picture(data), data).data,
    }
    edited = holding.decode_picture(data)
    edited.pixels[:8, :8] = 0
    made_of_it["edited"] = holding.encode_again(edited, data).data
    assert made_of_it["again"] == data
    for name, result in made_of_it.items():
        assert bitstream.read_header(result).adapter == id_, name
        np.testing.assert_array_equal(tiny.decode(result), adapted.decode(result), name)


def test_regions_layers_and_previews_see_the_adapter(tiny, holding):
    pixels = scene(90, 120)
    data = holding.encode(pixels, quality=80, trellis=8, progressive=True)
    whole = holding.decode(data)
    part = tiny.decode(data, region=(16, 16, 40, 40))
    np.testing.assert_array_equal(part, whole[16:56, 16:56])
    *_, last = tiny.decode_progressive(data[i : i + 100] for i in range(0, len(data), 100))
    np.testing.assert_array_equal(last, whole)


def test_codecs_are_copied_with_their_adapter(holding):
    pixels = scene(40, 60)
    expected = holding.encode(pixels, quality=60, trellis=8)
    other = pickle.loads(pickle.dumps(holding))
    assert other.encode(pixels, quality=60, trellis=8) == expected
    assert "adapter='test', embed_adapter=True" in repr(other)


def test_few_adapters_of_strangers_stay_loaded(tiny, holding):
    data = holding.encode(scene(8, 8))
    codec = Codec.load(TINY, "cpu", 1)
    for seed in range(MOST_ADAPTERS + 2):
        other = made(tiny.bundle, "stranger", seed=seed)
        codec.decode(with_adapter(data, other.for_decoding()))
    assert len(codec._others) == MOST_ADAPTERS


# ---- hostile streams ----


def resealed(data: bytes, held: bytes) -> bytes:
    """The stream with other bytes in place of its adapter chunk, and checks that hold."""
    stream = bitstream.read(data)
    return assemble(stream.header, {EMBEDDED: held}, stream.segments)


def test_a_spoilt_adapter_in_a_stream_is_one_error(tiny, holding, own):
    data = holding.encode(scene(40, 60), quality=60, trellis=8)
    other = made(tiny.bundle, seed=9).for_decoding()
    bomb = zlib.compress(bytes(MAX_ADAPTER + 1))
    packed = zlib.compress(own.for_decoding())
    for held, said in (
        (b"junk", "does not inflate"),
        (bomb, "more than"),
        (packed[:-5], "not exactly one"),
        (packed + b"\0", "not exactly one"),
        (zlib.compress(other), "holds adapter"),
    ):
        with pytest.raises(CorruptStream, match=said):
            tiny.decode(resealed(data, held))
    at = bitstream.read_contents(data).chunks["adapter"].offset + 20
    flipped = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
    with pytest.raises(CorruptStream):
        tiny.decode(flipped)
    with pytest.warns(TrellicWarning) as said:
        shown = tiny.decode(flipped, best_effort=True)
    assert any("adapter chunk" in str(one.message) for one in said)
    with pytest.warns(TrellicWarning, match="damaged"):  # of the file's check alone
        expected = tiny.decode(unnamed(data)[:-1] + b"\0", best_effort=True)
    np.testing.assert_array_equal(shown, expected)


def unnamed(data):
    """The stream without a word of its adapter."""
    stream = bitstream.read(data)
    header = replace(stream.header, adapter=None)
    return bitstream.write(replace(stream, header=header, adapter=None))


def with_adapter(data: bytes, content: bytes) -> bytes:
    """The stream with another adapter, named and held as it should be."""
    stream = bitstream.read(data)
    name = hashlib.sha256(content).digest()[:4]
    header = replace(stream.header, adapter=name)
    return bitstream.write(replace(stream, header=header, adapter=content))


def test_an_adapter_that_is_none_or_fits_not(tiny, holding, own):
    data = holding.encode(scene(40, 60), quality=60, trellis=8)
    with pytest.raises(CorruptStream, match="not an adapter"):
        tiny.decode(with_adapter(data, b"TLA\1 and nothing else"))
    foreign = adapter.parse(_renamed(own, "01234567"), "it").for_decoding()
    with pytest.warns(TrellicWarning, match="does not fit"):
        shown = tiny.decode(with_adapter(data, foreign))
    np.testing.assert_array_equal(shown, tiny.decode(unnamed(data)))


def test_the_worst_adapter_makes_a_wrong_picture_and_no_more(tiny, own):
    side = own.decoders
    data = Codec.load(TINY, "cpu", adapter=own).encode(scene(40, 60), quality=60, trellis=8)
    largest = np.finfo(np.float16).max
    for value in (largest, -largest, np.float16(6e-8)):
        worst = Adapter(Side(side.facts, np.full_like(side.numbers, value)))
        shown = tiny.decode(with_adapter(data, worst.for_decoding()))
        assert shown.shape == (40, 60, 3)


def test_extensions_that_no_writer_makes(tiny, holding):
    good = tiny.encode(scene(20, 30), quality=60, trellis=8)
    head = bitstream.read_contents(good).head.end

    def extended(more: bytes) -> bytes:
        fields = int.from_bytes(good[4:7], "little") | 1 << 22
        front = good[:4] + fields.to_bytes(3, "little") + good[7:13] + more + good[13 : head - 2]
        body = front + crc16(front) + good[head:-4]
        return body + crc32(body)

    assert bitstream.read_header(extended(b"\x80\x01abcd")).adapter == b"abcd"
    for more, error in (
        (b"\x80\x00", CorruptStream),
        (b"\x80\x02", CorruptStream),
        (b"\x80\x08", CorruptStream),  # a still lattice with a trellis
        (b"\x80\x10", CorruptStream),  # patches alone, and no patches
        (b"\x80\x20", UnsupportedVersion),
        (b"\x80\x83abcd", UnsupportedVersion),
        (b"\x80\x03abcd\x00", CorruptStream),
        (b"\x80\x03abcd\xff\xff\xff\xff\x01", CorruptStream),
    ):
        with pytest.raises(error):
            bitstream.read_header(extended(more))
    data = holding.encode(scene(20, 30), quality=60, trellis=8)
    for end in range(0, len(data), 7):
        with pytest.raises(StreamError):
            tiny.decode(data[:end])


def test_a_stream_is_written_with_the_adapter_that_its_header_names(holding):
    stream = bitstream.read(holding.encode(scene(8, 8)))
    with pytest.raises(BadParameter, match="another id"):
        bitstream.write(replace(stream, adapter=b"another"))
    with pytest.raises(BadParameter, match="another id"):
        bitstream.write(replace(stream, header=replace(stream.header, adapter=None)))
    with pytest.raises(BadParameter, match="adapter id of 3 bytes"):
        replace(stream.header, adapter=b"abc")


def test_flips_anywhere_are_errors_of_ours(tiny, holding):
    data = holding.encode(scene(20, 30), quality=60, trellis=8)
    rng = np.random.default_rng(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrellicWarning)
        for at in rng.integers(len(data), size=120):
            bad = bytearray(data)
            bad[at] ^= 1 << int(rng.integers(8))
            with pytest.raises(TrellicError):
                tiny.decode(bytes(bad))
            with contextlib.suppress(TrellicError):
                tiny.decode(bytes(bad), best_effort=True)


# ---- installed ----


def run(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def test_adapters_are_added_listed_used_and_removed(installed, tmp_path, own):
    source = tmp_path / "any.tla"
    source.write_bytes(own.to_bytes())
    assert "added adapter test of model tiny" in run("models", "add", source)
    assert f"adapter test  (id {own.id.hex()}" in run("models", "tiny")
    listed = json.loads(run("models", "tiny", "--json"))
    assert listed["adapters"]["test"]["parameters"] == own.parameters
    codec = Codec.load("tiny", "cpu", adapter="test")
    data = codec.encode(scene(40, 60), quality=60, trellis=8)
    np.testing.assert_array_equal(Codec.load("tiny", "cpu").decode(data), codec.decode(data))
    (tmp_path / "a.tlc").write_bytes(data)
    assert f"{own.id.hex()} (test)" in run("info", tmp_path / "a.tlc")
    run("models", "add", source)  # the same once more
    source.write_bytes(made(codec.bundle, seed=6).to_bytes())
    assert "another adapter 'test' is installed" in run("models", "add", source, code=1)
    run("models", "add", "--replace", source)
    assert "removed" in run("models", "remove", "test")
    assert "no adapter and no model 'test'" in run("models", "remove", "test", code=1)
    with pytest.raises(UnknownAdapter, match="no adapter 'test' of model 'tiny'"):
        Codec.load("tiny", "cpu", adapter="test")
    assert f"{own.id.hex()} (not installed)" in run("info", tmp_path / "a.tlc")


def test_a_file_is_read_once_until_it_changes(installed, tiny, own, monkeypatch):
    path, other, read = installed / "test.tla", made(tiny.bundle, seed=6), []
    monkeypatch.setattr(adapters, "parse", lambda *given: read.append(1) or adapter.parse(*given))

    def names():
        return [one.id for place, one in adapters.installed() if place == path]

    path.write_bytes(own.to_bytes())
    assert [names(), names()] == [[own.id]] * 2
    assert len(read) == 1
    write_atomically(path, other.to_bytes())
    assert [names(), names()] == [[other.id]] * 2
    assert len(read) == 2


def test_what_is_not_installed_is_refused(installed, tmp_path, own):
    source = tmp_path / "a.tla"
    assert "cannot read adapter" in run("models", "add", source, code=1)
    source.write_bytes(b"junk")
    assert "is not an adapter" in run("models", "add", source, code=1)
    source.write_bytes(_renamed(own, "01234567"))
    assert "01234567" in run("models", "add", source, code=1)
    (installed / "broken.tla").write_bytes(b"junk")
    assert "broken" not in run("models", "tiny")


def test_the_command_encodes_with_an_adapter(installed, tmp_path, own):
    (installed / "test.tla").write_bytes(own.to_bytes())
    picture, result = tmp_path / "a.png", tmp_path / "a.tlc"
    Image.fromarray(scene(40, 60)).save(picture)
    run("encode", picture, result, "--model", "tiny", "--adapter", "test")
    assert bitstream.read_header(result.read_bytes()).adapter == own.id
    run("encode", picture, result, "--model", "tiny", "--adapter", "test", "--embed-adapter")
    assert bitstream.embedded_adapter(result.read_bytes()) == own.for_decoding()
    (installed / "test.tla").unlink()
    run("decode", result, tmp_path / "b.png")
    run("encode", picture, result, "--model", "tiny")
    (tmp_path / "own.tla").write_bytes(own.for_decoding())
    run("decode", result, tmp_path / "plain.png")
    run("decode", result, tmp_path / "shown.png", "--adapter", tmp_path / "own.tla")
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "shown.png").read_bytes()
    assert "--embed-adapter needs" in run("encode", picture, result, "--embed-adapter", code=2)
    missing = run("encode", picture, result, "--model", "tiny", "--adapter", "test", code=1)
    assert "no adapter 'test'" in missing
