"""One codec in many threads, in forked and spawned processes, killed while writing, for long."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from trellic.codec import Codec
from trellic.support import files as _files

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 90, (count, 2))
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


def work(codec: Codec, picture: np.ndarray, trellis: int) -> tuple[bytes, bytes]:
    data = codec.encode(picture, trellis=trellis)
    return data, codec.decode(data).tobytes()


@pytest.mark.slow("sixteen threads code and decode")
def test_sixteen_threads_give_what_one_gives():
    jobs = list(zip(pictures(64), [0, 8, 32, 8] * 16, strict=True))
    alone = [work(Codec(TINY, threads=1), *job) for job in jobs[:8]]
    codec = Codec(TINY, threads=1)
    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda job: work(codec, *job), jobs))
        second = list(pool.map(lambda job: work(codec, *job), jobs))
    assert first == second
    assert first[:8] == alone


def _child(picture: np.ndarray) -> bytes:
    return Codec(TINY, threads=1).encode(picture)


@pytest.mark.slow("spawned processes load everything anew")
def test_spawned_processes_give_the_same_bytes():
    (picture,) = pictures(1)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert set(pool.map(_child, [picture] * 4)) == {_child(picture)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_process_may_make_a_codec_of_its_own():
    """Engines have threads, which a fork does not copy: a child needs a codec of its own."""
    (picture,) = pictures(1)
    expected = _child(picture)  # the parent has engines and kernels loaded
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, _child(picture))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == expected
    assert os.waitpid(child, 0)[1] == 0


SLOW_WRITER = """
import os, sys, time
from pathlib import Path
from trellic.support import files as _files

replace = os.replace
def late(*args, **kwargs):
    print("writing", flush=True)
    time.sleep(60)
    replace(*args, **kwargs)
os.replace = late
_files.write_atomically(Path(sys.argv[1]), bytes(100_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_killed_writer_leaves_the_old_file(tmp_path, before):
    out = tmp_path / "out.tlc"
    if before is not None:
        out.write_bytes(before)
    command = [sys.executable, "-c", SLOW_WRITER, str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out.read_bytes() if out.exists() else None) == before


def resident() -> int:
    """Bytes of memory that the process holds now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow():
    codec = Codec(TINY, threads=1)
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (256, 384, 3), dtype=np.uint8)

    def rounds(count: int) -> int:
        for _ in range(count):
            codec.decode(codec.encode(picture[: rng.integers(100, 256)], quality=20))
        return resident()

    before = rounds(30)
    assert rounds(60) - before < 8 << 20


def test_a_stream_is_a_file_only_when_it_is_whole(tmp_path):
    """Readers that look while a writer writes see no half file."""
    path = tmp_path / "a.tlc"
    data = bytes(50_000)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: [_files.write_atomically(path, data) for _ in range(200)])
        seen = set()
        while not done.done() or not seen:
            if path.exists():
                seen.add(path.read_bytes())
            time.sleep(0.0005)
        done.result()
    assert seen == {data}


FAULTS = """
import resource
import numpy as np
from trellic.support import heap

def touch():
    [np.ones(3 << 20, np.uint8) for _ in range(4)]  # 3,072 pages

if KEEP:
    heap.keep_freed()
for _ in range(3):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back")
def test_freed_memory_is_not_asked_for_again():
    def faults(keep: bool) -> int:
        script = FAULTS.replace("KEEP", str(keep))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        return int(done.stdout)

    assert faults(keep=True) < 100 < 1000 < faults(keep=False)
