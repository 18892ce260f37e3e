"""Dot products of bytes in vectors: the inner loop of `compiled`.

With AVX-512 VNNI one instruction adds 64 products of an unsigned and a signed byte to 16 sums of 32
bits, without saturating (Intel 64 and IA-32 Architectures Software Developer's Manual, VPDPBUSD).
AVX2 multiplies bytes only with saturation, but numbers of 16 bits exactly (VPMADDWD, 16 products to
8 sums). There a word is split into its even and its odd bytes, and weights have 16 bits. numba
knows no vectors, so the loop is written in LLVM's language and called from numba like a function.
(After a change here touch ``kernels.py``, whose compiled code numba keeps.)

A tile is ``TILE`` positions by 4 channels of results. Four channels of a position are a word; the
positions of a word lie beside each other. Parameters of both functions:

x : address of the words of the first position
offsets : address of int64 (depth,), in bytes from ``x``: what each step reads
weight : address of ``STEP`` bytes for each step, as `packed` makes them
depth : number of steps, at least 1
bias, shift : address of int32 (4,); results are ``(sum + bias) >> shift`` from ``low`` to ``high``
low, high : int32
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@dataclass(frozen=True)
class Instructions:
    """What a processor has, and what fits its registers.

    Attributes
    ----------
    needed : LLVM's names of features
    lanes : sums of 32 bits in a vector
    vectors : of positions that one call makes
    parts : into which a word is split for multiplying
    """

    name: str
    needed: tuple[str, ...]
    lanes: int
    vectors: int
    parts: int


# Sums take 24, words and weights 10 of 32 registers; with AVX2 8 and 6 of 16.
VNNI = Instructions("AVX-512 VNNI", ("avx512f", "avx512bw", "avx512vnni"), 16, 6, 1)
AVX2 = Instructions("AVX2", ("avx2",), 8, 2, 2)


@functools.cache
def found() -> Instructions | None:
    """Return the best that numba compiles for on this processor; None if there is nothing."""
    settings = numba.config
    if settings.CPU_NAME or settings.CPU_FEATURES:  # compiles for another one than this
        return None
    if settings.DISABLE_JIT or not settings.ENABLE_AVX:
        return None
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot say
        return None
    known = (kind for kind in (VNNI, AVX2) if all(features.get(n, False) for n in kind.needed))
    return next(known, None)


USED = found() or AVX2  # AVX2 runs wherever `found` has an answer later
LANES, VECTORS, PARTS = USED.lanes, USED.vectors, USED.parts
WORD = 4  # channels of a word, and of the results
TILE = LANES * VECTORS
STEP = 4 * WORD * PARTS  # bytes of weights
I32, I64 = ir.IntType(32), ir.IntType(64)
VECTOR, FLOATS = ir.VectorType(I32, LANES), ir.VectorType(ir.FloatType(), LANES)
SHORTS = ir.VectorType(ir.IntType(16), 2 * LANES)
Vectors = list[list[Any]]  # by result, then by vector of positions


def packed(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.integer[Any]]:
    """Bring weights (..., steps, 4 results, 4 channels of a word) into the form that is read."""
    if PARTS == 1:
        return np.ascontiguousarray(weight)
    return np.ascontiguousarray(weight[..., [0, 2, 1, 3]].astype(np.int16))


@intrinsic  # type: ignore[untyped-decorator]
def dot_words(
    _typing: Any, _x: Any, _offsets: Any, _weight: Any, _depth: Any, _bias: Any, _shift: Any,
    _low: Any, _high: Any, _added: Any, _out: Any,
) -> Any:  # fmt: skip
    """Write results as words.

    Parameters
    ----------
    added : int32, to each result, which then is one of 0 to 255
    out : address of uint32 (TILE,)
    """
    return _signature(2, 3, 1), _generator(_store_words)


@intrinsic  # type: ignore[untyped-decorator]
def dot_apart(
    _typing: Any, _x: Any, _offsets: Any, _weight: Any, _depth: Any, _bias: Any, _shift: Any,
    _low: Any, _high: Any, _added: Any, _out: Any,
) -> Any:  # fmt: skip
    """Like `dot_words`, for weights by which each result reads its own channel alone."""
    return _signature(2, 3, 1), _generator(_store_words, apart=True)


@intrinsic  # type: ignore[untyped-decorator]
def dot_floats(
    _typing: Any, _x: Any, _offsets: Any, _weight: Any, _depth: Any, _bias: Any, _shift: Any,
    _low: Any, _high: Any, _out: Any, _stride: Any,
) -> Any:  # fmt: skip
    """Write results as float32, channel by channel.

    Parameters
    ----------
    out : address of the first channel's
    stride : bytes from one channel to the next
    """
    return _signature(2, 2, 2), _generator(_store_floats)


def _signature(before: int, narrow: int, after: int) -> Any:
    wide = [types.int64] * (4 + before)
    return types.void(*wide, *[types.int32] * narrow, *[types.int64] * after)


def _generator(store: Callable[..., None], *, apart: bool = False) -> Callable[..., Any]:
    def generate(context: Any, build: Any, _: Any, arguments: Any) -> Any:
        x, offsets, weight, depth, bias, shift, low, high, *rest = arguments
        sums = _sum(build, x, offsets, weight, depth, apart)
        store(build, _clip(build, sums, bias, shift, low, high), *rest)
        return context.get_dummy_value()

    return generate


def _sum(build: Any, x: Any, offsets: Any, weight: Any, depth: Any, apart: bool) -> Vectors:
    dot = _dot(build)
    before, loop = build.block, build.append_basic_block("dot")
    after = build.append_basic_block("dot_end")
    build.branch(loop)

    build.position_at_end(loop)
    step = build.phi(I64)
    sums = [[build.phi(VECTOR) for _ in range(VECTORS)] for _ in range(WORD)]
    place = build.add(x, _load(build, _at(build, offsets, step, 8), I64))
    places = [build.add(place, I64(4 * LANES * v)) for v in range(VECTORS)]
    words = [_split(build, _load(build, address, VECTOR)) for address in places]
    weights = _at(build, weight, step, STEP)
    results = []
    for channel in range(WORD):
        row = list(sums[channel])
        for part in [channel % PARTS] if apart else range(PARTS):
            place = build.add(weights, I64(4 * (PARTS * channel + part)))
            factor = _spread(build, _load(build, place, I32))
            row = [dot(row[v], parts[part], factor) for v, parts in enumerate(words)]
        results.append(row)
    for totals, row_of_results in zip(sums, results, strict=True):
        for total, result in zip(totals, row_of_results, strict=True):
            total.add_incoming(ir.Constant(VECTOR, None), before)
            total.add_incoming(result, loop)
    following = build.add(step, I64(1))
    step.add_incoming(I64(0), before)
    step.add_incoming(following, loop)
    build.cbranch(build.icmp_signed("<", following, depth), loop, after)

    build.position_at_end(after)
    return results


def _dot(build: Any) -> Callable[[Any, Any, Any], Any]:
    """Return what adds products of a part of words and of weights to sums."""
    if PARTS == 1:
        dot = _instruction(build, "llvm.x86.avx512.vpdpbusd.512", [VECTOR] * 3)
        return lambda total, word, weight: build.call(dot, [total, word, weight])
    pairs = _instruction(build, "llvm.x86.avx2.pmadd.wd", [SHORTS] * 2)

    def add(total: Any, part: Any, weight: Any) -> Any:
        factors = [build.bitcast(value, SHORTS) for value in (part, weight)]
        return build.add(total, build.call(pairs, factors))

    return add


def _instruction(build: Any, name: str, inputs: list[Any]) -> Any:
    kind = ir.FunctionType(VECTOR, inputs)
    return build.module.globals.get(name) or ir.Function(build.module, kind, name)


def _split(build: Any, words: Any) -> list[Any]:
    """Return words as they are multiplied: as a whole, or their even and odd bytes in 16 bits."""
    if PARTS == 1:
        return [words]
    even, eight = (ir.Constant(VECTOR, [value] * LANES) for value in (0x00FF00FF, 8))
    return [build.and_(words, even), build.and_(build.lshr(words, eight), even)]


def _clip(build: Any, sums: Vectors, bias: Any, shift: Any, low: Any, high: Any) -> Vectors:
    least, most = _spread(build, low), _spread(build, high)

    def clip(total: Any, added: Any, places: Any) -> Any:
        value = build.ashr(build.add(total, added), places)
        value = build.select(build.icmp_signed("<", value, least), least, value)
        return build.select(build.icmp_signed(">", value, most), most, value)

    results = []
    for channel, totals in enumerate(sums):
        added, places = (
            _spread(build, _load(build, build.add(base, I64(4 * channel)), I32))
            for base in (bias, shift)
        )
        results.append([clip(total, added, places) for total in totals])
    return results


def _store_words(build: Any, results: Vectors, added: Any, out: Any) -> None:
    offset = _spread(build, added)
    for v in range(VECTORS):
        word = ir.Constant(VECTOR, None)
        for channel, values in enumerate(results):
            byte = build.add(values[v], offset)
            word = build.or_(word, build.shl(byte, _spread(build, I32(8 * channel))))
        _store(build, word, build.add(out, I64(4 * LANES * v)))


def _store_floats(build: Any, results: Vectors, out: Any, stride: Any) -> None:
    for channel, values in enumerate(results):
        row = build.add(out, build.mul(stride, I64(channel)))
        for v, value in enumerate(values):
            _store(build, build.sitofp(value, FLOATS), build.add(row, I64(4 * LANES * v)))


def _at(build: Any, base: Any, index: Any, size: int) -> Any:
    return build.add(base, build.mul(index, I64(size)))


def _load(build: Any, address: Any, kind: Any) -> Any:
    return build.load(build.inttoptr(address, kind.as_pointer()), align=1)


def _store(build: Any, value: Any, address: Any) -> None:
    build.store(value, build.inttoptr(address, value.type.as_pointer()), align=1)


def _spread(build: Any, value: Any) -> Any:
    undefined = ir.Constant(VECTOR, ir.Undefined)
    single = build.insert_element(undefined, value, I32(0))
    return build.shuffle_vector(single, undefined, ir.Constant(VECTOR, None))
