"""Decodes as CUDA graphs: files of one layout through one capture, the pictures of the CPU.

On the fake driver a graph is what the driver was asked for between the beginning and the end of a
capture; on a GPU it is PyTorch's. The simulator has no graphs: there all of the work of the first
file is done once more, on what was filled in for the next one, which is what a graph does.
"""

import os
import warnings
from collections import Counter
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

    def __init__(self, bundle, most=4):
        self.device, self.counts = Device(), Counter()
        engines, self.capture = parts(self.device)
        self.codec = GpuCodec(
            bundle, self.device, ProbedEngines(bundle, self.device, engines), self.noted
        )
        self.codec._replays = Replays(self.device, self.noted, most)

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
    one, two, three = alike(cpu, 3, 32, 48)
    (other,) = alike(cpu, 1, 16, 32)
    counts = []
    for batch in ([one], [two], [three], [other], [one, two], [one]):
        noted.check(cpu, *batch)
        counts.append((noted.counts["captures"], noted.counts["replays"]))
    assert counts == [(0, 0), (1, 1), (1, 2), (1, 2), (1, 2), (1, 2)]
    for batch in ([two], [three], [other], [one, two], [three]):  # the largest has moved memory
        noted.check(cpu, *batch)
        counts.append((noted.counts["captures"], noted.counts["replays"]))
    assert counts[6:] == [(2, 3), (2, 4), (2, 4), (3, 5), (3, 6)]


def test_a_replay_is_one_launch_and_one_wait(cpu, noted):
    files = alike(cpu, 3, 32, 48)
    for data in files[:2]:
        noted.check(cpu, data)
    before = driver.counts() if driver.running() else {}
    (found,) = noted.codec.decode_batch(files[2:], "quality", 2**20)
    after = driver.counts() if driver.running() else {}
    assert found.copy_to_host().shape == (32, 48, 3)
    assert noted.counts == {"captures": 1, "replays": 2}
    if driver.running():
        changed = {name: after[name] - before[name] for name in after if after[name] > before[name]}
        for name in ("bytes to host", "allocations"):  # of the status, the states and the picture
            del changed[name]
        assert changed == {"graphs": 1, "within": 1, "to host": 2, "waits": 1, "idle": 1}


def test_few_graphs_are_kept(cpu):
    noted = Noted(cpu.bundle, most=1)
    (one,), (other,) = alike(cpu, 1, 32, 48), alike(cpu, 1, 16, 32)
    for data in (one, other, one, one, other, other, one, one, one):
        noted.check(cpu, data)
    # captured: one, other, one again, since only the last graph was kept
    assert noted.counts == {"captures": 3, "replays": 5}
    assert len(noted.codec._replays._kept) == 1


def test_what_cannot_be_captured_is_launched(cpu, noted, monkeypatch):
    one, two, three = alike(cpu, 3, 32, 48)
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
        for data in (three, one):
            noted.check(cpu, data)
    assert noted.counts == {"captures": 1}
    assert not noted.codec._replays._kept
    picture = cpu.decode(one)
    assert noted.codec.encode_batch([picture], [960], [8])[0][:3] == b"TLC"


def test_stages_are_timed_launch_by_launch(cpu, noted):
    data = alike(cpu, 1, 32, 48)[0]
    for _ in range(2):
        noted.check(cpu, data)
    noted.device.marks = []
    noted.check(cpu, data)
    assert {"g_s", "pixels out"} <= {name for name, _ in noted.device.marks}
    noted.device.marks = None
    assert noted.counts == {"captures": 1, "replays": 1}
