"""Decoders of labels: from a folder a label to a bundle that names what it sees."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter, EngineError
from trellic.model.bundle import Bundle
from trellic_export import family_cli, graphs
from trellic_export.parity import check_decoder
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.transforms import Chain
from trellic_training.recipes.decoder import load_decoder_recipe
from trellic_training.stages.samples import BundleQuantizer, LabelledSamples

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
SIDE = 64
RECIPE = """
name: stripes
decoders:
  class:
    purpose: which way the stripes run
    network: {kind: classifier, hidden: [8, 8], blocks: [1, 0]}
    learning_rate: 0.01
    warmup_steps: 3
    ema: 0.9
    pool: 48
    pool_start: 48
    validate_every: 20
    phases:
      - {until: 1.0, crop: 64, batch: 16, train: g_s, reuse: 64}
"""


def stripes(rng: np.random.Generator, label: str) -> np.ndarray:
    """Wide stripes of two random colours, "across" or "down"."""
    wave = np.sin(np.arange(SIDE) / rng.uniform(3, 6) + rng.uniform(0, 6)) > 0
    grid = np.broadcast_to(wave if label == "down" else wave[:, None], (SIDE, SIDE))
    return np.where(grid[..., None], rng.integers(140, 256, 3), rng.integers(0, 120, 3)).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for label in ("across", "down"):
        (folder / label).mkdir()
        for i in range(20):
            Image.fromarray(stripes(rng, label)).save(folder / label / f"{i}.png")
    pack(folder, folder / "packed", min_side=SIDE)
    return folder / "packed"


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "stripes.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "stripes.yaml"


def test_samples_are_labelled(packed, recipe):
    settings, bundle = load_decoder_recipe(recipe, "class"), Bundle(TINY)
    samples = LabelledSamples(BundleQuantizer(bundle, 1), PackedPhotos(packed), settings)
    batch = samples(np.random.default_rng(0), 5, SIDE)
    assert set(batch) == {"quality", "level", "latents", "label"}
    assert batch["latents"].shape == (5, bundle.manifest.layout.latents, 4, 4)
    assert set(batch["label"].tolist()) <= {0, 1}
    for held in samples.validation(SIDE):
        assert len(held["label"]) == len(held["latents"])
        assert len(set(held["quality"].tolist())) == 1


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (["a.png", "b.png"], "1 labels .* 1 sizes: 64x64"),
        (["x/a.png", "y/wide.png"], "2 labels .* 2 sizes: 64x64, 80x64"),
        (["x/wide.png", "y/wide.png"], "2 labels .* 1 sizes: 80x64; .* multiple of 64"),
    ],
)
def test_what_is_no_labelled_set_is_refused(recipe, tmp_path, names, seen):
    folder = tmp_path / "set"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        side = 80 if "wide" in name else 64
        Image.new("RGB", (side, 64)).save(folder / name)
    arguments = ["--add-decoder", "class", "--bundle", str(TINY), "--photos", str(folder)]
    with pytest.raises(BadParameter, match=seen):
        family_cli.main([str(recipe), *arguments, "--out", str(tmp_path / "new.zip")])


def test_groups_and_blocks_of_a_classifier_belong_together(recipe):
    recipe.write_text(RECIPE.replace("blocks: [1, 0]", "blocks: [1]"), encoding="utf-8")
    with pytest.raises(BadParameter, match="1 numbers of blocks for 2 groups"):
        load_decoder_recipe(recipe, "class")


@pytest.mark.long
@pytest.mark.slow("trains a decoder of labels for seven seconds")
def test_a_bundle_learns_labels(packed, recipe, tmp_path, capsys, monkeypatch):
    """Right on new pictures at a quality that was not picked for it, from the files alone."""
    out = tmp_path / "seeing.zip"
    arguments = ["--add-decoder", "class", "--bundle", str(TINY), "--photos", str(packed)]
    family_cli.main([str(recipe), *arguments, "--minutes", "0.12", "--out", str(out)])
    codec = Codec.load(out, device="cpu", threads=1)
    info = codec.decoders["class"]
    assert (info.kind, info.labels, info.purpose) == (
        "labels",
        ["across", "down"],
        "which way the stripes run",
    )
    assert codec.bundle.manifest.stream_id == Bundle(TINY).manifest.stream_id
    rng, right = np.random.default_rng(99), []
    for label in ["across", "down"] * 10:
        data = codec.encode(stripes(rng, label), quality=70)
        right.append(codec.classify(data, decoder="class")[0][0] == label)
    assert np.mean(right) > 0.8


def test_the_graph_of_labels_is_the_network():
    torch.manual_seed(0)
    network = Chain(
        nn.Conv2d(6, 8, 1),
        nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    ).eval()
    data = graphs.label_graph(network, 6)
    assert "Dropout" not in {node.op_type for node in onnx.load_from_string(data).graph.node}
    engine = OrtEngine(data)
    check_decoder("class", network, engine, 6)
    with torch.no_grad():
        network[-1].bias += 0.1
    with pytest.raises(EngineError, match="'class' differs"):
        check_decoder("class", network, engine, 6)


def test_labels_start_from_no_decoder_of_pictures(recipe):
    settings = load_decoder_recipe(recipe, "class")
    weights = Path(__file__).parents[2] / "training" / "checkpoints" / "cifar.pt"
    with pytest.raises(BadParameter, match="cannot be started from"):
        family_cli._start(settings, Bundle(TINY), weights, ["across", "down"])
