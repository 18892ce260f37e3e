"""Decodes as CUDA graphs: files of one layout through one capture, the pictures of the CPU.

On the fake driver a graph is what the driver was asked for between the beginning and the end of a
capture; on a GPU it is PyTorch's. The simulator has no graphs: there all of the work of the first
file is done once more, on what was filled in for the next one, which is what a graph does.
"""

import contextlib
import os
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from tests.cuda import driver
from tests.cuda.driver import plugin

from trellic import bitstream
from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.errors import TrellicWarning
from trellic.gpu import jobs
from trellic.gpu.codec import GpuCodec
from trellic.gpu.device import Device
from trellic.gpu.engines import HostEngine, ProbedEngines
from trellic.gpu.replays import Replays

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
ON_HOST = SIMULATED or driver.running()
TINY = Path(__file__).parent.parent / "data" / "tiny.zip"


class InOrder:
    """onnxruntime on the host as an engine of the device: it works when the stream gets there."""

    def __init__(self, graph):
        self.engine = OrtEngine(graph, threads=1)

    def __call__(self, inputs, outputs):
        given = {name: seen(array) for name, array in inputs.items()}
        targets = [seen(array) for array in outputs]

        def work():
            for target, result in zip(targets, self.engine(given), strict=True):
                np.copyto(target, result)

        work() if SIMULATED else driver.do(work)


def seen(array):
    """Return the memory of an array of the device, which is the host's, as one of NumPy."""
    return array._ary if SIMULATED else plugin._tensor(array).numpy()


def done_once_more(work):
    """Capture work in the simulator."""
    work()
    return work


def parts(device):
    """Return what makes engines, and what captures, on a device."""
    if ON_HOST:
        capture = done_once_more if SIMULATED else plugin.captured(device)
        return (lambda _, graph, exact: InOrder(graph)), capture
    from trellic_export.torch_engine import capture_on, engines_on

    return engines_on(device), capture_on(device)


@pytest.fixture(scope="module")
def cpu():
    return Codec.load(str(TINY), device="cpu", threads=1)


class Noted:
    """A codec with decodes as graphs, which counts captures and replays."""

    def __init__(self, bundle):
        self.device, self.counts = Device(), Counter()
        engines, self.capture = parts(self.device)
        self.codec = GpuCodec(
            bundle, self.device, ProbedEngines(bundle, self.device, engines), self.noted
        )

    def noted(self, work):
        self.counts["captures"] += 1
        replay = self.capture(work)

        def again():
            self.counts["replays"] += 1
            replay()

        return again

    def decode(self, *files):
        decoded = self.codec.decode_batch(files, "quality", 2**20)
        return [one.copy_to_host() for one in decoded]

    def check(self, cpu, *files):
        """Decode a batch, and compare its pictures with those of the CPU."""
        for found, data in zip(self.decode(*files), files, strict=True):
            difference = np.abs(found.astype(int) - cpu.decode(data))
            assert difference.max() <= (0 if ON_HOST else 3)  # of rounding in g_s


@pytest.fixture
def noted(cpu):
    return Noted(cpu.bundle)


def room(data):
    stream = bitstream.read(data)
    return jobs.room_for(sum(len(s) for s in stream.segments) // 2 + jobs.WORD_PADDING)


def alike(cpu, number, *shape):
    """Files of pictures of one shape that need the same room, and differ in all else."""
    rng, found = np.random.default_rng(sum(shape)), {}
    slope = np.linspace(40, 200, shape[1])[None, :, None]
    while True:
        pixels = np.clip(slope + rng.normal(0, 12, (*shape, 3)), 0, 255).astype(np.uint8)
        quality, trellis = rng.integers(50, 70), rng.choice([0, 4, 8, 32])
        data = cpu.encode(pixels, quality=int(quality), trellis=int(trellis))
        own = found.setdefault(room(data), [])
        own.append(data)
        if len(own) == number:
            return own


def test_files_of_one_layout_are_replays_of_one_graph(cpu, noted):
    """A replay is one launch, and one wait; a file of another layout in between is launched."""
    one, two, three = alike(cpu, 3, 16, 32)
    (other,) = alike(cpu, 1, 16, 48)
    for data in (other, one, two):  # the largest first: it takes memory
        noted.check(cpu, data)
    assert noted.counts == {"captures": 1, "replays": 1}
    noted.check(cpu, other)
    assert noted.counts == {"captures": 2, "replays": 2}
    before = driver.counts() if driver.running() else {}
    (found,) = noted.codec.decode_batch([three], "quality", 2**20)
    after = driver.counts() if driver.running() else {}
    assert noted.counts == {"captures": 2, "replays": 3}
    difference = np.abs(found.copy_to_host().astype(int) - cpu.decode(three))
    assert difference.max() <= (0 if ON_HOST else 3)
    if driver.running():
        changed = {name: after[name] - before[name] for name in after if after[name] > before[name]}
        for name in ("bytes to host", "allocations"):  # of the status, the states and the picture
            del changed[name]
        assert changed == {"graphs": 1, "within": 1, "to host": 2, "waits": 1, "idle": 1}


def test_what_cannot_be_captured_is_launched(cpu, noted, monkeypatch):
    one, two = alike(cpu, 2, 16, 32)
    engines = noted.codec.transforms._graphs
    g_s = engines.graph("decoder quality")
    waits = HostEngine(noted.device, lambda inputs: [np.zeros((1, 64, 64, 3), np.uint8)])

    def both(*given):
        waits(*given)
        g_s(*given)

    monkeypatch.setitem(engines._made, "decoder quality", both)
    noted.check(cpu, one)
    with pytest.warns(TrellicWarning, match="copy to the host while a CUDA graph is captured"):
        noted.check(cpu, two)
    assert not noted.device.capturing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noted.check(cpu, one)
    assert noted.counts == {"captures": 1}
    assert not noted.codec.graphs


# ---- which work is replayed, without a device ----


class Still:
    """A device whose memory moves when the test says so, and which notes what is done."""

    def __init__(self):
        self.moved, self.marks, self.sent = 0, None, lambda _: None
        self.captured = contextlib.nullcontext
        self.launched, self.captures, self.replays = "", "", ""

    def capture(self, work):
        before = self.launched
        work()
        layout, self.launched = self.launched.removeprefix(before), before
        self.captures += layout

        def replay():
            self.replays += layout

        return replay

    def run(self, replays, layouts):
        """Do work of each layout, and note it."""

        def work(layout):
            self.launched += layout
            return layout

        for layout in layouts:
            assert replays.run(layout, None, partial(work, layout)) == layout
        return self.launched, self.captures, self.replays


@pytest.fixture
def still():
    return Still()


def test_work_is_launched_then_captured_then_replayed(still):
    replays = Replays(still, still.capture)
    assert still.run(replays, "aabaab") == ("ab", "ab", "aaab")


def test_the_graphs_used_last_are_kept(still):
    replays = Replays(still, still.capture, most=2)
    assert still.run(replays, "aabbacc") == ("abc", "abc", "abac")  # c drops b
    still.run(replays, "abb")
    assert still.run(replays, "a") == ("abcb", "abcb", "abacaba")  # b drops c


def test_no_graph_outlives_memory_that_moves(still):
    replays = Replays(still, still.capture)
    still.run(replays, "aa")
    still.moved += 1
    assert still.run(replays, "a") == ("aa", "a", "a")
    assert still.run(replays, "a") == ("aa", "aa", "aa")


def test_stages_are_timed_launch_by_launch(still):
    replays = Replays(still, still.capture)
    still.run(replays, "aa")
    still.marks = []
    assert still.run(replays, "aa") == ("aaa", "a", "a")
