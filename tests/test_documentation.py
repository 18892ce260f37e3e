"""Examples in docstrings and in the README run as they stand, with the model that ships."""

import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from typer.main import get_command

import trellic
import trellic.cli.app
import trellic.cli.engines
import trellic_data.batch.cli
import trellic_export.adapters.cli
import trellic_export.cli
import trellic_export.distill.cli
import trellic_export.family_cli
import trellic_serve.cli
import trellic_training.cli.finetune
import trellic_training.cli.train
from trellic.cli import topics
from trellic.support.cache import KERNELS, folder

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


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the commands of the pages read; each model is loaded once."""
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        photo = sample.convert("RGB").crop((150, 60, 246, 124))
    monkeypatch.chdir(tmp_path)
    if kernels := folder(KERNELS):  # another home would compile them anew
        monkeypatch.setenv("TRELLIC_CACHE", str(kernels.parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    for name in ("photos/trip", "archive"):
        Path(name).mkdir(parents=True)
    for path in ("photo.jpg", "screen.png", "photos/a.jpg", "photos/trip/b.png"):
        photo.save(path)
    for path in ("photo.tlc", "other.tlc", "old.tlc", "archive/a.tlc"):
        Path(path).write_bytes(trellic.encode(photo))
    Image.fromarray(trellic.decode(Path("old.tlc").read_bytes())).save("edited.png")
    monkeypatch.setattr(trellic.cli.engines, "load_codec", cache(trellic.cli.engines.load_codec))
    return tmp_path


def test_readme_example(desk):
    profile, exif = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "osprey"
    with Image.open("screen.png") as photo:
        photo.save("photo.jpg", icc_profile=profile, exif=exif)
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    exec(code, {})
    with Image.open("photo.png") as back:
        assert back.size == (96, 64)
        assert back.info["icc_profile"] == profile
        assert dict(back.getexif()) == dict(exif)


NOT_RUN = (  # they install, take minutes, or need what is not there: options are checked below
    "pip install",
    "make ",
    "mkdocs ",
    "trellic train",
    "trellic adapt",
    "trellic distill",
    "trellic models add",
    "trellic models remove",
    "trellic bench",
    "RUN trellic",
)


def in_order(commands):
    """What decodes the folder ``out`` comes after what makes it."""
    return [
        line.partition("  #")[0].strip()
        for line in commands
        if line.strip() and not line.startswith(NOT_RUN)
    ]


def commands_of_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return in_order(line for kind, block in blocks if not kind for line in block.splitlines())


def commands_of_help():
    extras = {"train", "finetune", "add-decoder", "adapt", "distill", "export", "serve", "batch"}
    lines = [line for name, of in topics.EXAMPLES.items() if name not in extras for line in of]
    texts = "\n".join(topics.TOPICS.values())
    return in_order([*lines, *re.findall(r"^  ((?:trellic|cat) .*)$", texts, re.MULTILINE)])


@pytest.mark.slow("every command of the README and of --help runs")
@pytest.mark.parametrize("commands", [commands_of_readme, commands_of_help])
def test_commands_of_the_readme_and_of_help_run(desk, command_line, commands):
    lines = commands()
    assert len(lines) > 9
    skip = commands_of_readme() if commands is commands_of_help else []  # once is enough
    for line in dict.fromkeys(line for line in lines if line not in skip):
        if "|" in line:
            line = line.replace("trellic ", f"{sys.executable} -m trellic ")
            subprocess.run(line, shell=True, check=True, capture_output=True)
        else:
            done = command_line(*line.split()[1:])
            assert (line, done.code) == (line, 0), done.err


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
        "adapt": trellic_export.adapters.cli.app,
        "distill": trellic_export.distill.cli.app,
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


def wrap():
    """The script that wraps pages; ``docs`` is no package."""
    spec = importlib.util.spec_from_file_location("wrap", ROOT / "docs" / "wrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_wrap_at_100_columns():
    """But for tables, code, links and what else cannot be broken."""
    script = wrap()
    pages = script.pages()
    assert len(pages) > 20
    for page in pages:
        assert script.long_lines(page.read_text(encoding="utf-8")) == [], page


def test_wrapping_leaves_what_is_no_prose():
    script, words = wrap(), "word " * 30
    for kept in (
        f"::: trellic\n    options:\n      x: [{words}]",
        f"| {words}|",
        f"```\n{words}\n```",
        f"# {words}",
        f"<!-- table: x -->\n{words}",
    ):
        assert script.wrapped(kept) == kept
        assert script.long_lines(kept) == []
    assert script.long_lines(words.strip()) == [words.strip()]
    assert script.wrapped(f"- {words}").splitlines()[1].startswith("  word")
    code = "`" + "code " * 12 + "code`"
    assert code in script.wrapped(f"{words}{code} {words}")  # commands stay in one line


def words_of(page):
    """Words that a reader of the page sees, those of tables too; code blocks do not count."""
    text = re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return [word for word in re.split(r"[\s|]+", text) if re.search(r"\w", word)]


def test_the_readme_is_read_in_a_few_minutes():
    assert len(words_of("one | two |\n```\ncode\n```\n[three](four) <!-- five -->")) == 3
    assert 900 <= len(words_of((ROOT / "README.md").read_text(encoding="utf-8"))) <= 1100


def test_an_embedded_adapter_has_one_size():
    page = " ".join((ROOT / "docs" / "domains.md").read_text(encoding="utf-8").split())
    options = get_command(trellic.cli.app.app).commands["encode"].params
    said = next(option.help for option in options if option.name == "embed_adapter")
    sizes = [re.findall(r"into the file: some \d+ kB", text) for text in (page, said)]
    assert sizes[0] == sizes[1] != []


def test_commands_that_train_say_what_time_they_take_beside():
    for cli in (trellic_export.adapters.cli, trellic_export.distill.cli):
        assert "two minutes more than --minutes" in get_command(cli.app).help


def test_slow_tests_say_what_their_time_buys():
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"mark\.slow(?!\(\s*\")", text), path
        if re.search(r"^@pytest\.mark\.long", text, re.MULTILINE):  # a long test is a slow one too
            assert "mark.slow(" in text, path


def test_the_shipped_model_is_worth_shipping():
    """Far below what it reaches, far above what a broken bundle gives."""
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        image = np.array(sample.convert("RGB"))
    data = trellic.encode(image, quality=75)
    error = np.square(trellic.decode(data).astype(float) - image).mean()
    assert 8 * len(data) / image[..., 0].size < 0.9
    assert 10 * np.log10(255**2 / error) > 32
