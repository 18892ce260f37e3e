"""The triples: what is written three times, in plain Python, for the CPU and for CUDA.

This list is the place to look for the twins of a function; the tests beside it and those of
`tests/runtime` compare them. It needs no GPU and no simulator: only names and signatures are read.
"""

import importlib
import inspect
import pkgutil
from typing import NamedTuple

import pytest

pytest.importorskip("numba_cuda")

import twins

from trellic.gpu import kernels
from trellic.gpu.kernels.kernel import KERNELS


class Triple(NamedTuple):
    reference: str
    cpu: str
    cuda: tuple[str, ...]  # kernels


STEPS = ("encode_step", "decode_step")  # whole steps
TRIPLES = [
    Triple("entropy.reference:encode", "entropy.cpu:encode", ("encode_slices",)),
    Triple("entropy.reference:Decoder", "entropy.cpu:Decoder", ("decode_segments", "decode_step")),
    Triple(
        "quantize.reference:search",
        "quantize.cpu:search",
        ("find_branches", "search_scalar", "search_warps", "search_block", "encode_step"),
    ),
    Triple(
        "quantize.reference:reconstruct",
        "quantize.cpu:reconstruct",
        (
            *("search_scalar", "search_warps", "search_block", "encode_step"),
            *("decode_segments", "decode_step"),
        ),
    ),
    Triple(
        "latents.reference:to_fixed", "latents.cpu:to_fixed", ("sum_logs", "compact", "encode_step")
    ),
    Triple("latents.reference:log_sum", "latents.cpu:log_sum", ("sum_logs",)),
    Triple(
        "latents.reference:context_input", "latents.cpu:context_input", ("context_input", *STEPS)
    ),
    Triple("latents.reference:predict", "latents.cpu:predict", ("compact", *STEPS)),
    Triple(
        "latents.reference:fill",
        "latents.cpu:fill",
        (
            *("search_scalar", "search_warps", "search_block", "encode_step"),
            *("decode_segments", "decode_step"),
        ),
    ),
]
# Kernels without a triple, and why.
HELPERS = {
    "start_hyper": "NumPy does it on the host: latents.encoder.hyper_symbols",
    "hyper_input": "NumPy does it on the host: latents.predictor.Predictor.features",
    "pad_pixels": "NumPy does it on the host: pipeline.transforms.analysis",
    "crop_pixels": "NumPy does it on the host: pipeline.transforms.synthesis",
    "clear": "fills memory with zeros",
    "requantize": "a part of integer.networks:evaluate, whose convolution a library does",
}


def find(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"trellic.{module}"), attribute)


def parameters(function):
    return list(inspect.signature(function).parameters)


def public(kind):
    return {
        name: parameters(method)
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


def test_every_kernel_is_in_a_triple_or_a_helper_with_a_reason():
    for module in pkgutil.iter_modules(kernels.__path__):
        importlib.import_module(f"{kernels.__name__}.{module.name}")
    paired = {name for triple in TRIPLES for name in triple.cuda}
    assert not paired & HELPERS.keys()
    assert paired | HELPERS.keys() == KERNELS.keys()


@pytest.mark.parametrize("triple", TRIPLES, ids=lambda triple: triple.reference)
def test_reference_and_cpu_are_called_alike(triple):
    reference, cpu = find(triple.reference), find(triple.cpu)
    assert parameters(reference) == parameters(cpu)
    if inspect.isclass(reference):
        assert public(reference) == public(cpu)


@pytest.mark.parametrize("name", ["encode", "Decoder"])
def test_the_gpus_coder_is_called_like_the_reference(name):
    reference, twin = find(f"entropy.reference:{name}"), getattr(twins, name)
    assert parameters(reference) == parameters(twin)
    if inspect.isclass(reference):  # of dither, and of layers, which the GPU does not have
        expected = public(reference)
        del expected["known"], expected["divided"]
        assert public(twin) == expected


@pytest.mark.parametrize("name", ["search"])
def test_the_gpus_search_is_called_like_the_reference(name):
    assert parameters(getattr(twins, name)) == parameters(find(f"quantize.reference:{name}"))
