"""Packing photos, splitting them for ever, and cropping them; recipes."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError

from trellic.errors import BadParameter
from trellic_training.data.packing import pack_once
from trellic_training.data.photos import DeviceCrops, PackedPhotos, is_validation, pack
from trellic_training.recipes.codec import Phase, QuantizedRecipe, Recipe, load_recipe
from trellic_training.recipes.decoder import DecoderRecipe, load_decoder_recipe

# ---- packing ----


def flat(value: int, height: int = 200, width: int = 240) -> Image.Image:
    return Image.fromarray(np.full((height, width, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Two sources, and what is left out: a small photo, a text, a damaged file."""
    root = tmp_path / "photos"
    (root / "lake" / "deep").mkdir(parents=True)
    (root / "hill").mkdir()
    flat(10).save(root / "lake" / "a.png")
    flat(20).convert("L").save(root / "lake" / "b.png")
    flat(30).convert("RGBA").save(root / "lake" / "deep" / "c.webp", lossless=True)
    flat(40, 300, 192).save(root / "lake" / "d.png")
    flat(50).save(root / "hill" / "e.bmp")
    flat(60, 191, 400).save(root / "hill" / "small.png")
    (root / "hill" / "notes.txt").write_text("Dear diary")
    (root / "hill" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return root


def test_photos_are_packed_whole(folder, tmp_path):
    assert pack(folder, tmp_path / "packed") == 5
    packed = PackedPhotos(tmp_path / "packed")
    found = {p.name: p for p in packed.training + packed.validation}
    assert set(found) == {"a.png", "b.png", "c.webp", "d.png", "e.bmp"}
    assert {p.source for p in found.values()} == {"lake", "hill"}
    for (name, photo), value in zip(sorted(found.items()), (10, 20, 30, 40, 50), strict=True):
        pixels = packed.photo(photo)
        assert pixels.shape == ((300, 192, 3) if name == "d.png" else (200, 240, 3))
        assert (pixels == value).all()


def test_photos_are_read_as_the_encoder_reads_them(tmp_path, capsys):
    """Pillow alone turns 16-bit grey into white, and ignores the orientation."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.full((200, 240), 100 * 257, np.uint16)).save(folder / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    flat(70, 200, 300).save(folder / "turned.png", exif=turned)
    pack(folder, tmp_path / "packed")
    packed = PackedPhotos(tmp_path / "packed")
    found = {photo.name: packed.photo(photo) for photo in packed.training + packed.validation}
    assert (found["deep.png"] == 100).all()
    assert found["turned.png"].shape == (300, 200, 3)
    assert not capsys.readouterr().err


def test_what_is_left_out_is_said(folder, tmp_path, capsys):
    pack(folder, tmp_path / "packed")
    said = capsys.readouterr().err
    assert said == "left out: 1 that cannot be read ('broken.png'), 1 smaller than 192x192 pixels\n"


def test_a_folder_that_cannot_be_read_is_said(folder, tmp_path, capsys, monkeypatch):
    """Whoever runs the tests may be allowed to read everything."""

    def scandir(path):
        if os.fspath(path).endswith("hill"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return before(path)

    before = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert pack(folder, tmp_path / "packed") == 4
    hill = str(folder / "hill")
    assert capsys.readouterr().err == f"left out: folders that cannot be read ({hill!r})\n"


def test_packing_twice_gives_the_same(folder, tmp_path):
    for name in ("one", "two"):
        pack(folder, tmp_path / name)
    for file in ("photos.bin", "photos.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadParameter, match=r"no folder .*gone"):
        pack(tmp_path / "gone", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("Dear diary")
    with pytest.raises(BadParameter, match="no photo of at least 192 px"):
        pack(tmp_path, tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())


def test_a_full_disk_is_named_and_leaves_no_pack(folder, tmp_path, full_disk):
    with full_disk(), pytest.raises(OSError, match=r"photos\.bin"):
        pack(folder, tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())


def test_names_of_files_may_be_no_utf_8(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    flat(10).save(photos / "a.png")
    (photos / "a.png").rename(photos / name)
    pack_once(photos, tmp_path / "packed")
    packed = PackedPhotos(tmp_path / "packed")
    assert [photo.name for photo in packed.training + packed.validation] == [name]


def test_photos_are_not_packed_into_their_own_folder(folder):
    """``train tiny --photos run/photos --out run``: later runs would take the pack for photos."""
    with pytest.raises(BadParameter, match="into the folder of the photos"):
        pack_once(folder, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["hill", "lake"]


VALIDATION = [48, 60, 69, 77, 87]


def test_the_validation_split_never_changes():
    names = [f"wave-{i}.png" for i in range(5000)]
    share = np.mean([is_validation(name) for name in names])
    assert 0.03 < share < 0.05
    assert [i for i in range(100) if is_validation(names[i])] == VALIDATION
    assert all(is_validation(name, share=1.0) for name in names[:50])
    assert not any(is_validation(name, share=0.0) for name in names[:50])


def test_the_split_hangs_on_the_name_alone(tmp_path):
    name = f"wave-{VALIDATION[0]}.png"
    for source in ("one", "two"):
        (tmp_path / "photos" / source).mkdir(parents=True)
        flat(1).save(tmp_path / "photos" / source / name)
    flat(2).save(tmp_path / "photos" / "wave-0.png")
    pack(tmp_path / "photos", tmp_path / "packed")
    packed = PackedPhotos(tmp_path / "packed")
    assert [p.name for p in packed.validation] == [name, name]
    assert [(p.name, p.source) for p in packed.training] == [("wave-0.png", ".")]
    (tmp_path / "photos" / "wave-0.png").unlink()
    pack(tmp_path / "photos", tmp_path / "packed")
    with pytest.raises(BadParameter, match="no photo to train on"):
        PackedPhotos(tmp_path / "packed")


@pytest.mark.parametrize(("count", "least"), [(3, 0), (5, 1), (24, 4), (60, 8)])
def test_of_a_few_photos_some_are_set_aside_too(count, least, tmp_path):
    names = [f"few-{i}.png" for i in range(count)]
    (tmp_path / "photos").mkdir()
    for name in names:
        flat(1, 192, 192).save(tmp_path / "photos" / name)
    pack(tmp_path / "photos", tmp_path / "packed")
    aside = {photo.name for photo in PackedPhotos(tmp_path / "packed").validation}
    assert len(aside) >= least
    assert aside >= {name for name in names if is_validation(name)}
    assert aside == {n for n in names if is_validation(n)} or len(aside) == least


# ---- cropping ----


def test_crops(folder, tmp_path):
    pack(folder, tmp_path / "packed")
    packed = PackedPhotos(tmp_path / "packed")
    crops = packed.crops(np.random.default_rng(0), 200, 64)
    assert (crops.shape, crops.dtype) == ((200, 64, 64, 3), torch.uint8)
    assert (crops == crops[:, :1, :1, :1]).all()
    again = packed.crops(np.random.default_rng(0), 200, 64)
    assert torch.equal(crops, again)
    values, counts = np.unique(crops[:, 0, 0, 0], return_counts=True)
    assert set(values) <= {10, 20, 30, 40, 50}
    # four photos of the lake weigh twice what the one of the hill does, not four times
    if not packed.validation:
        assert 0.2 < counts[list(values).index(50)] / 200 < 0.47


def test_sources_weigh_by_the_square_root_of_their_size(packed, tmp_path):
    entries = json.loads((packed / "photos.json").read_text())
    for entry, source in zip(entries, "abbb", strict=True):
        entry["source"] = source
    (tmp_path / "photos.json").write_text(json.dumps(entries))
    (tmp_path / "photos.bin").write_bytes((packed / "photos.bin").read_bytes())
    weights = PackedPhotos(tmp_path).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[1:].sum() / weights[0] == pytest.approx(3**0.5)


def on_host(photos: PackedPhotos, batch: int, size: int) -> torch.Tensor:
    return photos.crops(np.random.default_rng(1), batch, size)


def on_device(photos: PackedPhotos, batch: int, size: int) -> torch.Tensor:
    return DeviceCrops(photos, torch.device("cpu"), 1).crops(batch, size)


@pytest.mark.parametrize("cut", [on_host, on_device])
def test_crops_lie_in_the_photo_flipped_or_turned(tmp_path, cut):
    (tmp_path / "photos").mkdir()
    y, x = np.mgrid[:200, :220]
    pixels = np.stack([y, x, 0 * x], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    pack(tmp_path / "photos", tmp_path / "packed")
    seen = set()
    first, last = set(), set()
    for crop in cut(PackedPhotos(tmp_path / "packed"), 600, 32).numpy():
        rows, columns = crop[..., 0].astype(int), crop[..., 1].astype(int)
        turned = rows[0, 0] == rows[-1, 0]
        if turned:
            rows, columns = rows.T, columns.T
        assert (np.diff(rows, axis=0) == 1).all()
        steps = np.unique(np.diff(columns, axis=1)).tolist()
        assert steps in ([1], [-1])
        seen.add((turned, steps[0]))
        first |= {("row", rows.min()), ("column", columns.min())}
        last |= {("row", rows.max()), ("column", columns.max())}
    assert len(seen) == 4
    assert {("row", 0), ("column", 0)} <= first
    assert {("row", 199), ("column", 219)} <= last


def test_crops_on_the_device_come_from_photos_that_are_large_enough(folder, tmp_path):
    pack(folder, tmp_path / "packed")
    packed = PackedPhotos(tmp_path / "packed")
    device = DeviceCrops(packed, torch.device("cpu"), 0)
    values = set(device.crops(100, 200)[:, 0, 0, 0].tolist())
    large = [p for p in packed.training if min(p.height, p.width) >= 200]
    assert values == {int(packed.photo(p)[0, 0, 0]) for p in large}
    with pytest.raises(BadParameter, match="256 pixels"):
        device.crops(1, 256)


def test_small_photos_are_mirrored(packed):
    crops = PackedPhotos(packed).crops(np.random.default_rng(1), 4, 448)
    assert crops.shape == (4, 448, 448, 3)


# ---- recipes ----


def test_shipped_recipes_are_valid(tiny_recipe):
    assert tiny_recipe.name == "tiny"
    assert tiny_recipe.model.latents == 24
    assert tiny_recipe.phase_at(0.3).crop == 128
    assert Recipe(name="x").phase_at(0.2).batch == 16
    assert Recipe(name="x").phase_at(1.0).crop == 256


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd"},
        {"seed": -1},
        {"seed": 2**32},
        {"learning_rate": 0},
        {"learning_rate": 1e30},
        {"learning_rate": math.nan},
        {"warmup_steps": 0},
        {"decay_from": 1.0},
        {"gradient_clip": 0},
        {"gradient_clip": math.inf},
        {"lmbda": [0.1, math.nan]},
        {"distortion": {"flat": math.inf}},
        {"phases": []},
        {"surprise": 1},
        {"name": None},
        {"lmbda": [1]},
        {"lmbda": [1, 3, 2]},
        {"lmbda": [0, 1]},
        {"phases": [{"until": 1.0, "crop": 100, "batch": 4}]},
        {"phases": [{"until": 0.0, "crop": 128, "batch": 4}]},
        {"phases": [{"until": 1.0, "crop": 128, "batch": 0}]},
        {"model": {"wide": "very"}},
        {"model": {"wide": 0}},
        {"model": {"wide": 10_000_000}},
        {"model": {"scales": 1}},
        {"model": {"scales": 1000}},
        {"model": {"groups": []}},
        {"model": {"groups": [{"channels": 4, "steps": [5, 9]}]}},
        {"model": {"groups": [{"channels": 0, "steps": [0, 1]}]}},
        {"model": {"deep": 8, "height": 3}},
    ],
    ids=str,
)
def test_bad_recipes_are_refused(tmp_path, change):
    with pytest.raises(ValidationError):
        Recipe.model_validate({"name": "x"} | change)
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({"name": "x"} | change))
    with pytest.raises(BadParameter, match=f"recipe .*bad.yaml: .*{next(iter(change))}"):
        load_recipe(tmp_path / "bad.yaml")


@pytest.mark.parametrize("recipe", [QuantizedRecipe, DecoderRecipe])
@pytest.mark.parametrize(
    "change", [{"quantizers": ()}, {"phases": ()}, {"warmup_steps": 0}], ids=str
)
def test_later_stages_refuse_them_too(recipe, change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        recipe(name="x", **change)


@pytest.mark.parametrize(
    "content",
    [b"", b"name: [", b"- a\n- b", b"text", b"\xff\xfe\x00", b"a: 2026-99-99", b"[" * 20_000],
)
def test_what_is_no_recipe_is_refused(tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(BadParameter, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("learningrate: 1", "unknown field 'learningrate'; did you mean 'learning_rate'?"),
        ("model: {wid: 1}", "unknown field 'model.wid'; did you mean 'wide'?"),
        (
            "phases: [{until: 1, crop: 64, bacth: 4}]",
            "unknown field 'phases.0.bacth'; did you mean 'batch'?",
        ),
        ("surprise: 1", "unknown field 'surprise'"),
        ("learning_rate: 0", "learning_rate: 0; expected greater than 0"),
        ("lmbda: [3, 1]", "lmbda: (3.0, 1.0): values above 0 that rise are expected"),
    ],
)
def test_faults_of_recipes_are_put_in_plain_words(content, said, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\n{content}\n")
    with pytest.raises(BadParameter) as fault:
        load_recipe(path)
    assert str(fault.value) == f"recipe {path}: {said}"


def test_unknown_fields_of_decoders_have_neighbours_too(tmp_path):
    path = tmp_path / "recipe.yaml"
    network = "{kind: synthesis, wyde: 8, deep: 24, blocks: [0, 1]}"
    path.write_text(f"name: x\ndecoders: {{fast: {{purpose: none, network: {network}}}}}\n")
    with pytest.raises(BadParameter, match=r"'decoders.fast.network.*wyde'; did you mean 'wide'"):
        load_decoder_recipe(path, "fast")


def test_an_empty_recipe_is_called_empty(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("# nothing\n")
    with pytest.raises(BadParameter, match=r"recipe.yaml is empty; expected fields"):
        load_recipe(path)


def test_phases_cannot_be_changed():
    with pytest.raises(ValidationError):
        Phase(until=1, crop=128, batch=1).crop = 64
