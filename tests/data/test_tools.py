"""webdataset, Hugging Face, zarr v3, numcodecs, imageio: pictures in, nearly the same out."""

from __future__ import annotations

import importlib.metadata
import io
import struct
import tomllib
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.family import make_family

from trellic import bitstream
from trellic.errors import (
    BadImage,
    BadParameter,
    CorruptStream,
    StreamError,
    UnknownDecoder,
    UnknownModel,
)
from trellic_data import stacks
from trellic_data.views import View

ROOT = Path(__file__).parents[2]


def picture(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    ramp = np.linspace(0, 180, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    return np.repeat(ramp + 10 * seed, 3, 2).astype(np.uint8)


def near(found, expected) -> bool:
    return np.abs(np.asarray(found, float) - expected).mean() < 12


# ---- webdataset ----


# webdataset leaves a shard's file open until it is collected
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tar_shards(tiny, tiny_path, tmp_path):
    wds = pytest.importorskip("webdataset")
    from trellic_data.webdataset import handler

    with wds.TarWriter(str(tmp_path / "a.tar")) as shard:
        for number in range(3):
            data = tiny.encode(picture(seed=number), quality=80)
            shard.write({"__key__": f"{number:03}", "tlc": data, "cls": number})
    kinds = {"shardshuffle": False}
    found = wds.WebDataset(str(tmp_path / "a.tar"), **kinds).decode(
        handler(View(24, 32), model=str(tiny_path))
    )
    samples = list(found)
    assert [sample["tlc"].shape for sample in samples] == [(24, 32, 3)] * 3
    assert [sample["cls"] for sample in samples] == [0, 1, 2]
    whole = wds.WebDataset(str(tmp_path / "a.tar"), **kinds).decode(handler(model=str(tiny_path)))
    (sample, *_) = whole
    assert near(sample["tlc"], picture())


# ---- Hugging Face ----


@pytest.mark.slow("the datasets package is imported")
def test_folders_as_data_sets(tiny, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    from trellic_data.huggingface import from_folder

    monkeypatch.setenv("TRELLIC_MODELS", str(ROOT / "tests" / "data"))
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.tlc").write_bytes(tiny.encode(picture(), quality=80))
    found = from_folder(tmp_path)
    assert found.features["label"].names == ["cat", "dog"]
    assert found["label"] == [0, 1]
    assert near(found[0]["image"], picture())
    raw = from_folder(tmp_path / "dog", decode=False)
    assert raw.column_names == ["image"]
    assert raw[0]["image"]["path"].endswith("a.tlc")
    with pytest.raises(BadParameter):
        from_folder(tmp_path / "none")


# ---- chunks ----


@pytest.mark.parametrize("shape", [(40, 56, 3), (40, 56), (2, 40, 56, 3), (2, 2, 40, 56, 3)])
def test_chunks(tiny, shape):
    ramp = picture() if shape[-1] == 3 else picture()[..., 0]
    chunk = np.broadcast_to(ramp, shape)
    data = stacks.pack(tiny, chunk, quality=80, trellis=0)
    assert near(stacks.shaped(stacks.unpack(tiny, data, decoder="quality"), shape), chunk)
    if len(shape) <= 3:
        np.testing.assert_array_equal(
            tiny.decode(data), stacks.unpack(tiny, data, decoder="quality")[0]
        )


@pytest.mark.parametrize("shape", [(5,), (4, 5, 6), (2, 4, 5, 2), (8, 8, 4), (0, 8, 8, 3)])
def test_chunks_that_are_no_pictures(tiny, shape):
    with pytest.raises(BadImage):
        stacks.pack(tiny, np.zeros(shape, np.uint8), quality=60, trellis=0)
    with pytest.raises(BadImage):
        stacks.pack(tiny, np.zeros((8, 8, 3), np.uint16), quality=60, trellis=0)


def test_chunks_with_alpha_of_older_versions_are_read(tiny):
    """Where alpha is opaque, the file has none."""
    clear = np.concatenate([picture(), picture()[..., :1]], axis=-1)
    opaque = clear.copy()
    opaque[..., 3] = 255
    streams = [tiny.encode(chunk, quality=60, trellis=0) for chunk in (clear, opaque)]
    lengths = struct.pack("<3I", 2, *map(len, streams))
    both = stacks.unpack(tiny, stacks.MAGIC + lengths + b"".join(streams), decoder="quality")
    alone = stacks.unpack(tiny, streams[1], decoder="quality")
    shape = clear.shape
    read = stacks.shaped(both, (2, *shape)), stacks.shaped(alone, shape)
    for chunk, alpha in ((read[0][0], clear), (read[0][1], opaque), (read[1], opaque)):
        np.testing.assert_array_equal(chunk[..., 3], alpha[..., 3])


def test_damaged_chunks(tiny):
    data = stacks.pack(tiny, np.stack([picture()] * 2), quality=60, trellis=0)
    for cut in (4, 6, 8, 12, 15, len(data) - 1):
        with pytest.raises((StreamError, CorruptStream)):
            stacks.unpack(tiny, data[:cut], decoder="quality")
    huge = stacks.MAGIC + struct.pack("<I", 2**32 - 1) + data[8:]
    with pytest.raises(CorruptStream):
        stacks.split(huge)
    for others in ([], [tiny.encode(picture(8, 8)), tiny.encode(picture(8, 9))]):
        lengths = struct.pack(f"<{len(others) + 1}I", len(others), *map(len, others))
        with pytest.raises(CorruptStream, match="shapes; expected one"):
            stacks.unpack(tiny, stacks.MAGIC + lengths + b"".join(others), decoder="quality")
    with pytest.raises(CorruptStream):
        stacks.shaped([picture(), picture(8, 8)], (2, 40, 56, 3))


def test_entry_points_are_ours():
    """What pyproject.toml declares is there; and installed, where this checkout is installed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group in ("zarr.codecs", "numcodecs.codecs"):
        pytest.importorskip(group.partition(".")[0])
        value = declared[group]["trellic"]
        point = importlib.metadata.EntryPoint("trellic", value, group)
        assert point.load().__module__ == value.partition(":")[0]


@pytest.mark.parametrize("chunks", [(40, 56, 3), (2, 40, 56, 3)])
def test_zarr(tiny_path, tmp_path, chunks):
    zarr = pytest.importorskip("zarr", "3.0")
    from trellic_data.zarr import NAME, TrellicCodec

    zarr.registry.register_codec(NAME, TrellicCodec)
    shape = (50, 70, 3) if len(chunks) == 3 else (3, 40, 56, 3)  # edges are filled
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=shape,
        chunks=chunks,
        dtype="uint8",
        serializer=TrellicCodec(quality=80, trellis=8, model=str(tiny_path)),
        compressors=None,
    )
    values = picture(*shape[:2]) if len(chunks) == 3 else np.stack([picture()] * 3)
    array[:] = values
    again = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert near(again[:], values)
    assert again.metadata.codecs[0].quality == 80
    if len(chunks) == 3:  # a chunk is a file that everybody reads
        first = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
        assert bitstream.read_header(first.read_bytes()).width == 56


def test_zarr_refuses_what_is_no_picture(tmp_path):
    zarr = pytest.importorskip("zarr", "3.0")
    from trellic_data.zarr import TrellicCodec

    shapes = [{"shape": shape, "chunks": shape} for shape in ((9, 9, 7), (9, 9, 4), (2, 9, 9, 4))]
    for wrong in ({"dtype": "uint16"}, *shapes):
        options = {"shape": (9, 9, 3), "chunks": (9, 9, 3), "dtype": "uint8"} | wrong
        with pytest.raises(BadImage):
            zarr.create_array(
                str(tmp_path / "b.zarr"), serializer=TrellicCodec(), compressors=None, **options
            )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"quality": 500}, BadParameter),
        ({"trellis": 3}, BadParameter),
        ({"model": "nope"}, UnknownModel),
        ({"decoder": "zz"}, UnknownDecoder),
        ({"decoder": "half"}, BadParameter),
        ({"decoder": "class"}, BadParameter),
    ],
)
def test_zarr_refuses_options_that_cannot_work(tiny_path, tmp_path, options, error):
    """When the codec is made; from the metadata of an array, when a chunk is written."""
    zarr = pytest.importorskip("zarr", "3.0")
    from trellic_data.zarr import NAME, TrellicCodec

    zarr.registry.register_codec(NAME, TrellicCodec)
    options = {"model": str(make_family(tiny_path, tmp_path / "family.zip"))} | options
    with pytest.raises(error):
        TrellicCodec(**options)
    array = zarr.create_array(
        {},
        shape=(40, 56, 3),
        chunks=(40, 56, 3),
        dtype="uint8",
        serializer={"name": NAME, "configuration": options},
        compressors=None,
    )
    with pytest.raises(error):
        array[:] = picture()


@pytest.mark.parametrize("odd", [{"quality": 500}, {"trellis": 3}])
def test_zarr_arrays_with_odd_options_of_encoding_are_read(tiny, tiny_path, odd):
    zarr = pytest.importorskip("zarr", "3.0")
    from trellic_data.zarr import NAME, TrellicCodec

    zarr.registry.register_codec(NAME, TrellicCodec)
    clear = np.concatenate([picture(), picture()[..., :1]], axis=-1)
    store = zarr.storage.MemoryStore()
    for name, values in (("plain", picture()), ("alpha", clear)):
        made = zarr.create_array(
            store,
            name=name,
            shape=values.shape,
            chunks=values.shape,
            dtype="uint8",
            serializer={"name": NAME, "configuration": {"model": str(tiny_path)} | odd},
            compressors=None,
        )
        chunk = zarr.core.buffer.cpu.Buffer.from_bytes(tiny.encode(values, quality=80))
        zarr.core.sync.sync(store.set(f"{name}/c/0/0/0", chunk))
        assert near(zarr.open_array(store, path=name, mode="r")[:], values)
        assert made.metadata.codecs[0].to_dict()["configuration"].items() >= odd.items()


def test_zarr_in_shards(tiny_path, tmp_path):
    zarr = pytest.importorskip("zarr", "3.0")
    from trellic_data.zarr import NAME, TrellicCodec

    zarr.registry.register_codec(NAME, TrellicCodec)
    array = zarr.create_array(
        str(tmp_path / "s.zarr"),
        shape=(4, 40, 56, 3),
        chunks=(1, 40, 56, 3),
        shards=(2, 40, 56, 3),
        dtype="uint8",
        serializer=TrellicCodec(quality=80, model=str(tiny_path)),
        compressors=None,
    )
    array[:] = np.stack([picture(seed=seed) for seed in range(4)])
    assert near(array[3], picture(seed=3))


def test_numcodecs(tiny_path):
    numcodecs = pytest.importorskip("numcodecs")
    from trellic_data.numcodecs import Trellic

    numcodecs.register_codec(Trellic)
    codec = numcodecs.get_codec({"id": "trellic", "quality": 80, "model": str(tiny_path)})
    assert codec == numcodecs.get_codec(codec.get_config())
    assert eval(repr(codec), {"Trellic": Trellic}) == codec
    chunk = np.stack([picture()] * 2)
    out = np.empty_like(chunk)
    assert near(codec.decode(codec.encode(chunk)), chunk)
    codec.decode(codec.encode(chunk), out)
    assert near(out, chunk)
    with pytest.raises(StreamError):
        codec.decode(b"none")


def test_numcodecs_refuses_options_that_cannot_work(tiny_path, tmp_path):
    """Those that any model refuses at once; others before a chunk is lost."""
    numcodecs = pytest.importorskip("numcodecs")
    from trellic_data.numcodecs import Trellic

    numcodecs.register_codec(Trellic)
    for wrong in ({"quality": 600}, {"trellis": 3}):
        with pytest.raises(BadParameter):
            numcodecs.get_codec({"id": "trellic"} | wrong)
    model = str(make_family(tiny_path, tmp_path / "family.zip"))
    for decoder in ("half", "class", "zz"):
        with pytest.raises(BadParameter):
            Trellic(model=model, decoder=decoder).encode(picture())
    Trellic(model=model, decoder="perceptual:0.5").encode(picture())


def test_zarr_v2(tiny_path, tmp_path):
    zarr = pytest.importorskip("zarr", "3.0")
    from trellic_data.numcodecs import Trellic

    array = zarr.create_array(
        str(tmp_path / "v2.zarr"),
        shape=(40, 56, 3),
        chunks=(40, 56, 3),
        dtype="uint8",
        compressors=Trellic(quality=80, model=str(tiny_path)),
        zarr_format=2,
    )
    array[:] = picture()
    assert near(array[:], picture())


# ---- imageio ----


def test_imageio(tiny_path, tmp_path, monkeypatch):
    iio = pytest.importorskip("imageio.v3")
    import trellic_data.imageio  # noqa: F401

    monkeypatch.setenv("TRELLIC_MODELS", str(tiny_path.parent))
    path = tmp_path / "a.tlc"
    iio.imwrite(path, picture(), quality=80, model=str(tiny_path))
    assert near(iio.imread(path), picture())
    part = iio.imread(path, region=(8, 4, 20, 10))
    np.testing.assert_array_equal(part, iio.imread(path)[4:14, 8:28])
    assert iio.improps(path).shape == (40, 56, 3)
    assert iio.immeta(path)["quality"] == 80
    assert len(list(iio.imiter(path))) == 1
    data = iio.imwrite("<bytes>", picture(), extension=".tlc", model=str(tiny_path))
    assert near(iio.imread(data), picture())
    assert near(iio.imread(io.BytesIO(data)), picture())
    with pytest.raises(ValueError, match="one picture"):
        iio.imread(path, index=1)
    iio.imwrite(tmp_path / "a.png", picture())  # and other files go where they went
    np.testing.assert_array_equal(iio.imread(tmp_path / "a.png"), picture())
