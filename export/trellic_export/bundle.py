"""Checkpoint to bundle: graphs, integers, calibration, parity, manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trellic.engines import Engine
from trellic.engines.exact import ExactNetwork, digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.geometry import Plane
from trellic.integer.networks import IntegerNetwork, to_arrays
from trellic.model.bundle import Bundle, stream_id
from trellic.model.decoders import DecoderInfo, Graph
from trellic.model.manifest import BUNDLE_VERSION, Manifest, Search
from trellic.pipeline import transforms
from trellic.support.files import write_atomically
from trellic_export import graphs
from trellic_export.calibrate import Calibration, Encoder, Float32, Photo, Synthesis
from trellic_export.macs import integer_macs_per_pixel, macs_per_pixel
from trellic_export.parity import check_exact, check_free
from trellic_export.proof import prove
from trellic_training.data.photos import PackedPhotos
from trellic_training.data.pictures import Pixels
from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.models.integers import integer_networks, level_tables
from trellic_training.models.photo import ModelConfig, PhotoModel

CALIBRATION_SIDE = 512  # pixels, of the centre of each calibration photo
MEASURES = {"ssimulacra2": "SSIMULACRA 2", "ms_ssim": "MS-SSIM", "jod": "CVVDP"}


@dataclass(frozen=True)
class Options:
    """Options of an export.

    Attributes
    ----------
    name, licence, description : for the manifest
    photos : number of calibration photos, at most
    skip_index : latents with a smaller scale index are not coded
    trellis_step : distance D of the trellis quantizers, in 1/32 step
    widening : by how much scales are taken as larger than predicted, in 1/128 scale index
        (docs/experiments/rate-allocation.md)
    lam : the search's Lagrangian of each family, in cost per 1/64 bit (16 e32^2 + lam * rate64)
    fit_lam : the same while tables are fitted. It is larger, because tables of a search that spends
        fewer bits save bits (docs/experiments/rate-allocation.md)
    """

    name: str
    licence: str = "Apache-2.0"
    description: str = ""
    photos: int = 64
    skip_index: int = 4
    trellis_step: int = 21
    widening: int = 96
    lam: dict[str, int] = field(default_factory=lambda: {"scalar": 20, "trellis": 24})
    fit_lam: dict[str, int] = field(default_factory=lambda: {"scalar": 40, "trellis": 48})


def export_bundle(
    model: PhotoModel, facts: dict[str, Any], pack: PackedPhotos, out: Path, options: Options
) -> Manifest:
    """Write a bundle.

    Parameters
    ----------
    model : in evaluation mode
    facts : of the training, for the manifest
    pack : photos to calibrate on (its training split)
    out : path of the zip file to write

    Raises
    ------
    BadBundle
        When float32 might not carry a network exactly.
    BadParameter
        When the photos have other bands than the model, or its scales end below the skip index.
    EngineError
        When an engine does not reproduce the torch model.
    """
    pack.check_bands(model.config.bands)
    config = model.config
    layout = config.layout(options.skip_index)
    files: dict[str, bytes] = {}
    networks = integer_networks(model)
    bounds = {name: prove(name, network) for name, network in networks.items()}
    exact = _exact_graphs(networks, config, files)
    probes = {name: digest(_probe(network)) for name, network in networks.items()}
    engines = {
        name: ExactNetwork(name, network, probes[name], _loader(files[exact[name].file]))
        for name, network in networks.items()
    }
    check_exact(model, networks, engines)
    free = _free_graphs(model, files)
    check_free(model, {name: OrtEngine(files[graph.file]) for name, graph in free.items()})

    levels = level_tables(model)
    ratio = scale_ratio(layout.scales)
    sigmas = (SIGMA_MIN * ratio ** np.arange(layout.scales)).astype(np.float64)
    g_a, h_a, g_s = (OrtEngine(files[free[name].file]) for name in ("g_a", "h_a", "quality"))
    encode = Encoder(g_a, h_a, free["g_a"], layout)
    photos = [Photo(pixels, encode) for pixels in centres(pack, options.photos)]
    calibration = Calibration(
        layout, levels, engines, sigmas, photos, options.trellis_step, options.widening
    )
    tables = calibration.fit(options.fit_lam)
    synthesis = _synthesis(g_s, free["quality"].halo, config.bands)
    offsets = calibration.offsets(tables, options.lam, synthesis)
    levels = dataclasses.replace(calibration.levels, level_offset=offsets)

    arrays = tables.to_arrays() | levels.to_arrays()
    for name, network in networks.items():
        arrays |= to_arrays(name, network)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files["normative.npz"] = buffer.getvalue()
    manifest = Manifest(
        bundle_version=BUNDLE_VERSION,
        name=options.name,
        stream_id=stream_id(arrays, layout),
        licence=options.licence,
        description=options.description,
        layout=layout,
        encoder=free["g_a"],
        hyper_encoder=free["h_a"],
        decoders={"quality": DecoderInfo(graph=free["quality"], purpose=purpose_of(facts))},
        exact=exact,
        probes=probes,
        search={name: Search(lam=lam) for name, lam in options.lam.items()},
        sha256=digests(files),
        made_with=_tools(),
        training=facts | {"largest_accumulator": bounds},
    )
    write_bundle(out, manifest, files)
    return manifest


def _synthesis(g_s: Engine, halo: int, bands: int) -> Synthesis:
    def run(latents: Float32, plane: Plane, quality: float) -> Pixels:
        engine = transforms.told(g_s, quality)
        return transforms.synthesis(engine, latents, plane, halo, bands=bands)

    return run


def _exact_graphs(
    networks: dict[str, IntegerNetwork], config: ModelConfig, files: dict[str, bytes]
) -> dict[str, Graph]:
    made = {}
    for name, network in networks.items():
        file = f"graphs/{name}.onnx"
        files[file] = graphs.integer_graph(network)
        stride = config.hyper_stride if name == "h_s" else config.stride
        macs = integer_macs_per_pixel(network, stride)
        made[name] = Graph(file=file, kmac_per_pixel=round(macs / 1000, 3))
    return made


def _free_graphs(model: PhotoModel, files: dict[str, bytes]) -> dict[str, Graph]:
    encoder, hyper, decoder = model.halos
    stride = model.config.stride
    parts = {
        "g_a": (graphs.encoder_graph(model.g_a), model.g_a, 1, encoder),
        "h_a": (graphs.hyper_encoder_graph(model.h_a), model.h_a, stride, hyper),
        "quality": (
            graphs.decoder_graph(model.g_s, model.config.latents, model.config.bands),
            model.g_s,
            stride,
            decoder,
        ),
    }
    made = {}
    for name, (data, module, stride_in, halo) in parts.items():
        file = f"graphs/{name}.onnx"
        files[file] = data
        macs = macs_per_pixel(module, stride_in)
        made[name] = Graph(
            file=file,
            kmac_per_pixel=round(macs / 1000, 3),
            halo=halo,
            sees_quality=graphs.sees_quality(module),
        )
    return made


def _probe(network: IntegerNetwork) -> list[Any]:
    return list(network(probe_input(network.trunk[0].weight.shape[1])))


def _loader(graph: bytes) -> Any:
    return lambda: OrtEngine(graph)


def centres(pack: PackedPhotos, count: int) -> Iterator[Pixels]:
    """Centres of photos of the training split, evenly over its sources."""
    rng = np.random.default_rng(0)
    count = min(count, len(pack.training))
    for i in rng.choice(len(pack.training), count, replace=False, p=pack.weights):
        whole = pack.photo(pack.training[i])
        top, left = (max(0, (side - CALIBRATION_SIDE) // 2) for side in whole.shape[:2])
        yield whole[top : top + CALIBRATION_SIDE, left : left + CALIBRATION_SIDE]


def _tools() -> dict[str, str]:
    names = ("numpy", "torch", "onnx", "onnxruntime")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def purpose_of(facts: dict[str, Any]) -> str:
    """Say what the model was trained for, by the last stage's recipe."""
    recipe = facts.get("finetuning", facts).get("recipe", {})
    shares = recipe.get("distortion", {})
    counts = [MEASURES[name] for name in MEASURES if shares.get(name)]
    return f"what people see, by {', '.join(counts)}" if counts else "least squared error"


def members(bundle: Bundle, without: Collection[str] = ()) -> dict[str, bytes]:
    """Files of a bundle, byte for byte, except its manifest and those named."""
    with zipfile.ZipFile(bundle.path) as archive:
        names = set(archive.namelist()) - {"manifest.json", *without}
        return {name: archive.read(name) for name in archive.namelist() if name in names}


def plain(graph: Graph) -> Graph:
    """Return the record of a graph without those in 8 bits and in half precision."""
    return graph.model_copy(update={"int8": None, "fp16": None})


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of files, as a manifest lists them."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def write_bundle(out: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write a manifest and the files that it names; a reader never sees half a bundle."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(manifest.model_dump_json()), indent=1)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in {"manifest.json": text.encode(), **files}.items():
            # A fixed date, so that the same model gives the same bytes.
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    write_atomically(out, made.getvalue())
