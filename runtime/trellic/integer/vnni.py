"""Dot products of bytes on processors with AVX-512 VNNI: the inner loop of `compiled`.

One instruction adds 64 products of an unsigned and a signed byte to 16 sums of 32 bits, without
saturating (Intel 64 and IA-32 Architectures Software Developer's Manual, VPDPBUSD). numba knows no
vectors, so the loop is written in LLVM's language and called from numba like a function. (After a
change here touch ``kernels.py``, whose compiled code numba keeps.)

A tile is 96 positions by 4 channels of results. Four channels of a position are a word; positions
of a word lie beside each other. Parameters of both functions:

x : address of the words of the first position
offsets : address of int64 (depth,), in bytes from ``x``: what each step reads
weight : address of int8 (depth, 4, 4): for each step and result the weights of a word's channels
depth : number of steps, at least 1
bias, shift : address of int32 (4,); results are ``(sum + bias) >> shift`` from ``low`` to ``high``
low, high : int32
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16  # sums of 32 bits in a vector
VECTORS = 6  # of positions that one call makes
WORD = 4  # channels of a word, and of the results
TILE = LANES * VECTORS  # sums take 24, words and weights 10 of the 32 registers
DOT = "llvm.x86.avx512.vpdpbusd.512"
NEEDED = ("avx512f", "avx512bw", "avx512vnni")
I32, I64 = ir.IntType(32), ir.IntType(64)
VECTOR, FLOATS = ir.VectorType(I32, LANES), ir.VectorType(ir.FloatType(), LANES)
Vectors = list[list[Any]]  # by result, then by vector of positions


@functools.cache
def available() -> bool:
    """Whether numba compiles for a processor that has the instruction."""
    settings = numba.config
    if settings.CPU_NAME or settings.CPU_FEATURES:  # compiles for another one than this
        return False
    if settings.DISABLE_JIT or not settings.ENABLE_AVX:
        return False
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot say
        return False
    return all(features.get(name, False) for name in NEEDED)


@intrinsic  # type: ignore[untyped-decorator]
def dot_words(
    _typing: Any, _x: Any, _offsets: Any, _weight: Any, _depth: Any, _bias: Any, _shift: Any,
    _low: Any, _high: Any, _added: Any, _out: Any,
) -> Any:  # fmt: skip
    """Write results as words.

    Parameters
    ----------
    added : int32, to each result, which then is one of 0 to 255
    out : address of uint32 (96,)
    """
    return _signature(2, 3, 1), _generator(_store_words)


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


def _generator(store: Callable[..., None]) -> Callable[..., Any]:
    def generate(context: Any, build: Any, _: Any, arguments: Any) -> Any:
        x, offsets, weight, depth, bias, shift, low, high, *rest = arguments
        sums = _sum(build, x, offsets, weight, depth)
        store(build, _clip(build, sums, bias, shift, low, high), *rest)
        return context.get_dummy_value()

    return generate


def _sum(build: Any, x: Any, offsets: Any, weight: Any, depth: Any) -> Vectors:
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    dot = build.module.globals.get(DOT) or ir.Function(build.module, kind, DOT)
    before, loop = build.block, build.append_basic_block("dot")
    after = build.append_basic_block("dot_end")
    build.branch(loop)

    build.position_at_end(loop)
    step = build.phi(I64)
    sums = [[build.phi(VECTOR) for _ in range(VECTORS)] for _ in range(WORD)]
    place = build.add(x, _load(build, _at(build, offsets, step, 8), I64))
    words = [_load(build, build.add(place, I64(4 * LANES * v)), VECTOR) for v in range(VECTORS)]
    weights = _at(build, weight, step, WORD * WORD)
    results = []
    for channel in range(WORD):
        of_word = _spread(build, _load(build, build.add(weights, I64(WORD * channel)), I32))
        row = zip(sums[channel], words, strict=True)
        results.append([build.call(dot, [total, word, of_word]) for total, word in row])
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
