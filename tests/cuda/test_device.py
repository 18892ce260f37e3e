"""Memory of a device by name: kept from batch to batch, apart for two in flight."""

import gc
import weakref

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from trellic.gpu.device import Device


def test_arrays_are_made_once_until_their_memory_grows():
    device = Device()
    small = device.empty("some", (2, 3), np.int32)
    assert device.empty("some", (2, 3), np.int32) is small
    part = device.part(small, 0, 1, (1, 3))
    assert device.part(small, 0, 1, (1, 3)) is part
    other = device.empty("some", 6, np.int32)
    assert other.shape == (6,)
    large = device.empty("some", 1000, np.int32)
    again = device.empty("some", (2, 3), np.int32)
    assert again is not small
    large.copy_to_device(np.arange(1000, dtype=np.int32))
    assert device.fetch(again).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not [one for one, _ in device._parts.values() if one is small]


def test_two_batches_in_flight_share_no_memory():
    device = Device()
    arrays, asked = [], []
    for turn in range(2):
        device.turn = turn
        arrays.append(device.upload("numbers", np.full(5, turn, np.int32)))
        staged = device.stage("tables", {"one": np.full(3, 10 + turn, np.int64)})
        asked.append(device.ask("answer", arrays[turn], staged["one"]))
    for turn in (0, 1):
        numbers, one = asked[turn].wait()
        assert (numbers.tolist(), one.tolist()) == ([turn] * 5, [10 + turn] * 3)


def test_a_device_is_let_go():
    device = Device()
    device.empty("some", 10, np.int32)
    gone = weakref.ref(device)
    del device
    gc.collect()
    assert gone() is None
