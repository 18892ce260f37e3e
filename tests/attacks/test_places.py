"""Places to write to and to run in that are none of the usual: each works, or says what is wrong.

Every test runs the real command in a process of its own. Those that need another user, a mount or a
file system of their own need root (and Linux); elsewhere they are skipped, with a word.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trellic.cli import compiling
from trellic.support import cache, files, parts

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny.zip"
TRELLIC = f"{sys.executable} -m trellic"
STRANGER = 12345
pytestmark = [
    pytest.mark.slow("a process or more for each, as a shell starts them"),
    pytest.mark.skipif(sys.platform == "win32", reason="places of POSIX systems"),
]


def _can_mount() -> bool:
    if not shutil.which("unshare") or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


# Root without its powers: an ordinary user to files of others, who can read this environment.
WITHOUT_POWER = "setpriv --bounding-set=-all --inh-caps=-all --securebits=+noroot"


def _can_be_powerless() -> bool:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    return subprocess.run([*WITHOUT_POWER.split(), "true"], capture_output=True).returncode == 0


AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT CHECKED: needs root"
)
POWERLESS = pytest.mark.skipif(
    not _can_be_powerless(), reason="NOT CHECKED: needs root and setpriv"
)
WITH_MOUNTS = pytest.mark.skipif(not _can_mount(), reason="NOT CHECKED: needs root and unshare -m")


@pytest.fixture
def place(tmp_path):
    """A folder with a picture, readable by anybody."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path


def shell(place: Path, command: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in the place, with ``trellic`` for our command and the tiny model."""
    kernels = cache.folder(cache.KERNELS)
    known = {cache.VARIABLE: str(kernels.parent)} if kernels is not None else {}
    path = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, **known, "PYTHONPATH": path, "TRELLIC_MODELS": str(TINY.parent), **env}
    command = re.sub(r"(?<![\w/.-])trellic(?![\w/.-])", TRELLIC, command)  # no part of a path
    return subprocess.run(
        ["bash", "-c", command], cwd=place, env=env, capture_output=True, timeout=300
    )


ENCODE = "trellic encode --model tiny in.png "


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the ordinary encode writes."""
    folder = tmp_path_factory.mktemp("expected")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
        folder / "in.png"
    )
    assert shell(folder, ENCODE + "a.tlc").returncode == 0
    return (folder / "a.tlc").read_bytes()


def said(result: subprocess.CompletedProcess[bytes]) -> bytes:
    """What was said on stderr, without the line that comes where a machine is slow."""
    return result.stderr.replace(compiling.FIRST_RUN.encode() + b"\n", b"")


def left(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} - {"in.png"}


# ---- standard input and output, pipes, what is open ----


@pytest.mark.parametrize(
    "command",
    [
        ENCODE + "-",
        ENCODE + "/dev/stdout",
        ENCODE + "/dev/fd/1",
        ENCODE + "/proc/self/fd/1",
        ENCODE + "/dev/fd/3 3>&1 >/dev/null",
        ENCODE + "/dev/stdout | cat",
        ENCODE + "- > out; cat out",
        ENCODE + "/dev/stdout > out; cat out",
        ENCODE + "/dev/stdout --json > out; cat out",
        "trellic encode --model tiny - - < in.png",
        "cat in.png | trellic encode --model tiny - -",
        "trellic encode --model tiny /dev/stdin - < in.png",
        "trellic encode --model tiny <(cat in.png) -",
        ENCODE + ">(cat > out) && sleep 1; cat out | tail -n +1 >&1",
        "mkfifo p; cat p & " + ENCODE + "p > /dev/null; wait",
        "ln -s /dev/stdout link; " + ENCODE + "link",
    ],
)
def test_streams(place, expected, command):
    result = shell(place, command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(expected)
    assert b"error" not in result.stderr
    assert not [name for name in left(place) if name.startswith((".trellic", "-"))]


def test_what_is_written_before_and_after_stays(place, expected):
    result = shell(place, f"(echo one; {ENCODE} /dev/stdout; echo two) > out; cat out")
    assert result.stdout == b"one\n" + expected + b"two\n"


def test_decoding_to_a_stream_gives_a_png(place):
    command = "trellic encode --model tiny in.png - | trellic decode - - > out.png"
    assert shell(place, command).returncode == 0
    with Image.open(place / "out.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (30, 20))
    assert b"30" in shell(place, "trellic encode --model tiny in.png - | trellic info -").stdout


def test_a_file_that_is_called_minus(place, expected):
    assert shell(place, ENCODE + "./-").returncode == 0
    assert (place / "-").read_bytes() == expected


def test_several_files_do_not_go_to_one_stream(place):
    shutil.copy(place / "in.png", place / "b.png")
    result = shell(place, ENCODE + "b.png -")
    assert result.returncode == 2
    assert result.stdout == b""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(place, expected, closed):
    result = shell(place, ENCODE + "a.tlc " + closed)
    assert (result.returncode, left(place)) == (0, {"a.tlc"})
    assert (place / "a.tlc").read_bytes() == expected


def test_an_error_with_stderr_closed(place):
    result = shell(place, "trellic encode --model tiny gone.png a.tlc 2>&-")
    assert (result.returncode, result.stdout, left(place)) == (1, b"", set())


# ---- files that cannot be replaced ----


def check_in_place(place: Path, target: str, expected: bytes, before: int) -> None:
    assert (place / target).read_bytes() == expected
    assert (place / target).stat().st_ino == before


@POWERLESS
def test_a_writable_file_in_a_folder_that_is_not(place, expected):
    folder = place / "fixed"
    folder.mkdir()
    target = folder / "a.tlc"
    target.write_bytes(bytes(100_000))
    target.chmod(0o666)
    os.chown(folder, STRANGER, STRANGER)
    before = target.stat().st_ino
    result = shell(place, f"{WITHOUT_POWER} {ENCODE} fixed/a.tlc")
    assert result.returncode == 0, result.stderr
    check_in_place(place, "fixed/a.tlc", expected, before)
    refused = shell(place, f"{WITHOUT_POWER} {ENCODE} fixed/b.tlc")
    assert refused.returncode == 1
    assert b"fixed/b.tlc: permission denied" in refused.stderr


@WITH_MOUNTS
def test_a_file_that_is_a_mount(place, expected):
    (place / "host.tlc").write_bytes(b"old")
    (place / "a.tlc").touch()
    result = shell(place, f"unshare -m bash -c 'mount --bind host.tlc a.tlc && {ENCODE} a.tlc'")
    assert result.returncode == 0, result.stderr
    assert (place / "host.tlc").read_bytes() == expected
    assert left(place) == {"host.tlc", "a.tlc"}


@WITH_MOUNTS
def test_a_writable_mount_in_a_read_only_folder(place, expected):
    (place / "host.tlc").write_bytes(b"old")
    (place / "ro").mkdir()
    (place / "ro" / "a.tlc").touch()
    mounts = "mount --bind ro ro && mount -o remount,ro,bind ro && mount --bind host.tlc ro/a.tlc"
    result = shell(place, f"unshare -m bash -c '{mounts} && {ENCODE} ro/a.tlc'")
    assert result.returncode == 0, result.stderr
    assert (place / "host.tlc").read_bytes() == expected


@WITH_MOUNTS
@pytest.mark.parametrize("old", [b"", b"old content"])
def test_a_full_disk_leaves_a_mounted_file_as_it_was(place, old):
    (place / "disk").mkdir()
    (place / "a.tlc").touch()
    (place / "old").write_bytes(old)
    noise = np.random.default_rng(2).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "in.png")  # gives more than the rest of a page
    fill = "head -c 1M /dev/zero > disk/filler 2> /dev/null"
    mounts = (
        "mount -t tmpfs -o size=64k none disk && cp old disk/a && "
        f"{{ {fill}; mount --bind disk/a a.tlc; }}"
    )
    result = shell(
        place, f"unshare -m bash -c '{mounts} && {ENCODE} a.tlc -q 100; echo $?; cat disk/a'"
    )
    assert result.stdout == b"1\n" + old
    assert b"No space left" in result.stderr


def test_a_link_that_the_system_does_not_follow(place, monkeypatch):
    """With fs.protected_symlinks Linux follows no link of a stranger in /tmp; nor do we."""
    (place / "victim").write_bytes(b"old")
    (place / "a.tlc").symlink_to("victim")

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files.os, "stat", refuse)
    with pytest.raises(PermissionError):
        files.write_atomically(place / "a.tlc", b"new")
    monkeypatch.undo()
    assert (place / "victim").read_bytes() == b"old"


# ---- who may read it, whose it is ----


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666, 0o604, 0o200])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_part_is_never_more_open_than_its_target(tmp_path, monkeypatch, mode, umask):
    target = tmp_path / "a.tlc"
    target.write_bytes(b"old")
    target.chmod(mode)
    seen = set()
    write = os.write

    class Watching:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            self._file.__enter__()
            return self

        def __exit__(self, *error):
            return self._file.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, data):
            seen.add(os.fstat(self._file.fileno()).st_mode & 0o777)
            return self._file.write(data)

    made = []
    real = os.open

    def watched_open(path, flags, mode=0o777, **more):
        descriptor = real(path, flags, mode, **more)
        if str(path).endswith(parts.SUFFIX):
            made.append(os.fstat(descriptor).st_mode & 0o777)
        return descriptor

    def opened(*arguments):
        return Watching(open(*arguments))  # the code under test closes it

    monkeypatch.setattr(files, "open", opened, raising=False)
    monkeypatch.setattr(os, "open", watched_open)
    before = os.umask(umask)
    try:
        files.write_atomically(target, b"new")
    finally:
        os.umask(before)
    assert write is os.write
    assert seen == {mode}
    assert made
    assert all(first & ~mode == 0 for first in made)
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_what_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_atomically(tmp_path / "a", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


@AS_ROOT
def test_root_leaves_a_file_to_its_owner(tmp_path):
    target = tmp_path / "a.tlc"
    target.write_bytes(b"old")
    os.chown(target, STRANGER, STRANGER + 1)
    target.chmod(0o640)
    files.write_atomically(target, b"new")
    status = target.stat()
    assert (status.st_uid, status.st_gid) == (STRANGER, STRANGER + 1)
    assert status.st_mode & 0o777 == 0o640


@POWERLESS
def test_others_leave_a_file_to_its_owner(place, expected):
    """In a folder of ours, on a file of a stranger that we may write to."""
    (place / "a.tlc").write_bytes(b"old")
    (place / "a.tlc").chmod(0o666)
    os.chown(place / "a.tlc", STRANGER, STRANGER)
    before = (place / "a.tlc").stat().st_ino
    result = shell(place, f"{WITHOUT_POWER} {ENCODE} a.tlc")
    assert result.returncode == 0, result.stderr
    check_in_place(place, "a.tlc", expected, before)
    assert (place / "a.tlc").stat().st_uid == STRANGER
    assert left(place) == {"a.tlc"}


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no attributes on this system")
def test_attributes_stay(tmp_path):
    target = tmp_path / "a.tlc"
    target.write_bytes(b"old")
    try:
        os.setxattr(target, "user.note", b"kept")
    except OSError:
        pytest.skip("NOT CHECKED: no attributes on this disk")
    files.write_atomically(target, b"new")
    assert os.getxattr(target, "user.note") == b"kept"


# ---- two results, one file ----


@pytest.mark.parametrize(
    "link",
    [
        "ln -s a.tlc out/b.tlc",
        "ln -s $PWD/other.tlc out/a.tlc; ln -s ../other.tlc out/b.tlc",
        "touch out/a.tlc; ln out/a.tlc out/b.tlc",
        "touch out/a.tlc; ln -s ../out/a.tlc out/b.tlc",
    ],
)
def test_two_results_that_are_one_file_by_links(place, link):
    shutil.copy(place / "in.png", place / "a.png")
    shutil.copy(place / "in.png", place / "b.png")
    result = shell(place, f"mkdir out; {link}; trellic encode --model tiny a.png b.png out")
    assert result.returncode == 1
    assert b"b.png: its result out/b.tlc is already that of a.png" in result.stderr
    assert result.stdout.count(b"->") == 1


@pytest.mark.parametrize("link", ["ln -s ../b.png out/a.tlc", "ln b.png out/a.tlc"])
def test_a_result_that_is_an_input_by_links(place, link):
    shutil.copy(place / "in.png", place / "a.png")
    shutil.copy(place / "in.png", place / "b.png")
    before = (place / "b.png").read_bytes()
    result = shell(place, f"mkdir out; {link}; trellic encode --model tiny a.png b.png out")
    assert result.returncode == 1
    assert b"a.png: its result out/a.tlc would replace the input b.png" in result.stderr
    assert (place / "b.png").read_bytes() == before


def test_one_file_by_hard_links(place):
    result = shell(place, "ln in.png b.tlc; " + ENCODE + "b.tlc")
    assert result.returncode == 2


# ---- what killed runs leave ----


def test_parts_of_killed_runs_are_cleared(tmp_path):
    parts.clear.cache_clear()
    for name in (".trellic-0011.part", ".trellic-99999-abc.part"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".trellic-fifo.part").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / ".trellic-pipe.part")
    (tmp_path / "mine.part").write_bytes(b"not ours")
    files.write_atomically(tmp_path / "a", b"new")
    kept = {".trellic-fifo.part", ".trellic-pipe.part", "mine.part", "a"}
    assert {path.name for path in tmp_path.iterdir()} == kept


WRITER = """
import os, sys, time
from pathlib import Path
replace = os.replace
def late(*args, **kwargs):
    print("writing", flush=True)
    sys.stdin.readline()
    replace(*args, **kwargs)
os.replace = late
from trellic.support import files
files.write_atomically(Path(sys.argv[1]), bytes(1000))
"""


def writer(target: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], env=env, stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_parts_of_runs_that_go_on_are_left_alone(tmp_path):
    with writer(tmp_path / "slow") as process:
        parts.clear.cache_clear()
        files.write_atomically(tmp_path / "a", b"new")
        assert len(list(tmp_path.glob(".trellic-*.part"))) == 1
        process.communicate("go on\n")
    assert process.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a", "slow"}


def test_a_killed_run_is_cleared_by_the_next(tmp_path):
    with writer(tmp_path / "slow") as process:
        process.kill()
    assert len(list(tmp_path.glob(".trellic-*.part"))) == 1
    parts.clear.cache_clear()
    files.write_atomically(tmp_path / "a", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_a_part_that_is_cleared_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock = parts.fcntl.flock
    cleared = []

    def too_late(descriptor, how):
        if not cleared:
            cleared.extend(tmp_path.glob(".trellic-*.part"))
            cleared[0].unlink()
        lock(descriptor, how)

    monkeypatch.setattr(parts.fcntl, "flock", too_late)
    files.write_atomically(tmp_path / "a", b"new")
    assert cleared
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


# ---- machines without a home ----


HOMELESS = {
    "no variable": "env -u HOME",
    "empty": "env HOME=",
    "not there": "env HOME=/nonexistent",
    "not a folder": "env HOME=/dev/null",
    "the kernel's": "env HOME=/proc",
    "relative": "env HOME=here",
}


@pytest.mark.parametrize("home", HOMELESS.values(), ids=HOMELESS)
def test_no_home(place, expected, home):
    result = shell(place, f"{home} {ENCODE} a.tlc && {home} trellic models > /dev/null")
    assert (result.returncode, said(result)) == (0, b"")
    assert (place / "a.tlc").read_bytes() == expected
    assert left(place) == {"a.tlc"}


@POWERLESS
@pytest.mark.parametrize("mode", [0o000, 0o700, 0o755, 0o777])
def test_the_home_of_somebody_else(place, expected, mode):
    home = place / "home"
    for folder in (".local/share/trellic/models", ".cache/trellic/kernels"):
        (home / folder).mkdir(parents=True)
    for path in (home, *home.rglob("*")):
        os.chown(path, STRANGER, STRANGER)
    home.chmod(mode)
    start = f"{WITHOUT_POWER} env -u {cache.VARIABLE} HOME={home}"
    result = shell(place, f"{start} {ENCODE} a.tlc && {start} trellic models > /dev/null")
    assert (result.returncode, said(result)) == (0, b"")
    assert (place / "a.tlc").read_bytes() == expected
    assert not [path for path in home.rglob("*") if path.is_file()]


@WITH_MOUNTS
def test_a_user_without_a_name(place, expected):
    """As in a container that runs under a number: no passwd entry, and no home."""
    nameless = f"unshare -U --map-user={STRANGER} --map-group={STRANGER} "
    if subprocess.run(f"{nameless} true", shell=True).returncode:
        pytest.skip("NOT CHECKED: needs user namespaces")
    for home in ("env -u HOME", "env HOME=/", "env HOME=/nonexistent"):
        start = f"{nameless} {home}"
        result = shell(place, f"{start} {ENCODE} a.tlc && {start} trellic models > /dev/null")
        assert (result.returncode, said(result)) == (0, b"")
        assert (place / "a.tlc").read_bytes() == expected
    added = shell(place, f"{nameless} env -u HOME trellic models add {TINY}")
    assert added.returncode == 1
    assert b"XDG_DATA_HOME" in added.stderr


@pytest.mark.long
@WITH_MOUNTS
def test_a_read_only_machine_with_a_temporary_folder_compiles_once(place, expected):
    """The package read-only, no home, nothing writable but a temporary folder."""
    (place / "scratch").mkdir()
    (place / "scratch").chmod(0o1777)
    script = place / "script"
    first = "trellic encode --model tiny in.png scratch/a.tlc --json"
    script.write_text(
        "mount --bind / / && mount -o remount,ro,bind / && "
        f"mount -t tmpfs -o mode=1777 none {place}/scratch && cd {place} && "
        f"export HOME=/proc TMPDIR={place}/scratch && {first.replace('trellic', TRELLIC, 1)} && "
        f"find scratch -name '*.nbc' | wc -l && "
        f"find scratch -name '*.nbc' -exec stat -c '%n %Y' {{}} + | sort > scratch/one && "
        f"{first.replace('trellic', TRELLIC, 1)} && "
        f"find scratch -name '*.nbc' -exec stat -c '%n %Y' {{}} + | sort | diff - scratch/one && "
        "cat scratch/a.tlc"
    )
    env = {k: v for k, v in os.environ.items() if k not in (cache.VARIABLE, "XDG_CACHE_HOME")}
    env |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env["TRELLIC_MODELS"] = str(TINY.parent)
    result = subprocess.run(
        ["unshare", "-m", "bash", "-e", str(script)], env=env, capture_output=True, timeout=500
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(expected)
    assert int(result.stdout.splitlines()[1]) > 10
