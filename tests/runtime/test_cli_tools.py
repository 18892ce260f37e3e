"""The other commands: info, models, bench, train and export; how quickly they start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import types
import warnings
import zipfile

import numpy as np
import pytest

from trellic import images
from trellic.cli import report
from trellic.errors import BadParameter, TrellicWarning
from trellic.images import Picture

RGB = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def stream(tmp_path, fake_codec, trellic):
    images.write(tmp_path / "a.png", Picture(RGB, RGB[..., 0].copy(), icc=b"profile" * 9))
    assert trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc", "-q", 70).code == 0
    return tmp_path / "a.tlc"


# ---- info ----


def test_info_as_json(stream, trellic):
    fields = json.loads(trellic("info", stream, "--json").out)
    parts = fields.pop("parts")
    assert fields.pop("decoders") is None  # no model of the stream is installed
    size = stream.stat().st_size
    assert fields == {
        "input": str(stream),
        "width": 30,
        "height": 20,
        "channels": "RGB alpha",
        "bytes": size,
        "bpp": 8 * size / 600,
        "quality": 70.0,
        "trellis": 32,
        "dither": None,
        "steady": False,
        "lanes": 1,
        "slices": 1,
        "steps": 1,
        "model": None,
        "stream_id": "0fa4e001",
        "adapter": None,
        "patches": None,
        "latents": True,
        "av1_patches": None,
        "layers": 1,
        "lengths": [{"passes": 1, "bytes": size, "layer": 1, "quality": 70.0}],
    }
    assert list(parts) == ["header and checks", "hyper-latents", "step 0", "alpha", "icc"]
    assert sum(parts.values()) == size
    assert parts["alpha"] > 500


def test_info_for_people(stream, trellic):
    result = trellic("info", stream)
    assert (result.code, result.err) == (0, "")
    lines = dict(line.split(None, 1) for line in result.out.splitlines())
    assert lines["width"] == "30"
    assert lines["model"] == "not installed"
    assert "step 0" in lines["parts"]


# ---- bench ----


def test_bench_on_a_synthetic_picture(fake_codec, trellic):
    fields = json.loads(trellic("bench", "--repeat", 2, "--json").out)
    assert (fields["input"], fields["width"], fields["height"]) == ("synthetic", 768, 512)
    assert fields["encode"]["median"] == {"g_a": 0.01, "code": 0.02, "total": 0.03}
    assert fields["decode"]["least"] == {"decode": 0.01, "g_s": 0.01, "total": 0.02}
    assert fields["encode"]["pixels_per_second"] == pytest.approx(768 * 512 / 0.03)
    assert fields["machine"]
    assert [call[0] for call in fake_codec[0].calls] == ["warm_up"] + ["encode", "decode"] * 2


def test_bench_for_people(tmp_path, fake_codec, trellic):
    images.write(tmp_path / "a.png", Picture(RGB))
    result = trellic("bench", tmp_path / "a.png", "-q", 30, "--decoder", "fast", "--repeat", 1)
    assert (result.code, result.err) == (0, "")
    for part in ("30x20", "quality 30", "encode g_a", "decode total", "Mpixel/s"):
        assert part in result.out


def test_bench_of_what_is_no_picture(tmp_path, fake_codec, trellic):
    result = trellic("bench", tmp_path / "gone.png")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert trellic("bench", "--decoder", "best").code == 1
    assert trellic("bench", "--repeat", 0).code == 2


def test_info_of_many(tmp_path, stream, trellic):
    (tmp_path / "bad.tlc").write_bytes(b"hello\n")
    result = trellic("info", stream, tmp_path / "bad.tlc", stream, "--json")
    assert result.code == 1
    assert [json.loads(line)["input"] for line in result.out.splitlines()] == [str(stream)] * 2
    assert result.err.startswith(f"error: {tmp_path}/bad.tlc")
    assert trellic("info", stream, stream).out.count("\n\ninput ") == 1


# ---- models ----


def test_models_by_name_or_path(trellic, tiny_path):
    result = trellic("models", "--json", "photo", tiny_path)
    assert [json.loads(line)["name"] for line in result.out.splitlines()] == ["photo", "tiny"]
    assert "decoder preview" in trellic("models", "photo").out
    wrong = trellic("models", "photo", "other")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err.startswith("error: no model 'other'")


def test_without_models_there_is_a_hint(trellic, monkeypatch):
    from trellic.model import bundle

    monkeypatch.setattr(bundle, "installed", list)
    assert "trellic models add" in trellic("models").out
    assert trellic("models", "--json").out == ""


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_models_add_refuses_what_is_no_bundle(tmp_path, trellic, monkeypatch, content):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / "a.zip"
    if content is not None:
        path.write_bytes(content)
    result = trellic("models", "add", path)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith("error: ")
    assert not (tmp_path / "data").exists()


def test_models_add_says_what_weights_need(tmp_path, trellic):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", b"as torch.save begins")
    said = trellic("models", "add", path).err
    assert "holds weights of training; expected a bundle; make one" in said
    gone = tmp_path / "gone.zip"
    assert trellic("models", "add", gone).err == f"error: {gone}: no such file or folder\n"


# ---- train and export ----


@pytest.fixture
def package(monkeypatch):
    """Put a module of that name in place of an installed one."""

    def put(name, **content):
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType("parent"))
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.mark.parametrize(
    ("command", "module"),
    [("train", "trellic_training.cli.train"), ("export", "trellic_export.cli")],
)
def test_commands_with_extras_are_passed_on(trellic, package, command, module):
    seen = []
    package(module, main=lambda arguments: seen.append(arguments))
    assert trellic(command, "photo.yaml", "--steps", 3, "-q", "--help", "--", "x").code == 0
    assert seen == [["photo.yaml", "--steps", "3", "-q", "--help", "--", "x"]]
    package(module, main=lambda arguments: 3)
    assert trellic(command).code == 3


@pytest.mark.parametrize("error", [BadParameter("steps 0"), OSError(28, "No space left", "x.ckpt")])
def test_errors_of_extras_have_one_line(trellic, package, error):
    def main(arguments):
        raise error

    package("trellic_training.cli.train", main=main)
    result = trellic("train", "photo.yaml")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith("error: ")


def test_warnings_of_extras_have_one_line(trellic, package):
    """They came with the place in the source, as Python prints them."""

    def main(arguments):
        warnings.warn("it is\nmeant", TrellicWarning, stacklevel=1)

    package("trellic_training.cli.train", main=main)
    assert trellic("train", "photo.yaml").err == "warning: it is\\nmeant\n"


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("train", "trellic_training.cli.train", "[training]"),
        ("export", "trellic_export.cli", "[export]"),
    ],
)
def test_a_missing_extra_is_named(trellic, monkeypatch, command, module, extra):
    def missing(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    monkeypatch.setattr("trellic.cli.extras.importlib.import_module", missing)
    result = trellic(command, "photo.yaml")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    for part in ("error: ", f"trellic {command}", "'torch'", "pip install ", f"{extra}'"):
        assert part in result.err


# ---- progress and slow starts ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("files", "shown"), [(1, False), (2, True)])
def test_a_progress_bar_only_on_a_terminal_and_for_several_files(
    tmp_path, fake_codec, trellic, monkeypatch, files, shown
):
    names = [tmp_path / f"{n}.png" for n in range(files)]
    for name in names:
        images.write(name, Picture(RGB))
    assert trellic("encode", *names, tmp_path / "out/").err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    result = trellic("encode", *names, tmp_path / "out/", "--json")
    assert [json.loads(line)["width"] for line in result.out.splitlines()] == [30] * files
    assert ("Encoding" in terminal.getvalue()) == shown


def compile_in_load(monkeypatch, modules):
    """Let loading a codec look like compiling kernels of modules."""
    from numba.core import event

    from trellic.cli import engines

    load = engines.load_codec

    def slow(*arguments):
        for module in modules:
            kernel = types.SimpleNamespace(py_func=types.SimpleNamespace(__module__=module))
            with event.trigger_event("numba:compile", data={"dispatcher": kernel}):
                time.sleep(0.01)
        return load(*arguments)

    monkeypatch.setattr(engines, "load_codec", slow)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["trellic.integer.kernels"] * 5, True),
        (["trellic.integer.kernels"], False),
        (["numba.cpython.unicode"] * 5, False),
        ([], False),
    ],
)
def test_compiling_is_explained_and_nothing_else(
    tmp_path, fake_codec, trellic, monkeypatch, modules, said
):
    """A machine that is slow for another reason is told nothing of kernels."""
    from trellic.cli import compiling

    images.write(tmp_path / "a.png", Picture(RGB))
    monkeypatch.setattr(compiling, "PATIENCE", 0.02)
    compile_in_load(monkeypatch, modules)
    if not modules:
        from trellic.cli import engines

        load = engines.load_codec
        monkeypatch.setattr(engines, "load_codec", lambda *a: (time.sleep(0.1), load(*a))[1])
    result = trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc")
    assert result.code == 0
    assert result.err == (f"{compiling.FIRST_RUN}\n" if said else "")


def test_compiling_has_a_bar_on_a_terminal(tmp_path, fake_codec, trellic, monkeypatch):
    images.write(tmp_path / "a.png", Picture(RGB))
    compile_in_load(monkeypatch, ["trellic.integer.kernels"] * 3)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc").code == 0
    assert "compiling kernels" in terminal.getvalue()


def test_warm_up_says_what_it_did(fake_codec, trellic, monkeypatch, tmp_path):
    result = trellic("warm-up", "--decoder", "fast")
    assert result.code == 0
    assert result.out.startswith("model photo is ready: nothing to compile, ")
    warmed = {call for codec in fake_codec for call in codec.calls}
    assert warmed == {("warm_up", 0, "fast"), ("warm_up", 32, "fast")}
    compile_in_load(monkeypatch, ["trellic.integer.kernels"] * 3)
    assert "3 kernels compiled" in trellic("warm-up").out
    monkeypatch.setenv("TRELLIC_CACHE", "/proc/none")
    result = trellic("warm-up")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "no private folder" in result.err


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from trellic.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'PIL', 'numba', 'onnxruntime', 'torch', 'pydantic_core'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert "encode" in done.stdout
    assert done.stderr.strip() == "[]"


def test_a_reader_that_leaves_early(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m trellic --help | head -c 1 >/dev/null",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_reader_that_never_reads(tiny, tmp_path):
    """A pipe that is closed before the first line is no fault of the file."""
    (tmp_path / "a.tlc").write_bytes(tiny.encode(np.zeros((16, 16, 3), np.uint8)))
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        command = [sys.executable, "-m", "trellic", "info", str(tmp_path / "a.tlc")]
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")


def test_one_line():
    assert report.one_line("a\nb\x1bc\ud800d é") == "a\\nb\\x1bc\\ud800d é"


def test_loading_hides_scipy_and_gives_it_back(fake_codec, trellic, monkeypatch):
    from trellic.cli import engines

    seen = []
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    load = engines.load_codec

    def spy(*arguments):
        seen.append(sys.modules["scipy"])
        return load(*arguments)

    monkeypatch.setattr(engines, "load_codec", spy)
    assert trellic("bench", "--repeat", 1, "--json").code == 0
    assert seen == [None]
    assert "scipy" not in sys.modules
