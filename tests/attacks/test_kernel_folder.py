"""Kernels are kept as pickles: they are loaded from a folder that nobody else could have filled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from trellic.errors import TrellicWarning
from trellic.support import cache
from trellic.support import numba as kernels

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="profiles are private there")
AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT CHECKED: needs root"
)


@pytest.fixture(autouse=True)
def _no_folder_is_known(monkeypatch, tmp_path):
    """Each test begins with a home in ``tmp_path`` and temporary folders that cannot be used."""
    cache._found.cache_clear()
    kernels._warn.cache_clear()
    tmp_path.chmod(0o755)
    (tmp_path / "home").mkdir()
    for name in ("TRELLIC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "TEMPORARY", (str(tmp_path / "tmp"),))
    monkeypatch.delenv("TMPDIR", raising=False)
    yield
    cache._found.cache_clear()
    kernels._warn.cache_clear()


def made(path: Path, mode: int, owner: int | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


def test_it_is_in_the_cache_of_the_home_and_for_us_alone(tmp_path):
    folder = cache.folder("kernels")
    assert folder == tmp_path / "home" / ".cache" / "trellic" / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache.missing("kernels") == ""


@pytest.mark.parametrize("umask", [0, 0o002, 0o077])
def test_no_umask_opens_it(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = cache.folder("kernels")
    finally:
        os.umask(before)
    for one in (folder, folder.parent, folder.parent.parent):
        assert one.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("where", "mode"),
    [
        (".cache/trellic/kernels", 0o755),
        (".cache/trellic/kernels", 0o770),
        (".cache/trellic/kernels", 0o777),
        (".cache/trellic/kernels", 0o1777),
        (".cache/trellic", 0o777),
        (".cache/trellic", 0o775),
        (".cache", 0o777),
        ("", 0o777),
    ],
)
def test_what_others_could_write_or_rename_is_not_used(tmp_path, where, mode):
    made(tmp_path / "home" / ".cache" / "trellic" / "kernels", 0o700)
    made(tmp_path / "home" / where, mode)
    assert cache.folder("kernels") is None
    assert str(tmp_path / "home") in cache.missing("kernels")


@AS_ROOT
@pytest.mark.parametrize("where", [".cache/trellic/kernels", ".cache/trellic", ".cache", ""])
def test_what_belongs_to_somebody_else_is_not_used(tmp_path, where):
    made(tmp_path / "home" / ".cache" / "trellic" / "kernels", 0o700)
    made(tmp_path / "home" / where, 0o700, owner=12345)
    assert cache.folder("kernels") is None
    assert "belongs to user 12345" in cache.missing("kernels")


@pytest.mark.parametrize("where", [".cache/trellic/kernels", ".cache/trellic/kernels/"])
def test_a_link_is_not_used(tmp_path, where):
    target = made(tmp_path / "elsewhere", 0o700)
    made(tmp_path / "home" / ".cache" / "trellic", 0o700)
    (tmp_path / "home" / where).symlink_to(target)
    assert cache.folder("kernels") is None


def test_a_link_to_a_private_disk_is_followed(tmp_path):
    target = made(tmp_path / "disk", 0o700)
    (tmp_path / "home" / ".cache").symlink_to(target)
    assert cache.folder("kernels") == target / "trellic" / "kernels"


def test_a_link_into_a_folder_of_others_is_not_used(tmp_path):
    made(tmp_path / "open", 0o777)
    target = made(tmp_path / "open" / "ours", 0o700)
    (tmp_path / "home" / ".cache").symlink_to(target)
    assert cache.folder("kernels") is None


@pytest.mark.parametrize("home", ["", "relative", "~", "/proc", "/nonexistent", "/dev/null"])
def test_without_a_home_it_is_in_a_temporary_folder(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    if home == "":
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no passwd entry either
    made(tmp_path / "tmp", 0o1777)
    assert cache.folder("kernels") == tmp_path / "tmp" / f"trellic-{os.geteuid()}" / "kernels"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "tmp"]
    assert not Path("/nonexistent").exists()


def test_a_temporary_folder_that_somebody_made_ready_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")
    made(tmp_path / "tmp", 0o1777)
    made(tmp_path / "tmp" / f"trellic-{os.geteuid()}", 0o777)
    assert cache.folder("kernels") is None
    assert "others can write to" in cache.missing("kernels")


@AS_ROOT
def test_a_temporary_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")
    made(tmp_path / "tmp", 0o1777)
    made(tmp_path / "tmp" / f"trellic-{os.geteuid()}", 0o755, owner=12345)
    assert cache.folder("kernels") is None


def test_the_folder_that_a_user_names(tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIC_CACHE", str(tmp_path / "a" / "b"))
    assert cache.folder("kernels") == tmp_path / "a" / "b" / "kernels"
    assert cache.folder("kernels").stat().st_mode & 0o777 == 0o700
    for bad in ("relative", "~/kernels", "/proc/kernels"):
        monkeypatch.setenv("TRELLIC_CACHE", bad)
        assert cache.folder("kernels") is None  # this one or none


# ---- what numba makes of it ----


def kernel_at(folder: Path, text: str = "def double(x):\n    return 2 * x\n"):
    """A kernel in a file of its own, as a new process would find it."""
    kernels._content.cache_clear()
    file = folder / "some_kernel.py"
    file.write_text(text)
    names: dict[str, object] = {"FACTOR": 3}
    exec(compile(text, str(file), "exec"), names)
    return kernels.njit(names["double"])


def test_a_kernel_is_compiled_once(tmp_path):
    first = kernel_at(tmp_path)
    assert first(21) == 42
    again = kernel_at(tmp_path)
    assert again(21) == 42
    assert (sum(first.stats.cache_misses.values()), sum(again.stats.cache_hits.values())) == (1, 1)


@pytest.mark.parametrize("factor", [3, 4])
def test_a_kernel_whose_constant_changed_is_compiled_again(tmp_path, factor):
    text = "def double(x):\n    return FACTOR * x\n"
    assert kernel_at(tmp_path, text)(1) == 3
    changed = kernel_at(tmp_path, text)
    changed.py_func.__globals__["FACTOR"] = factor
    changed = kernels.njit(changed.py_func)
    assert changed(1) == factor


def test_a_kernel_that_calls_a_changed_one_is_compiled_again(tmp_path):
    outer = "def double(x):\n    return inner(x)\n"
    for inner, expected in (("return x + 1", 2), ("return x + 2", 3)):
        (tmp_path / "outer").mkdir(exist_ok=True)
        inside = kernel_at(tmp_path, f"def double(x):\n    {inner}\n")
        kernel = kernel_at(tmp_path / "outer", outer).py_func
        kernel.__globals__["inner"] = inside
        assert kernels.njit(kernel)(1) == expected


@pytest.mark.parametrize("content", [b"", b"\x80", b"no pickle", pickle.dumps(None)])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_file_is_replaced(tmp_path, content, suffix):
    """A power cut leaves empty files: they cost a compilation, not every run from then on."""
    kernel_at(tmp_path)(21)
    for file in cache.folder("kernels").glob(f"*.{suffix}"):
        file.write_bytes(content)
    assert kernel_at(tmp_path)(21) == 42
    again = kernel_at(tmp_path)
    assert again(21) == 42
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_full_disk_costs_nothing_but_time(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert kernel_at(tmp_path)(21) == 42


def test_without_a_folder_it_is_compiled_in_memory_and_said_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/proc")
    with pytest.warns(TrellicWarning, match="no private folder.*TRELLIC_CACHE") as caught:
        assert [kernel_at(tmp_path)(x) for x in (21, 1.5)] == [42, 3]
    assert len(caught) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "some_kernel.py"]


@AS_ROOT
@pytest.mark.slow("two processes of their own, one compiles")
def test_another_user_who_can_write_to_the_home_runs_nothing(tmp_path):
    """As it was shown: HOME is a folder that all can write to, and numba's own cache lies in it."""
    shared = made(tmp_path / "shared", 0o1777)
    code = """
import numpy as np
from trellic.latents.cpu import fill
fill(*(np.zeros(4, np.int32) for _ in range(3)))
from trellic.support import cache
print(cache.folder("kernels"))
"""
    env = {k: v for k, v in os.environ.items() if k not in ("TRELLIC_CACHE", "XDG_CACHE_HOME")}
    env |= {"HOME": str(shared), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = [sys.executable, "-c", code]
    where = subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(where).stat().st_uid == 0
    assert Path(where).stat().st_mode & 0o777 == 0o700
    made(shared / ".cache", 0o777, owner=12345)  # the attacker was first
    where = subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout.strip()
    assert not where.startswith(str(shared))
    assert not list(tmp_path.rglob("*numba*"))
