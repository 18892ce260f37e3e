"""A model of four bands: exported, and used by the runtime and the command line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trellic import bitstream
from trellic.bitstream import Chunks
from trellic.codec import Codec
from trellic.errors import BadImage, BadParameter, CorruptStream, EngineError
from trellic.images import Picture
from trellic.pipeline import memory
from trellic_export import bundle as export
from trellic_export import calibrate
from trellic_export.adapters import cli as adapt
from trellic_export.web import export_web
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.pixels import to_network
from trellic_training.stages.samples import BundleQuantizer

from .conftest import CONFIG, synthetic

FOUR = ModelConfig.model_validate({**CONFIG.model_dump(), "bands": 4})


def picture(seed: int) -> np.ndarray:
    return np.concatenate([synthetic(seed), synthetic(seed + 9)[..., :1]], 2)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    for i in range(3):
        np.save(folder / f"wave-{i}.npy", picture(i))
    assert pack(folder, folder / "packed", bands=4) == 3
    return PackedPhotos(folder / "packed")


@pytest.fixture(scope="module")
def bundle(packed, tmp_path_factory):
    """A model with principal components, with tables from few small pictures."""
    torch.manual_seed(3)
    model = PhotoModel(FOUR)
    crops = packed.crops(np.random.default_rng(0), 60, 64)
    start_from_components(model, to_network(crops))
    model.eval().requires_grad_(requires_grad=False)
    out = tmp_path_factory.mktemp("bundle") / "four.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "CALIBRATION_SIDE", 64)
        patch.setattr(calibrate, "ROUNDS", 1)
        patch.setattr(calibrate, "REFERENCE_QUALITIES", (30, 70))
        options = export.Options(name="four", photos=3, skip_index=1)
        manifest = export.export_bundle(model, {}, packed, out, options)
    assert manifest.layout.bands == 4
    return out


@pytest.fixture(scope="module")
def codec(bundle):
    return Codec.load(bundle, device="cpu", threads=1)


@pytest.fixture(scope="module")
def pixels():
    return picture(1)[:130, :100]


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean((0, 1)))


@pytest.mark.slow("exports a model and codes with it")
def test_pictures_there_and_back(codec, pixels):
    for options in ({}, {"refine": True}, {"progressive": True}, {"patches": "auto"}):
        data = codec.encode(pixels, quality=80, trellis=8, **options)
        decoded = codec.decode(data)
        assert decoded.shape == pixels.shape
        assert (psnr(pixels, decoded) > 20).all()
    part = codec.decode(data, region=(3, 20, 50, 37))
    assert np.abs(part.astype(int) - decoded[20:57, 3:53]).max() <= 1
    first, second = codec.encode_batch([pixels, pixels[:64]], quality=80, trellis=8)
    np.testing.assert_array_equal(codec.decode(first), decoded)
    assert codec.decode(second).shape == (64, 100, 4)
    lower = codec.transcode(data, quality=40)
    assert codec.decode(lower).shape == pixels.shape
    again = codec.encode_again(Picture(decoded), data)
    assert again.data == data


@pytest.mark.slow("exports a model")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"\(64, 64, 3\).*for a model of 4 bands"),
        (np.zeros((64, 64), np.uint8), r"\(64, 64\)"),
        (np.zeros((64, 64, 4), np.uint16), "samples of 16 bits, but the range of latents"),
    ],
)
def test_other_pictures_are_one_error(codec, wrong, said):
    with pytest.raises(BadImage, match=said):
        codec.encode(wrong)


@pytest.mark.slow("exports a model")
def test_what_is_of_colours_alone_is_refused(codec, bundle, pixels, packed, tmp_path):
    with pytest.raises(BadImage, match=r"a grey picture.*4 bands, which the model 'four'"):
        codec.encode_picture(Picture(pixels[..., 0]))
    codec._pool.device, before = "cuda", codec._pool.device
    try:
        assert not codec._batches_on_gpu()
        with pytest.raises(EngineError, match="a batch on a GPU of a model of 4 bands"):
            codec.on_gpu()
    finally:
        codec._pool.device = before
    with pytest.raises(BadParameter, match="a model of 4 bands"):
        BundleQuantizer(codec.bundle, 1)
    with pytest.raises(BadParameter, match="a model of 4 bands"):
        export_web(codec.bundle, tmp_path / "web")
    with pytest.raises(BadParameter, match="of 4 bands; expected one of colour pictures"):
        adapt.main([str(tmp_path), "--name", "own", "--model", str(codec.bundle.path)])


@pytest.mark.slow("exports a model")
def test_forged_streams_are_refused(codec, pixels):
    stream = bitstream.read(codec.encode(pixels, quality=60, trellis=8), 2**20)
    alpha = replace(stream, chunks=Chunks(alpha=pixels[..., 0].copy()))
    grey = replace(stream, header=replace(stream.header, grey=True))
    for forged in (alpha, grey):
        with pytest.raises(CorruptStream, match="a stream of 4 bands that is grey"):
            codec.decode(bitstream.write(forged))


@pytest.mark.slow("exports a model")
def test_more_bands_take_more_memory(codec, pixels):
    layout = codec.bundle.manifest.layout
    usual = layout.model_copy(update={"bands": 3})
    four, three = (
        memory.encoding(Picture(pixels), one, halo=0, tiled_h_a=True)(64) for one in (layout, usual)
    )
    assert four - three == memory.BAND * 192 * 128


@pytest.mark.slow("exports a model and runs the commands")
def test_the_commands(bundle, pixels, tmp_path, command_line, monkeypatch):
    monkeypatch.setenv("TRELLIC_MODELS", str(bundle.parent))
    source, file, back = (tmp_path / name for name in ("a.npy", "a.tlc", "b.npy"))
    np.save(source, pixels)
    encode = "encode", source, file, "--model", "four", "-q", "80"
    assert command_line(*encode).code == 0
    assert command_line("decode", file, back).code == 0
    assert (psnr(pixels, np.load(back)) > 20).all()
    for arguments, said in (
        (("decode", file, tmp_path / "b.png"), "a picture of 4 bands, which PNG cannot hold"),
        (("encode", source, tmp_path / "c.tlc"), "3 bands, which the model 'photo' codes"),
    ):
        found = command_line(*arguments)
        assert (found.code, found.err.count("\n")) == (1, 1)
        assert said in found.err
    np.save(source, pixels.astype(np.uint16))
    found = command_line(*encode)
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "samples of 16 bits" in found.err
