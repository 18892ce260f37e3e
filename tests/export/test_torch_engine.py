"""Graphs in PyTorch: the same integers, and nearly the same floats, as in onnxruntime."""

import numpy as np
import pytest
import torch

from trellic.codec import Codec
from trellic.engines.exact import digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.model.bundle import Bundle, find
from trellic_export import graphs
from trellic_export.torch_engine import TorchGraph

from .conftest import DETAILED, shaken


def test_exact_networks_pass_their_probes(tiny: Codec):
    bundles = [tiny.bundle, Bundle(find("photo"))]
    networks = [(bundle, *named) for bundle in bundles for named in bundle.networks.items()]
    for bundle, name, network in networks:
        manifest = bundle.manifest
        graph = TorchGraph(bundle.graph(manifest.exact[name]))
        probe = torch.from_numpy(probe_input(network.channels_in)[None])
        outputs = [output[0].numpy() for output in graph({"x": probe})]
        assert digest(outputs) == manifest.probes[name]


def test_graphs_that_see_the_quality():
    model = shaken(DETAILED.model_copy(update={"modulated": True}))
    rng = np.random.default_rng(0)
    quality = np.array([12.5, 88], np.float32)
    image = rng.integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    latents = rng.normal(0, 1, (2, DETAILED.latents, 4, 8)).astype(np.float32)
    for data, name, x, most in (
        (graphs.encoder_graph(model.g_a), "image", image, 1e-3),
        (graphs.decoder_graph(model.g_s, DETAILED.latents), "latents", latents, 1),
    ):
        expected = OrtEngine(data, threads=1)({name: x, "quality": quality})[0]
        inputs = {name: torch.from_numpy(x), "quality": torch.from_numpy(quality)}
        found = TorchGraph(data)(inputs)[0].numpy()
        assert np.abs(found.astype(np.float64) - expected).max() <= most


@pytest.mark.parametrize("model", ["tiny", "photo"])
def test_free_graphs(tiny: Codec, model):
    bundle = tiny.bundle if model == "tiny" else Bundle(find(model))
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    latents = rng.normal(0, 1, (2, manifest.layout.latents, 4, 8)).astype(np.float32)
    decoder = manifest.decoders["quality"].graph
    quality = np.array([12.5, 88], np.float32)
    for graph, name, x, most in (
        (manifest.encoder, "image", image, 1e-3),
        (manifest.hyper_encoder, "latents", latents, 1e-3),
        (decoder, "latents", latents, 1),
    ):
        data = bundle.graph(graph)
        expected = OrtEngine(data, threads=1)({name: x, "quality": quality})[0]
        inputs = {name: torch.from_numpy(x), "quality": torch.from_numpy(quality)}
        found = TorchGraph(data)(inputs)[0].numpy()
        assert found.dtype == expected.dtype
        assert np.abs(found.astype(np.float64) - expected).max() <= most
