"""ONNX graphs compute what torch and the plain integers compute, at every size."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from trellic.engines.exact import ExactNetwork, digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.errors import EngineError
from trellic.geometry import Plane, Rectangle
from trellic.model.guard import check_graph
from trellic.pipeline import transforms
from trellic_export import builder, graphs, macs, parity
from trellic_export.bundle import _exact_graphs, _free_graphs
from trellic_export.proof import prove
from trellic_training.models.integers import integer_networks
from trellic_training.models.transforms import DepthBlock, analysis, synthesis

from .conftest import ATTENDING, CONFIG, COUPLED, DETAILED, EVERYWHERE, shaken

SIZES = pytest.mark.parametrize("size", [(64, 64), (128, 192), (320, 64)])


def engine(graph: bytes) -> OrtEngine:
    return OrtEngine(graph, threads=1)


@pytest.fixture
def free(model):
    """Graphs of the free transforms: engines by name, and what the manifest says of them."""
    return free_engines(model)


def free_engines(model):
    files: dict[str, bytes] = {}
    made = _free_graphs(model, files)
    for data in files.values():
        check_graph(data)  # a bundle with it is loaded
    return {name: engine(files[graph.file]) for name, graph in made.items()}, made


@SIZES
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        DETAILED,
        DETAILED.model_copy(update={"modulated": True}),
        ATTENDING,
        EVERYWHERE,
        COUPLED,
        COUPLED.model_copy(update={"modulated": True}),
    ],
    ids=[
        "plain",
        "details",
        "modulated",
        "attending",
        "everywhere",
        "coupled",
        "coupled-modulated",
    ],
)
def test_free_transforms(config, size, count):
    model = shaken(config)
    engines, made = free_engines(model)
    assert {name for name, graph in made.items() if graph.sees_quality} == (
        {"g_a", "quality"} if config.modulated else set()
    )
    quality = torch.tensor([71.3, -4.0])[:count]  # a trellis's offset may leave [1, 100]
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    x = torch.from_numpy(image).permute(0, 3, 1, 2) / 255 - 0.5
    f = model.g_a(x, quality)
    (seen,) = engines["g_a"]({"image": image, "quality": quality.numpy()})
    np.testing.assert_allclose(seen, f, atol=1e-4)
    (seen,) = engines["h_a"]({"latents": f.numpy()})
    np.testing.assert_allclose(seen, model.h_a(f), atol=1e-4)
    f = 30 * f  # so that pixels reach black and white
    x_hat = model.g_s(f, quality)
    pixels = ((x_hat + 0.5) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    (decoded,) = engines["quality"]({"latents": f.numpy(), "quality": quality.numpy()})
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - pixels).max() <= 1
    assert {0, 255} <= set(np.unique(decoded))


@pytest.mark.parametrize(("wide", "deep"), [(0, 0), (1, 2), (3, 1)])
def test_halos_are_wide_enough(model, wide, deep):
    torch.manual_seed(0)
    g_a = analysis(8, 8, 4, (wide, deep)).requires_grad_(requires_grad=False)
    g_s = synthesis(8, 8, 4, (wide, deep)).requires_grad_(requires_grad=False)
    model.g_a, model.g_s = g_a, g_s
    for block in (*g_a, *g_s, *model.h_a):
        if isinstance(block, DepthBlock):  # let neighbours count
            block.spatial[-1].weight *= 8
    sizes = {"encoder_blocks": (wide, deep), "decoder_blocks": (wide, deep)}
    model.config = model.config.model_copy(update=sizes | {"groups": CONFIG.groups[:1]})
    files: dict[str, bytes] = {}
    made = _free_graphs(model, files)
    plane = Plane(448, 320)
    pixels = np.random.default_rng(2).integers(0, 256, (320, 448, 3), dtype=np.uint8)
    analyse, synthesise = engine(files[made["g_a"].file]), engine(files[made["quality"].file])
    whole = transforms.analysis(analyse, pixels, plane, 4, 0)  # one tile: no halo is used
    pixels_whole = transforms.synthesis(synthesise, 9 * whole, plane, 0)
    tiled = transforms.analysis(analyse, pixels, plane, 4, made["g_a"].halo, 8)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    hyper = engine(files[made["h_a"].file])
    f = np.random.default_rng(3).normal(0, 5, (model.h_a[0].in_channels, 20, 28)).astype(np.float32)
    uncut = hyper({"latents": f[None]})[0][0]
    cut = transforms.hyper_analysis(hyper, f, plane, made["h_a"].halo, 8)
    np.testing.assert_allclose(cut, uncut, atol=1e-5)
    again = transforms.synthesis(synthesise, 9 * whole, plane, made["quality"].halo, tile=8)
    assert np.abs(again.astype(int) - pixels_whole).max() <= 1
    assert np.mean(again != pixels_whole) < 1e-3
    if deep:  # and no wider than they need to be
        narrow = made["quality"].halo - 1
        less = transforms.synthesis(synthesise, 9 * whole, plane, narrow, tile=8)
        assert np.abs(less.astype(int) - pixels_whole).max() > 1


@pytest.mark.parametrize("config", [ATTENDING, COUPLED], ids=["attending", "coupled"])
def test_tiles_with_halos_give_the_whole_picture(config):
    config = config.model_copy(update={"modulated": False})
    model = shaken(config)
    engines, made = free_engines(model)
    side = 20 * config.stride
    plane = Plane(side + 8 * config.stride, side, config.stride, config.cell)
    pixels = np.random.default_rng(2).integers(0, 256, (*plane.padded, 3), dtype=np.uint8)
    latents = config.latents
    whole = transforms.analysis(engines["g_a"], pixels, plane, latents, 0)
    tiled = transforms.analysis(engines["g_a"], pixels, plane, latents, made["g_a"].halo, 8)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    picture = transforms.synthesis(engines["quality"], 3 * whole, plane, 0)
    again = transforms.synthesis(engines["quality"], 3 * whole, plane, made["quality"].halo, tile=8)
    assert np.abs(again.astype(int) - picture).max() <= 1
    region = Rectangle(3, 37, 5, 61)  # begins at an odd latent
    part = transforms.synthesis(
        engines["quality"], 3 * whole, plane, made["quality"].halo, region=region
    )
    assert np.abs(part.astype(int) - picture[region.index()]).max() <= 1


def test_attention_to_all_positions_is_never_cut():
    """A limit of memory makes tiles smaller, and h_a computes the same with it."""
    engines, made = free_engines(shaken(EVERYWHERE))
    assert made["h_a"].halo == 0
    assert made["g_a"].halo
    rng = np.random.default_rng(4)
    f = rng.normal(0, 5, (EVERYWHERE.latents, 20, 28)).astype(np.float32)
    (whole,) = engines["h_a"]({"latents": f[None]})[0]
    cut = transforms.hyper_analysis(engines["h_a"], f, Plane(448, 320), made["h_a"].halo, 8)
    np.testing.assert_array_equal(cut, whole)
    parts = transforms.hyper_analysis(engines["h_a"], f, Plane(448, 320), 4, 8)
    assert np.abs(parts - whole).max() > 1e-4


@pytest.mark.parametrize("config", [ATTENDING, COUPLED], ids=["attending", "coupled"])
def test_halos_are_as_wide_as_a_change_reaches(config):
    model = shaken(config.model_copy(update={"modulated": False}))
    encoder, _, decoder = model.halos
    stride = config.stride
    for network, shape, halo in (
        (model.g_a, (3, 4 * stride, 20 * stride), -(-encoder // stride)),
        (model.g_s, (config.latents, 4, 20), decoder),
    ):
        x = torch.randn(1, *shape)
        other = x.clone()
        other[..., 0] += 3
        changed = (network(other) != network(x)).any(2)[0].any(0)
        reached = int(changed.nonzero().max()) // (len(changed) // 20)
        assert reached == halo


@pytest.mark.parametrize("guidance", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (4, 8), (13, 11)])
def test_integer_networks(size, guidance):
    model = shaken(CONFIG.model_copy(update={"guidance": guidance}))
    rng = np.random.default_rng(1)
    networks = integer_networks(model)
    modules = {"h_s": model.h_s} | {f"context_{k}": m for k, m in enumerate(model.contexts)}
    assert list(networks) == ["h_s", "context_0", "context_1", "context_2"]
    for name, network in networks.items():
        assert 0 < prove(name, network) < 2**22
        run = engine(graphs.integer_graph(network))
        x = rng.integers(-127, 128, (2, network.channels_in, *size)).astype(np.float32)
        seen = run({"x": x})
        expected = modules[name](torch.from_numpy(x))
        expected = expected if isinstance(expected, tuple) else (expected,)
        for a, b in zip(seen, expected, strict=True):
            np.testing.assert_array_equal(a, b.numpy())
        for i in range(2):
            for a, b in zip(seen, network(x[i]), strict=True):
                np.testing.assert_array_equal(a[i], b)


def test_parity_is_checked(model):
    files: dict[str, bytes] = {}
    networks = integer_networks(model)
    exact = _exact_graphs(networks, model.config, files)
    engines = {}
    for name, network in networks.items():
        probe = digest(network(probe_input(network.channels_in)))
        graph = files[exact[name].file]
        engines[name] = ExactNetwork(name, network, probe, lambda graph=graph: engine(graph))
    parity.check_exact(model, networks, engines)
    with torch.no_grad():
        model.contexts[1][0].bias += 1
    with pytest.raises(EngineError, match="'context_1' differs"):
        parity.check_exact(model, networks, engines)


@pytest.mark.parametrize("part", ["g_a", "h_a", "g_s"])
def test_parity_of_free_transforms_is_checked(model, free, part):
    engines, _ = free
    parity.check_free(model, engines)
    with torch.no_grad():
        last = [m for m in getattr(model, part) if isinstance(m, nn.Conv2d)][-1]
        last.bias += 0.5
    with pytest.raises(EngineError, match=part if part != "g_s" else "quality"):
        parity.check_free(model, engines)


def test_an_engine_that_is_not_a_number_is_no_parity(model, free):
    engines, _ = free
    broken = lambda inputs: [np.full((1, 8, 8, 8), np.nan, np.float32)]  # noqa: E731
    with pytest.raises(EngineError, match="g_a"):
        parity.check_free(model, engines | {"g_a": broken})


class Odd(nn.Module):
    pass


def test_what_has_no_graph_is_named():
    with pytest.raises(TypeError, match="no ONNX form for Odd"):
        graphs.decoder_graph(nn.Sequential(nn.Conv2d(2, 3, 1), Odd()), 2)
    with pytest.raises(TypeError, match="without bias"):
        graphs.decoder_graph(nn.Sequential(nn.Conv2d(2, 3, 1, bias=False)), 2)
    with pytest.raises(TypeError, match="neither with a pixel-unshuffle stem"):
        graphs.encoder_graph(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)))


def test_graphs_are_plain(model):
    files: dict[str, bytes] = {}
    _free_graphs(model, files)
    _exact_graphs(integer_networks(model), model.config, files)
    assert len(files) == 7
    for data in files.values():
        graph = onnx.load_from_string(data)
        assert graph.opset_import[0].version == builder.OPSET
        assert {node.domain for node in graph.graph.node} == {""}
        assert not graph.metadata_props


def test_multiplications_by_hand():
    # at 1/8: 192 -> 8; a block of 8; at 1/16: 8 -> 16 by 2x2, 16 -> 4
    g_a = analysis(8, 16, 4, (1, 0))
    block = 8 * 8 + 8 * 9 + 8 * 8 + 8 * 16 + 16 * 8
    expected = (192 * 8 + block) / 64 + (8 * 16 * 4 + 16 * 4) / 256
    assert macs.macs_per_pixel(g_a, 1) == pytest.approx(expected)
    # at 1/16: 4 -> 16, 16 -> 32; at 1/8 a block of 8, 8 -> 192
    g_s = synthesis(8, 16, 4, (1, 0))
    expected = (4 * 16 + 16 * 32) / 256 + (block + 8 * 192) / 64
    assert macs.macs_per_pixel(g_s, 16) == pytest.approx(expected)
    assert macs.macs_per_pixel(DepthBlock(8), 1) == block


def test_multiplications_of_details_by_hand():
    plain, details = (analysis(8, 16, n, (1, 0), n - 4) for n in (4, 7))
    more = macs.macs_per_pixel(details, 1) - macs.macs_per_pixel(plain, 1)
    assert more == pytest.approx(8 * 3 * 4 / 256)
    plain, details = (synthesis(8, 16, n, (1, 0), n - 4) for n in (4, 7))
    more = macs.macs_per_pixel(details, 16) - macs.macs_per_pixel(plain, 16)
    assert more == pytest.approx(3 * 32 / 256)


def test_integer_multiplications_by_hand(model):
    network = integer_networks(model)["h_s"]
    at64 = 5 * 8 + 8 * 9 + 8 * 16
    at32 = 4 * 8 + 8 * 9 + 8 * 32
    at16 = 8 * 9 + 8 * 8
    expected = at64 / 64**2 + at32 / 32**2 + at16 / 16**2
    assert macs.integer_macs_per_pixel(network, 64) == pytest.approx(expected)
