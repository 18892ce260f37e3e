"""Kernels of the encoder: one group of lanes, backwards through a segment.

The words of a group end at ``words[at]`` when a kernel is called and begin at what it returns.
"""

import numpy as np
import numpy.typing as npt

from trellic.entropy.lanes import EXPONENT_BITS, GROUP, MAX_DIGITS, Uint16s, Uint32s
from trellic.entropy.tables import ESCAPE_FLAG, PRECISION
from trellic.support.numba import njit

Int32s = npt.NDArray[np.int32]
Uint64s = npt.NDArray[np.uint64]


@njit
def find_entries(
    k: Int32s, table: Uint16s, zero: Int32s, half_width: Int32s, place: Uint32s
) -> int:
    """Find the entry of each symbol; return how many are escapes."""
    escapes = 0
    for i in range(len(k)):
        t = np.uint32(table[i])
        width = half_width[t]
        escaped = (k[i] > width) | (k[i] < -width)
        escapes += escaped
        place[i] = zero[t] + (width + 1 if escaped else k[i])
    return escapes


@njit
def _put_bits(x: int, words: Uint16s, at: int, value: int, bits: int) -> tuple[int, int]:
    """Push raw bits, after moving a word out if need be."""
    if x >= 1 << (32 - bits):
        at -= 1
        words[at] = x & 0xFFFF
        x >>= 16
    return x << bits | value, at


@njit
def _encode_escapes(
    k: Int32s, width: Int32s, base: int, x: Uint32s, words: Uint16s, at: int
) -> int:
    """Code the two extra rounds of those lanes whose index is beyond its table."""
    digits = np.zeros(GROUP, np.int32)
    for j in range(len(x) - 1, -1, -1):
        value = abs(int(k[base + j])) - width[j]
        if value > 0:
            while digits[j] < MAX_DIGITS and value >> digits[j]:
                digits[j] += 1
            rest = 2 * (value - (1 << (digits[j] - 1))) + (k[base + j] < 0)
            moved, at = _put_bits(int(x[j]), words, at, rest, digits[j])
            x[j] = moved
    for j in range(len(x) - 1, -1, -1):
        if digits[j] > 0:
            moved, at = _put_bits(int(x[j]), words, at, 1 << (digits[j] - 1), digits[j])
            x[j] = moved
    return at


@njit
def encode_group(
    k: Int32s,
    table: Uint16s,
    place: Uint32s,
    any_escape: bool,
    lanes: int,
    group: int,
    entry: Uint64s,
    half_width: Int32s,
    states: Uint32s,
    words: Uint16s,
    at: int,
) -> int:
    """Code one group of a segment."""
    lane = group * GROUP
    x = states[lane : min(lane + GROUP, lanes)]
    width = np.zeros(GROUP, np.int32)
    for row in range((len(k) + lanes - 1) // lanes - 1, -1, -1):
        base = row * lanes + lane
        count = min(len(x), len(k) - base)
        if any_escape:
            flags = np.uint64(0)
            for j in range(count):
                flags |= entry[place[base + j]]
            if flags & np.uint64(ESCAPE_FLAG):
                for j in range(count):
                    width[j] = half_width[table[base + j]]
                at = _encode_escapes(k, width, base, x[:count], words, at)
        for j in range(count - 1, -1, -1):
            e = entry[place[np.uint64(base + j)]]
            freq = np.uint32((e >> np.uint64(16)) & np.uint64(0x7FFF))
            xj = np.uint64(x[j])
            words[at - 1] = xj & np.uint64(0xFFFF)  # kept only if it moves out
            out = xj >= np.uint64(freq) << np.uint64(32 - PRECISION)
            at -= int(out)
            xj = xj >> np.uint64(16) if out else xj
            quotient = np.uint64(np.uint32(xj) // freq)
            rest = xj - quotient * np.uint64(freq) + (e & np.uint64(0xFFFF))
            x[j] = (quotient << np.uint64(PRECISION)) + rest
    return at


@njit
def encode_states(x: Uint32s, words: Uint16s, at: int) -> int:
    """Code the states of a group's lanes through its first one."""
    for lane in range(len(x) - 1, 0, -1):
        high = int(x[lane]) >> 16
        exponent = 0
        while high >> (exponent + 1):
            exponent += 1
        at -= 1
        words[at] = x[lane] & 0xFFFF
        if exponent > 0:
            first, at = _put_bits(int(x[0]), words, at, high - (1 << exponent), exponent)
            x[0] = first
        first, at = _put_bits(int(x[0]), words, at, exponent, EXPONENT_BITS)
        x[0] = first
    return at
