"""Examples in docstrings and in the README run as they stand, with the model that ships."""

import doctest
import importlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

import trellic
import trellic.cli.app
import trellic_data.batch.cli
import trellic_export.cli
import trellic_export.family_cli
import trellic_serve.cli
import trellic_training.cli.finetune
import trellic_training.cli.train

ROOT = Path(__file__).resolve().parents[1]


MODULES = [
    path.relative_to(ROOT / "runtime").with_suffix("").as_posix().replace("/", ".")
    for path in sorted((ROOT / "runtime").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])


@pytest.mark.parametrize("module", [name.removesuffix(".__init__") for name in MODULES])
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_example(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    code = code.replace('Image.open("a.tlc").show()', 'Image.open("a.tlc").load()')
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        image = np.array(sample.convert("RGB"))
    Image.fromarray(image[:128, :192]).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    exec(code, {"image": image, "images": [image[:64, :64], image[64:200, :80]]})
    assert (tmp_path / "a.tlc").stat().st_size > 100


def commands_of_pages(start):
    """Commands in the pages that begin so: page and words, with lines that go on put together."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(rf"(?:^|`)({start} [^`\n]*)", text, re.MULTILINE):
            yield page.name, line.partition("#")[0].split()


def test_pages_name_options_that_exist():
    apps = {
        "train": trellic_training.cli.train.app,
        "finetune": trellic_training.cli.finetune.app,
        "add-decoder": trellic_export.family_cli.app,
        "export": trellic_export.cli.app,
        "serve": trellic_serve.cli.app,
        "batch": trellic_data.batch.cli.app,
    }
    known = dict(get_command(trellic.cli.app.app).commands)
    known |= {name: get_command(app) for name, app in apps.items()}
    seen = 0
    for page, words in commands_of_pages("trellic"):
        name = "add-decoder" if "--add-decoder" in words else words[1]
        if name in known:
            options = {option for part in known[name].params for option in part.opts}
            named = {
                flag for word in words[2:] for flag in re.findall(r"^\[?(--?[a-z][a-z0-9-]*)", word)
            }
            assert named <= options | {"--help"}, (page, words)
            seen += 1
    assert seen > 40


def test_pages_name_benchmarks_and_options_that_exist():
    seen = 0
    for page, words in commands_of_pages(r"python -m (?:benchmarks|tests)\.[\w.]+"):
        path = ROOT / words[2].replace(".", "/")
        source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert source.is_file(), (page, words)
        text = "".join(p.read_text() for p in path.glob("*.py")) if path.is_dir() else ""
        text += source.read_text()
        for flag in re.findall(r" (--[a-z][a-z0-9-]*)", " ".join(words[2:])):
            assert f'"{flag}"' in text, (page, words, flag)
        seen += 1
    assert seen > 20


def rooms_of(contracts, package):
    """What each room may import, by the layers of import-linter and by what is forbidden on top."""
    (layers,) = (
        contract["layers"]
        for contract in contracts
        if contract["type"] == "layers" and contract["layers"][0].startswith(f"{package}.")
    )
    may, below = {}, set()
    for layer in reversed(layers):
        group = {name.strip().removeprefix(f"{package}.") for name in re.split(r"[|:]", layer)}
        for room in group:
            may[room] = below | (set() if "|" in layer else group - {room})
        below |= group
    for contract in contracts:
        if contract["type"] == "forbidden":
            forbidden = {name.removeprefix(f"{package}.") for name in contract["forbidden_modules"]}
            for room in may.keys() & {
                name.removeprefix(f"{package}.") for name in contract["source_modules"]
            }:
                may[room] -= forbidden
    return may


@pytest.mark.parametrize("package", ["trellic", "trellic_training"])
def test_the_page_of_rooms_says_what_is_held(package):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
    table = page.split(f"<!-- rooms: {package} -->")[1].strip().split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    said = {room.strip("`"): set(may.split(", ")) - {"-"} for room, _, may in rows}
    assert said == rooms_of(settings["tool"]["importlinter"]["contracts"], package)


def test_every_room_has_a_row():
    page = (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
    for source in ("runtime/trellic", "training/trellic_training"):
        for path in (ROOT / source).iterdir():
            if (path / "__init__.py").is_file():
                assert f"| `{path.name}` |" in page, path


def test_slow_tests_say_what_their_time_buys():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not re.findall(r"mark\.slow(?!\(\s*\")", path.read_text(encoding="utf-8")), path


def test_the_shipped_model_is_worth_shipping():
    """Far below what it reaches, far above what a broken bundle gives."""
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        image = np.array(sample.convert("RGB"))
    data = trellic.encode(image, quality=60)
    error = np.square(trellic.decode(data).astype(float) - image).mean()
    assert 8 * len(data) / image[..., 0].size < 0.6
    assert 10 * np.log10(255**2 / error) > 32
