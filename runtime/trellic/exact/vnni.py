"""Dot products of bytes on processors with AVX-512 VNNI: the inner loop of `compiled`.

One instruction adds 64 products of an unsigned and a signed byte to 16 sums of 32 bits, without
saturating (Intel 64 and IA-32 Architectures Software Developer's Manual, VPDPBUSD). numba knows no
vectors, so the loop is written in LLVM's language and called from numba like a function.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16  # sums of 32 bits in a vector
VECTORS = 4  # of outputs that one call makes
OUTPUTS = LANES * VECTORS
POSITIONS = 6  # that one call makes: with the weights and an input 29 of the 32 registers
DEPTH = 4  # products that the instruction adds up to one sum
DOT = "llvm.x86.avx512.vpdpbusd.512"
NEEDED = ("avx512f", "avx512bw", "avx512vnni")


@functools.cache
def available() -> bool:
    """Whether numba compiles for a processor that has the instruction."""
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:  # compiles for another one than this
        return False
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot say
        return False
    return all(features.get(name, False) for name in NEEDED)


@intrinsic  # type: ignore[untyped-decorator]
def dot_tile(_typing: Any, _x: Any, _stride: Any, _weight: Any, _depth: Any, _out: Any) -> Any:
    """Make the sums of products for 6 positions and 64 outputs.

    Parameters
    ----------
    x : address of the first position's inputs, uint8
    stride : bytes from one position to the next
    weight : address of int8 (depth, 4, 16, 4): for each four inputs and each output their weights
    depth : number of inputs / 4, at least 1
    out : address of int32 (6, 64), written
    """
    signature = types.void(*[types.int64] * 5)
    return signature, lambda context, builder, _, args: _emit(context, builder, *args)


def _emit(context: Any, build: Any, x: Any, stride: Any, weight: Any, depth: Any, out: Any) -> Any:
    i32, i64 = ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(i32, LANES)
    kind = ir.FunctionType(vector, [vector] * 3)
    dot = build.module.globals.get(DOT) or ir.Function(build.module, kind, DOT)
    rows = [build.add(x, build.mul(stride, i64(p))) for p in range(POSITIONS)]
    before, loop, after = (
        build.block,
        build.append_basic_block("dot"),
        build.append_basic_block("dot_end"),
    )
    build.branch(loop)

    build.position_at_end(loop)
    i = build.phi(i64)
    i.add_incoming(i64(0), before)
    sums = [build.phi(vector) for _ in range(POSITIONS * VECTORS)]
    weights = build.add(weight, build.mul(i, i64(DEPTH * OUTPUTS)))
    columns = [
        _load(build, build.add(weights, i64(DEPTH * LANES * v)), vector) for v in range(VECTORS)
    ]
    offset, results = build.mul(i, i64(DEPTH)), []
    for p, row in enumerate(rows):
        inputs = _broadcast(build, _load(build, build.add(row, offset), i32), vector)
        for v, column in enumerate(columns):
            results.append(build.call(dot, [sums[p * VECTORS + v], inputs, column]))
    for total, result in zip(sums, results, strict=True):
        total.add_incoming(ir.Constant(vector, None), before)
        total.add_incoming(result, loop)
    following = build.add(i, i64(1))
    i.add_incoming(following, loop)
    build.cbranch(build.icmp_signed("<", following, depth), loop, after)

    build.position_at_end(after)
    for n, result in enumerate(results):
        place = build.inttoptr(build.add(out, i64(DEPTH * LANES * n)), vector.as_pointer())
        build.store(result, place, align=1)
    return context.get_dummy_value()


def _load(build: Any, address: Any, kind: Any) -> Any:
    return build.load(build.inttoptr(address, kind.as_pointer()), align=1)


def _broadcast(build: Any, value: Any, vector: Any) -> Any:
    undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    single = build.insert_element(undefined, value, first)
    return build.shuffle_vector(single, undefined, ir.Constant(vector, None))
