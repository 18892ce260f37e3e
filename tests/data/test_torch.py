"""The data set for torch: what it shows, from which decoder, in forked and spawned workers."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from tests.runtime.family import make_family

from trellic.codec import Codec
from trellic.errors import BadImage, BadParameter
from trellic.model.bundle import Bundle, find
from trellic.model.choice import cheapest
from trellic_data import views
from trellic_data.torch import TlcDataset, collate
from trellic_data.views import View, choose, see

RNG = np.random.default_rng(4)


def picture(height: int, width: int) -> np.ndarray:
    ramp = np.linspace(0, 180, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    return np.repeat(ramp, 3, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def family_path(tiny_path, tmp_path_factory):
    """The tiny bundle with more decoders: "preview" at an eighth of the size among them."""
    return make_family(tiny_path, tmp_path_factory.mktemp("family") / "family.zip")


@pytest.fixture(scope="module")
def family(family_path):
    return Codec.load(str(family_path), device="cpu", threads=1)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    for number, name in enumerate(("cat", "cat", "dog", "dog")):
        (root / name).mkdir(exist_ok=True)
        data = tiny.encode(picture(48, 64 + 8 * number), quality=80, trellis=0)
        (root / name / f"{number}.tlc").write_bytes(data)
    return root


def test_pictures_and_labels(folder, tiny, tiny_path):
    found = TlcDataset(folder, label=lambda path: path.parent.name, model=str(tiny_path))
    assert len(found) == 4
    tensor, label = found[2]
    assert (tensor.dtype, tuple(tensor.shape), label) == (torch.uint8, (3, 48, 80), "dog")
    shown = tiny.decode(found.paths[2].read_bytes()).transpose(2, 0, 1)
    np.testing.assert_array_equal(tensor.numpy(), shown)
    with pytest.raises(BadParameter):
        TlcDataset(folder / "cat" / "none")


@pytest.mark.parametrize("how", ["random", "center", "scale"])
@pytest.mark.parametrize("size", [(16, 16), (48, 20), (7, 90), (100, 200)])
def test_views_have_their_size(tiny, how, size):
    data = tiny.encode(picture(48, 64), quality=80)
    assert see(tiny, data, View(*size, how)).shape == (*size, 3)


def test_a_cut_is_a_part_of_the_picture(tiny):
    data = tiny.encode(picture(48, 64), quality=80)
    whole = tiny.decode(data)
    np.testing.assert_array_equal(see(tiny, data, View(16, 20, "center")), whole[16:32, 22:42])
    corner = see(tiny, data, View(16, 20, "random"), at=(0.0, 0.9999))
    np.testing.assert_array_equal(corner, whole[:16, 44:])


def test_only_what_is_needed_is_decoded(family, monkeypatch):
    data, asked = family.encode(picture(128, 192)), []
    decode = Codec.decode

    def noted(self, data, **options):
        asked.append((options["decoder"], options.get("region")))
        return decode(self, data, **options)

    monkeypatch.setattr(Codec, "decode", noted)
    scales = {name: info.scale for name, info in family.decoders.items()}
    scale, small = max((scale, name) for name, scale in scales.items())
    side = 128 // scale
    see(family, data, View(side, side, "scale"))
    see(family, data, View(side + 1, side + 1, "scale"))
    see(family, data, View(20, 30, "center"))
    assert asked[0][0] == small
    assert scales[asked[1][0]] < scale
    assert scales[asked[2][0]] == 1
    assert asked[2][1] == (81, 54, 30, 20)


def test_grey_and_alpha_are_three_channels(tiny):
    grey = tiny.encode(picture(20, 30)[..., 0])
    assert see(tiny, grey).shape == (20, 30, 3)
    clear = tiny.encode(np.dstack([picture(20, 30), np.full((20, 30), 9, np.uint8)]))
    assert see(tiny, clear, View(8, 8)).shape == (8, 8, 3)
    assert views.rgb(np.zeros((4, 5, 2), np.uint8)).shape == (4, 5, 3)


def test_streams_of_other_models_are_seen_by_their_own_decoders(tiny, tiny_path, monkeypatch):
    """The decoders of the loaded model were asked for, which the other one does not have."""
    monkeypatch.setenv("TRELLIC_MODELS", str(tiny_path.parent))
    photo = Codec.load("photo", device="cpu", threads=1)
    assert "fast" in photo.decoders
    assert "fast" not in tiny.decoders
    data = tiny.encode(picture(48, 64), quality=80)
    np.testing.assert_array_equal(see(photo, data), see(tiny, data))
    for view in (View(16, 20, "center"), View(6, 8)):
        np.testing.assert_array_equal(see(photo, data, view), see(tiny, data, view))


def test_bands_are_no_colours(tiny, monkeypatch):
    """Four bands were taken for colours and alpha."""
    layout = tiny.bundle.manifest.layout.model_copy(update={"bands": 4})
    changed = tiny.bundle.manifest.model_copy(update={"layout": layout})
    monkeypatch.setattr(views, "_model_of", lambda *_: changed)
    with pytest.raises(BadImage, match="a picture of 4 bands; expected 3, or grey"):
        see(tiny, tiny.encode(picture(20, 30)))


def test_bad_views():
    for wrong in ({"height": 0, "width": 1}, {"height": 1, "width": 1, "how": "squeeze"}):
        with pytest.raises(BadParameter):
            View(**wrong)


def test_collate():
    a, b = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.ones(3, 6, 5, dtype=torch.uint8)
    assert tuple(collate([a, a]).shape) == (2, 3, 4, 5)
    assert collate([a, b]) == [a, b]
    pictures, labels = collate([(a, 1), (a, 2)])
    assert tuple(pictures.shape) == (2, 3, 4, 5)
    assert labels.tolist() == [1, 2]


WORKERS = """
import sys
import torch
from torch.utils.data import DataLoader
from trellic_data.torch import TlcDataset, collate
from trellic_data.views import View

if __name__ == "__main__":
    folder, model, start = sys.argv[1:]
    found = TlcDataset(folder, View(32, 32, "random"), model=model)
    found[0]  # the parent has engines of its own before it forks
    loader = DataLoader(
        found, batch_size=2, num_workers=1, collate_fn=collate, multiprocessing_context=start
    )
    batches = list(loader)
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 32, 32)] * 2
    assert batches[0].dtype == torch.uint8
    print("good")
"""


@pytest.mark.slow("a worker imports torch and loads a model of its own")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers(folder, tiny_path, start, tmp_path):
    """In a process of their own: a fork of one of xdist's would hold its channel too."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS, encoding="utf-8")
    command = [sys.executable, str(script), str(folder), str(tiny_path), start]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "good\n"


@pytest.mark.parametrize(
    ("shrink", "decoder"), [(1, "fast"), (1.9, "fast"), (2, "half"), (7.9, "half"), (8, "preview")]
)
def test_small_views_of_photos_come_from_small_pictures(shrink, decoder):
    decoders = Bundle(find("photo")).manifest.decoders
    assert choose(SimpleNamespace(decoders=decoders), shrink) == decoder
    assert cheapest(decoders, shrink) == decoder  # the rule of trellic decode and Pillow
