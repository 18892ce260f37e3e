"""The coder's kernels: the reference's bytes and symbols, and its refusals."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import twins as cuda
from inputs import random_segment, random_tables

from trellic.entropy import cpu, reference
from trellic.errors import CorruptStream, TruncatedStream
from trellic.quantize.trellis import next_state


def slice_of(rng, tables, lanes, n, deviation, states):
    """Three segments: scalar, empty, trellis."""
    return [
        random_segment(rng, n, tables, deviation),
        random_segment(rng, 0, tables),
        random_segment(rng, n + 3, tables, deviation, states, lanes),
    ]


def decode(coder, parts, segments, tables, lanes, states):
    decoder = coder.Decoder(parts[0], tables, lanes)
    out = []
    for number, (part, segment) in enumerate(zip(parts, segments, strict=True)):
        index = (segment.table % tables.scales).astype(np.uint8)
        if number == 2:
            k, cls = decoder.trellis(part, index, next_state(states))
            assert cls.tolist() == (segment.table // tables.scales).tolist()
        else:
            k = decoder.scalar(part, index)
        out.append(k.tolist())
    decoder.finish()
    return out


@pytest.mark.parametrize(
    ("lanes", "n", "deviation", "states"),
    [(1, 40, 3, 4), (2, 30, 40, 8), (16, 50, 3, 256), (32, 70, 9000, 16), (64, 150, 2, 32)],
)
def test_same_bytes_and_back(lanes, n, deviation, states, larger):
    rng = np.random.default_rng(lanes)
    tables = random_tables(rng)
    segments = slice_of(rng, tables, lanes, n * larger, deviation, states)
    parts = cuda.encode(segments, tables, lanes)
    authority = reference if larger == 1 else cpu
    assert parts == authority.encode(segments, tables, lanes)
    expected = [segment.k.tolist() for segment in segments]
    assert decode(cuda, parts, segments, tables, lanes, states) == expected


def test_altered_bytes_end_as_in_the_reference():
    rng = np.random.default_rng(5)
    tables = random_tables(rng)
    seen = set()
    for trial in range(12):
        lanes = (1, 2, 4)[trial % 3]
        segments = slice_of(rng, tables, lanes, 20, 6, 8)
        parts = [bytearray(part) for part in cpu.encode(segments, tables, lanes)]
        victim = parts[2 * (trial % 2)]
        if trial % 5 == 0:
            del victim[len(victim) - 2 * int(rng.integers(1, 3)) :]
        elif victim:
            victim[int(rng.integers(0, len(victim)))] ^= 1 << int(rng.integers(0, 8))
        outcomes = []
        for coder in (reference, cuda):
            try:
                out = decode(coder, [bytes(p) for p in parts], segments, tables, lanes, 8)
                outcomes.append(out)
            except (CorruptStream, TruncatedStream, AssertionError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        seen.add(outcomes[0] if isinstance(outcomes[0], type) else "decoded")
    assert CorruptStream in seen


def test_no_symbols():
    tables = random_tables(np.random.default_rng(1))
    none = random_segment(np.random.default_rng(1), 0, tables)
    for lanes in (1, 64):
        assert cuda.encode([none, none], tables, lanes) == reference.encode(
            [none, none], tables, lanes
        )
    assert cuda.encode([], tables, 1) == []
