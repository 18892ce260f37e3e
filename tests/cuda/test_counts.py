"""What a batch costs: launches, copies to the device, waits of the host.

The device is idle in a wait if nothing was launched behind what the host waits for.

Counted by the fake driver where that runs (``make gpu-rehearsal``), and in the simulator by who is
called; a GPU counts nothing.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from tests.cuda import driver

from trellic.bitstream import Chunks
from trellic.codec import Codec
from trellic.gpu.codec import GpuCodec
from trellic.gpu.device import Device
from trellic.gpu.given import Asked
from trellic.gpu.kernels.kernel import Kernel
from trellic.gpu.pictures import Part

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
pytestmark = pytest.mark.skipif(not SIMULATED and not driver.running(), reason="nobody counts")
TINY = Path(__file__).parent.parent / "data" / "tiny.zip"
ENCODE = {"launches": 5, "to device": 2, "waits": 2, "idle": 1}  # beside those of each context step
DECODE = {"launches": 5, "to device": 1, "waits": 1, "idle": 1}
ENCODE_STEP, DECODE_STEP = 1, 1


@pytest.fixture(scope="module")
def cpu():
    return Codec.load(str(TINY), device="cpu", threads=1)


@pytest.fixture(scope="module")
def gpu(cpu):
    """A codec that has coded once: its model's tables are on the device."""
    made = GpuCodec.load(cpu.bundle, "cuda")
    made.encode_batch([np.zeros((16, 16, 3), np.uint8)], [960], [8])
    return made


@pytest.fixture
def counted(monkeypatch):
    """Return what does work, and returns its result and the counts."""
    called = Counter()

    def noted(name, method):
        def run(*arguments, **options):
            called[name] += 1
            return method(*arguments, **options)

        return run

    if SIMULATED:
        for kind, method, name in (
            (Kernel, "__call__", "launches"),
            (Device, "send", "to device"),
            (Device, "upload", "to device"),
            (Asked, "wait", "waits"),
        ):
            monkeypatch.setattr(kind, method, noted(name, getattr(kind, method)))
        ask, wait, launched = Device.ask, Asked.wait, {}

        def asking(self, *arguments):
            made = ask(self, *arguments)
            launched[id(made)] = called["launches"]
            return made

        def waiting(self):
            called["idle"] += called["launches"] == launched.pop(id(self))
            return wait(self)

        monkeypatch.setattr(Device, "ask", asking)
        monkeypatch.setattr(Asked, "wait", waiting)

    def run(work):
        before = dict(called) if SIMULATED else driver.counts()
        result = work()
        after = dict(called) if SIMULATED else driver.counts()
        return result, {name: after.get(name, 0) - before.get(name, 0) for name in ENCODE}

    return run


def wanted(fixed, a_step, steps):
    return fixed | {"launches": fixed["launches"] + a_step * steps}


@pytest.mark.parametrize("number", [1, 3])
def test_a_batch_of_one_size_costs_the_same_however_many(cpu, gpu, counted, number):
    rng = np.random.default_rng(number)
    slope = np.linspace(40, 200, 32)[None, :, None]
    batch = [
        np.clip(slope + rng.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
        for _ in range(number)
    ]
    steps = len(cpu.bundle.manifest.layout.steps)

    def encode():
        return gpu.encode_batch(batch, [960] * number, [8] * number)

    files, found = counted(encode)
    assert files == [cpu.encode(one, quality=60, trellis=8) for one in batch]
    assert found == wanted(ENCODE, ENCODE_STEP, steps)
    decoded, found = counted(lambda: gpu.decode_batch(files, "quality", 2**20))
    assert found == wanted(DECODE, DECODE_STEP, steps)
    for one, data in zip(decoded, files, strict=True):
        assert one.copy_to_host().tolist() == cpu.decode(data).tolist()


def test_the_device_goes_on_while_parts_are_finished(cpu, gpu, counted, monkeypatch):
    """Of several parts only the last wait finds it idle; lanes guessed wrongly change no byte."""
    rng = np.random.default_rng(7)
    pictures = [rng.integers(90, 160, (16, 16, 3)).astype(np.uint8) for _ in range(3)]
    parts = [Part([one], [960], [4], [Chunks()]) for one in pictures]
    expected = [cpu.encode(one, quality=60, trellis=4) for one in pictures]
    files, found = counted(lambda: gpu.encode_parts(parts))
    assert files == expected
    steps = len(cpu.bundle.manifest.layout.steps)
    assert found == {name: 3 * n for name, n in wanted(ENCODE, ENCODE_STEP, steps).items()} | {
        "idle": 1
    }
    guesses = iter([100, 1300, 100])  # the second gets two lanes, and then one

    def guess(*_):
        return next(guesses)

    monkeypatch.setattr("trellic.gpu.encoder.guess_bytes", guess)
    assert gpu.encode_parts(parts) == expected
    assert list(guesses) == []
