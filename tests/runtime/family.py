"""The tiny bundle with more decoders, graphs of a layer with random weights; streams for them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trellic import bitstream
from trellic.bitstream import Chunks, Stream
from trellic.codec import Codec
from trellic.images import Picture
from trellic.latents.quantizer import Quantizer, lattice_of
from trellic.pipeline.header import level_of
from trellic.support.clock import Clock

CHANNELS = 24  # of the tiny model's latents: groups of 8 and 16, in steps (0, 1) and (1, 2)
STRIDE = 16
LABELS = ["cat", "dog", "owl", "sea"]

DECODERS = {
    "perceptual": {"base": "quality", "seed": 1},
    "preview": {"channels": 8, "scale": 8, "halo": 1, "seed": 2},
    "thumb": {"channels": 8, "scale": 16, "seed": 3},
    "glimpse": {"channels": 8, "steps": 1, "scale": 8, "halo": 1, "seed": 7},
    "half": {"scale": 2, "halo": 1, "seed": 4},
    "class": {"kind": "labels", "labels": LABELS, "seed": 5},
    "class8": {"kind": "labels", "labels": LABELS, "channels": 8, "seed": 6},
}


def make_family(tiny: Path, target: Path, decoders: dict[str, dict] = DECODERS) -> Path:
    """Write the tiny bundle with decoders added; its stream id stays."""
    with zipfile.ZipFile(tiny) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    for name, given in decoders.items():
        fields = dict(given)
        seed, halo = fields.pop("seed"), fields.pop("halo", 0)
        graph = f"graphs/{name}.onnx"
        files[graph] = graph_of(fields, seed, halo)
        fields |= {"graph": {"file": graph, "kmac_per_pixel": 0.01, "halo": halo}}
        manifest["decoders"][name] = fields | {"purpose": f"tests, {name}"}
        manifest["sha256"][graph] = hashlib.sha256(files[graph]).hexdigest()
    files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def make_seeing(tiny: Path, target: Path, slope: float = 0.01) -> Path:
    """Write the tiny bundle with a g_a and a g_s whose latents grow with the quality.

    By a factor of ``1 + slope * (quality - 50)``, which g_s divides them by.
    """
    with zipfile.ZipFile(tiny) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    seeing = ("Mul", manifest["encoder"]), ("Div", manifest["decoders"]["quality"]["graph"])
    for op, graph in seeing:
        graph["sees_quality"] = True
        data = files[graph["file"]] = scaled(files[graph["file"]], op, slope)
        manifest["sha256"][graph["file"]] = hashlib.sha256(data).hexdigest()
    files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def scaled(data: bytes, op: str, slope: float) -> bytes:
    """Multiply the output "latents" of a graph by the factor, or divide its input "latents"."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for part in graph.node:  # whichever end "latents" is
        part.output[:] = ["inner" if name == "latents" else name for name in part.output]
        part.input[:] = ["inner" if name == "latents" else name for name in part.input]
    ends = ("inner", "latents") if op == "Mul" else ("latents", "inner")
    added = [
        node("Mul", ["quality", "slope"], "grown"),
        node("Add", ["grown", "level"], "one"),
        node("Unsqueeze", ["one", "axes"], "factor"),
        node(op, [ends[0], "factor"], ends[1]),
    ]
    nodes = [*graph.node, *added] if op == "Mul" else [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    values = {"slope": np.float32(slope), "level": np.float32(1 - 50 * slope)}
    values["axes"] = np.array([1, 2, 3], np.int64)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in values.items())
    graph.input.append(helper.make_tensor_value_info("quality", TensorProto.FLOAT, ["n"]))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def graph_of(fields: dict, seed: int, halo: int) -> bytes:
    """An ONNX decoder that reaches so far: a convolution, and pixel shuffle or mean."""
    rng, channels = np.random.default_rng(seed), fields.get("channels", CHANNELS)
    labels, side = fields.get("labels"), STRIDE // fields.get("scale", 1)
    out = len(labels) if labels else 3 * side**2
    kernel = 1 + 2 * halo
    constants = {
        "weight": rng.normal(0, 9 / kernel, (out, channels, kernel, kernel)).astype(np.float32),
        "bias": np.full(out, 0 if labels else 128, np.float32),
        "low": np.float32(0),
        "high": np.float32(255),
    }
    nodes = [node("Conv", ["latents", "weight", "bias"], "x", pads=[halo] * 4)]
    if labels:
        nodes += [node("GlobalAveragePool", ["x"], "m"), node("Flatten", ["m"], "logits")]
        result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "classes"])
    else:
        nodes += [
            node("DepthToSpace", ["x"], "d", blocksize=side, mode="CRD"),
            node("Clip", ["d", "low", "high"], "c"),
            node("Round", ["c"], "r"),
            node("Cast", ["r"], "u", to=TensorProto.UINT8),
            node("Transpose", ["u"], "image", perm=[0, 2, 3, 1]),
        ]
        result = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    latents = helper.make_tensor_value_info(
        "latents", TensorProto.FLOAT, ["n", channels, "rows", "columns"]
    )
    kept = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "test", [latents], [result], kept)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def node(op: str, inputs: list[str], output: str, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


# ---- streams, and what to expect of them ----


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of noise, which cost something in every context step."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


TRELLIS = Quantizer(8, 28)


def in_slices(
    codec: Codec, pixels: np.ndarray, chunks: Chunks, quantizer: Quantizer = TRELLIS
) -> bytes:
    """A stream of several slices of 256 x 256 pixels."""
    height, width = pixels.shape[:2]
    plane, states = codec.bundle.manifest.layout.plane(width, height), quantizer.states
    level = codec.bundle.levels.at(960, states)
    f, h = codec._encoding.analyse(Picture(pixels), plane, Clock(), None, level.quality)
    coded = codec._encoding.latents().encode(f, h, plane, level, quantizer, slice_side=16)
    usual = bitstream.read_header(codec.encode(pixels, quality=60, trellis=states))
    header = dataclasses.replace(
        usual, slice_side=16, lanes=tuple(coded.lanes), still=quantizer.still
    )
    return bitstream.write(Stream(header, coded.segments, chunks))


def latents_of(codec: Codec, data: bytes) -> np.ndarray:
    """Decode the latents of a stream without layers, in 1/32 step."""
    stream = bitstream.read(data)
    header = stream.header
    plane = codec.bundle.manifest.layout.plane(header.width, header.height)
    level = level_of(codec.bundle, header)
    sizes = header.lanes, plane, level, header.trellis, header.slice_side
    return codec._decoding.latents().decode(stream.segments, *sizes, lattice=lattice_of(header))


def graph_output(codec: Codec, data: bytes, name: str) -> np.ndarray:
    """What a decoder's graph makes of the latents: all decoded, later steps' then taken away."""
    header = bitstream.read_header(data)
    level = level_of(codec.bundle, header)
    unit = np.float32(128) / level.gain.astype(np.float32)
    latents = latents_of(codec, data).astype(np.float32) * unit[:, None, None]
    plane = codec.bundle.manifest.layout.plane(header.width, header.height)
    info, layout = codec.decoders[name], codec.bundle.manifest.layout
    rows, columns = np.indices(plane.latents)
    latents[layout.step_of[:, (rows + columns) & 1] >= info.steps_in(layout)] = 0
    own = latents[None, : info.channels]
    quality = np.array([level.quality], np.float32)
    return codec._pool.decoder(name)({"latents": own, "quality": quality})[0][0]


def needed_end(data: bytes, steps: int) -> int:
    """Where the last segment of the first steps ends, check included."""
    layout = bitstream.read_contents(data)
    return layout.needed_for(range(layout.header.slices), steps)[-1].end
