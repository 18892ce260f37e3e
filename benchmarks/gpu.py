"""Speed on a GPU, stage by stage, beside the goals.

Run ``python -m benchmarks.gpu`` from the repository's root on a machine with a GPU (``make
gpu-check`` runs the GPU's tests first). Times are those of the device's own events, the median of
the repeats, after a warm-up. Each row is written to the result as it is measured, the largest
batches last; what fails is a row with its error. Three parts, each only if what it needs is there:

- kernels: search, rANS encode and decode on synthetic symbols; needs numba-cuda alone;
- files: pictures in the device's memory to bytes on the host and back, for three sizes and three
  batch sizes, stage by stage; networks in onnxruntime's CUDA build, or else in PyTorch;
- others: torch_ans on the same symbols, and CompressAI's compress and decompress, if installed.

``NUMBA_ENABLE_CUDASIM=1 python -m benchmarks.gpu --check`` runs the first part on tiny inputs, to
see that it runs; the times then mean nothing and no result is written.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._machine import REPOSITORY, describe
from benchmarks._rows import Report
from benchmarks.coder import STATES, Source, make_source
from trellic.entropy import Segment, encode
from trellic.entropy.lanes import GROUP, STATE_LOW, unpack_states
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device, gpu_name
from trellic.gpu.entropy import CodedWords, Warps, coding_tables, decode_batch, encode_batch
from trellic.gpu.kernels.kernel import SIMULATED
from trellic.gpu.search import search_batch, search_paths
from trellic.gpu.state import Jobs, Symbols
from trellic.gpu.toolkit import cuda
from trellic.quantize.trellis import next_state

RESULT = Path(__file__).parent / "results" / "gpu.json"
SIZES = {"768x512": (512, 768), "1080p": (1080, 1920), "4K": (2160, 3840)}
TINY = {"96x64": (64, 96)}  # for rehearsals
BATCHES = (1, 4, 16)
GOALS = {
    "decode, trellis": ("million symbols/s", 2000),
    "search, 32 states": ("million latents/s", 500),
    "1080p encode": ("images/s", 300),
    "1080p decode": ("images/s", 500),
}
COPY_BYTES = 1 << 31
PACKAGES = (
    *("numpy", "numba", "numba-cuda", "torch"),
    *("onnxruntime-gpu", "onnxruntime", "tensorrt"),
)
QUALITY16, TRELLIS = 960, 8
LAMBDA = 28  # price of 1/64 bit in the search


def on_device(device: Device, repeats: int, work: Callable[[], object]) -> float:
    """Return the median seconds of one call, on the device's clock, after two calls."""
    times = []
    for turn in range(repeats + 2):
        begin, end = cuda.event(), cuda.event()
        begin.record(device.stream)
        work()
        end.record(device.stream)
        device.stream.synchronize()
        if turn >= 2:
            times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def copy_bandwidth(device: Device, repeats: int, size: int) -> float:
    """Return bytes a second of a copy within the device's memory, read and written."""
    a, b = (cuda.device_array(size, np.uint8, stream=device.stream) for _ in range(2))
    a.copy_to_device(np.random.default_rng(0).integers(0, 256, size, np.uint8))
    return 2 * size / on_device(device, repeats, lambda: b.copy_to_device(a, device.stream))


# ---- kernels ----


def trellis_classes(k: np.ndarray, lanes: int, states: int) -> np.ndarray:
    """Return the class of each index of trellis paths."""
    moves, state = next_state(states), np.zeros(lanes, np.uint8)
    cls = np.empty(len(k), np.uint8)
    for i in range(0, len(k), lanes):
        row = k[i : i + lanes]
        cls[i : i + lanes] = 1 + (state[: len(row)] & 1)
        state[: len(row)] = moves[state[: len(row)], row & 1]
    return cls


class Batch:
    """Many slices with the same symbols, as one batch: what a launch is timed on."""

    def __init__(self, device: Device, source: Source, slices: int, lanes: int, states: int):
        self.device, self.tables, self.lanes, self.slices = device, source.tables, lanes, slices
        n = len(source.k)
        self.symbols, self.expected = n * slices, source.k
        cls = trellis_classes(source.k, lanes, states) if states else np.zeros(n, np.uint8)
        self.table = (cls.astype(np.uint16) * source.tables.scales + source.index).astype(np.uint16)
        (self.data,) = encode([Segment(source.k, self.table)], source.tables, lanes)
        plan = one_step(slices, n, lanes, states)
        words = columns.place_words(plan.rows, [self.data] * slices)
        self.plan, self.jobs = plan, Jobs.of(device, plan, coding_tables(plan))
        self.on = Symbols.empty(device, self.symbols)._replace(
            k=device.upload("k", np.tile(source.k, slices)),
            cls=device.upload("cls", np.tile(cls, slices)),
            index=device.upload("index", np.tile(source.index, slices)),
        )
        self.first_states = device.upload("bench first states", self._first_states())
        states_on = device.upload("bench states", self._first_states())
        self.coded = CodedWords(device.upload("bench words", words), states_on, lanes)
        self.warps = device.upload("bench warps", columns.warps([lanes] * slices))

    def _first_states(self) -> np.ndarray:
        states = np.full((self.slices, self.lanes), STATE_LOW, np.uint32)
        states[:, ::GROUP] = unpack_states(self.data, self.lanes)
        return states.ravel()

    def decode(self) -> None:
        """Decode all slices, from their first states."""
        self.coded.states.copy_to_device(self.first_states, stream=self.device.stream)
        device, tables, jobs = self.device, self.tables, self.jobs
        warps = Warps(self.warps, self.status)
        decode_batch(device, tables, jobs, 0, self.on, self.coded, warps)

    def prepare_decode(self) -> None:
        """Poison the outputs."""
        self.status = self.device.zeros("bench status", len(self.warps))
        self.on.k.copy_to_device(np.full(self.symbols, 12345, np.int32))

    def check_decode(self) -> None:
        """Raise RuntimeError unless every symbol of every slice came back."""
        k = self.device.fetch(self.on.k).reshape(self.slices, -1)
        if self.device.fetch(self.status).any() or not (k == self.expected).all():
            raise RuntimeError("the decoder does not give the symbols back")


def one_step(slices: int, n: int, lanes: int, states: int) -> columns.JobPlan:
    """Plan slices of one segment each, of as many symbols."""
    rows = [columns.describe(lanes, i * lanes, i * n, states, fresh=True) for i in range(slices)]
    table = np.array(rows, np.int64)
    table[:, columns.LAMBDA] = LAMBDA
    table[:, columns.TARGET_AT] = np.arange(slices) * n
    order = np.arange(slices, dtype=np.int32)[:, None]
    return columns.JobPlan(table, order, np.full((1, slices), n), np.full(slices, n, np.int32))


def bench_decode(device: Device, source: Source, slices: int, lanes: int, states: int, reps: int):
    """Time the decoder, checked; return a row."""
    batch = Batch(device, source, slices, lanes, states)
    batch.prepare_decode()
    batch.decode()
    batch.check_decode()
    seconds = on_device(device, reps, batch.decode)
    moved = batch.symbols * (1 + 4 + 1) + slices * len(batch.data)
    return row("decode", batch.symbols, seconds, moved, slices=slices, lanes=lanes, states=states)


def bench_encode(device: Device, source: Source, slices: int, lanes: int, states: int, reps: int):
    """Time the encoder's kernels and the copy of its bytes, checked; return a row."""
    batch = Batch(device, source, slices, lanes, states)

    def work() -> list[list[bytes]]:
        jobs = Jobs.of(device, batch.plan, coding_tables(batch.plan))  # no words yet
        return encode_batch(
            device, batch.tables, jobs, batch.on, len(batch.data) * slices
        ).segments()

    if any(parts != [batch.data] for parts in work()):
        raise RuntimeError("the encoder gives other bytes than the CPU's")
    seconds = on_device(device, reps, work)
    moved = batch.symbols * 6 + 4 * slices * len(batch.data)
    return row("encode", batch.symbols, seconds, moved, slices=slices, lanes=lanes, states=states)


def bench_search(device: Device, source: Source, slices: int, lanes: int, states: int, reps: int):
    """Time the search, one slice checked against the CPU's; return a row."""
    from trellic.quantize import cpu

    n = len(source.k)
    rng = np.random.default_rng(3)
    t32 = (32 * source.k + rng.integers(-16, 17, n)).astype(np.int32)
    plan = one_step(slices, n, lanes, states)
    jobs = Jobs.of(device, plan, search_paths(plan))
    on = Symbols.empty(device, n * slices)._replace(
        t32=device.upload("t32", np.tile(t32, slices)),
        index=device.upload("index", np.tile(source.index, slices)),
        position=device.upload("position", np.tile(np.arange(n, dtype=np.int32), slices)),
        k=device.upload("k", np.full(n * slices, 12345, np.int32)),
        cls=device.upload("cls", np.full(n * slices, 99, np.uint8)),
    )

    v32 = device.empty("bench latents", n * slices, np.int32)

    def work() -> None:
        search_batch(device, source.tables, jobs, 0, on, v32)

    work()
    expected = cpu.search(t32, source.index, lanes, states, source.tables, LAMBDA)
    for found, right in zip((on.k, on.cls), expected, strict=True):
        if not (device.fetch(found).reshape(slices, n) == right).all():
            raise RuntimeError(f"the search of {states} states differs from the CPU's")
    seconds = on_device(device, reps, work)
    # t and index in, branches out and in, survivors out and in, symbols out
    moved = n * slices * (5 + 2 * 24 * (states > 0) + 2 * states / 8 + 5)
    return row("search", n * slices, seconds, moved, slices=slices, lanes=lanes, states=states)


def row(name: str, items: int, seconds: float, moved: float, **setting: int) -> dict[str, Any]:
    """Make a row of the report."""
    found = {
        "what": name,
        **setting,
        "items": items,
        "ms": 1e3 * seconds,
        "million/s": items / seconds / 1e6,
        "GB/s": moved / seconds / 1e9,
    }
    print(
        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
    )
    return found


def kernels(report: Report, device: Device, symbols: int, slices: list[int], reps: int) -> None:
    """Time coder and search for batches of slices with as many symbols each, largest last."""
    source = make_source(symbols)
    fewer = max(reps // 4, 1)
    for number in sorted(slices):
        for lanes in (64, 256):
            measured = [
                *((bench_decode, states, reps) for states in (0, STATES)),
                *((bench_encode, states, fewer) for states in (0, STATES)),
                *((bench_search, states, reps) for states in (0, 8, 32, 256)),
            ]
            for bench, states, repeats in measured:
                setting = {"what": bench.__name__.removeprefix("bench_"), "slices": number}
                setting |= {"lanes": lanes, "states": states}
                work = partial(bench, device, source, number, lanes, states, repeats)
                report.measure("kernels", setting, work)


# ---- files ----

ENGINES = ["auto", "onnxruntime", "torch", "torch-plain", "torch-graph"]


def photo(height: int, width: int) -> np.ndarray:
    """Return a sample photo, mirrored until it is large enough."""
    from PIL import Image

    path = sorted((REPOSITORY / "samples").glob("*.png"))[0]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    missing = [
        (0, max(0, side - have))
        for side, have in zip((height, width), pixels.shape[:2], strict=True)
    ]
    tall = np.pad(pixels, [*missing, (0, 0)], "symmetric")
    return np.ascontiguousarray(tall[:height, :width])


def gpu_codec(engines: str) -> tuple[Any, str]:
    """Load the model `photo` with engines of a kind, "auto" for what there is; say which."""
    from trellic.engines.ort import missing_for
    from trellic.gpu.codec import GpuCodec
    from trellic.model.bundle import Bundle, find

    bundle = Bundle(find("photo"))
    missing = missing_for("cuda")
    if engines == "onnxruntime" and missing:
        raise RuntimeError(missing)
    if not engines.startswith("torch") and not missing:
        return GpuCodec.load(bundle, "cuda"), "onnxruntime CUDA, float32"
    from trellic_export.torch_engine import capture_on, engines_on

    of_engines = partial(engines_on, fused=engines != "torch-plain")
    capture = capture_on if engines == "torch-graph" else None
    codec = GpuCodec.load(bundle, "cuda", engines=of_engines, capture=capture)
    kind = "PyTorch, exact networks float32 and the others float16, CUDA graphs"
    more = {
        "torch-plain": ", layers of exact networks operator by operator",
        "torch-graph": ", each decode as one graph",
    }
    return codec, kind + more.get(engines, "")


def staged(
    device: Device, reps: int, work: Callable[[], Any], *, stages_too: bool = True
) -> dict[str, Any]:
    """Time a call end to end (wall clock of the host) and its stages (events of the device).

    Parameters
    ----------
    stages_too : or only end to end, for work that is one CUDA graph only if stages are not timed
    """
    for _ in range(3):
        work()
    walls, stages = [], []
    for _ in range(reps):
        device.marks = [] if stages_too else None
        device.mark("")
        start = time.perf_counter()
        work()
        device.stream.synchronize()
        walls.append(time.perf_counter() - start)
        stages.append(between(device.marks or []))
        device.marks = None
    names = stages[0]
    return {
        "ms": 1e3 * statistics.median(walls),
        "stages ms": {n: statistics.median(one[n] for one in stages) for n in names},
    }


def between(marks: list[tuple[str, Any]]) -> dict[str, float]:
    """Return milliseconds of each stage, summed over its occurrences."""
    found: dict[str, float] = {}
    for (_, begin), (name, end) in pairwise(marks):
        found[name] = found.get(name, 0.0) + begin.elapsed_time(end)
    return found


def sides(size: str) -> tuple[int, int]:
    """Return height and width of a size by its name."""
    return (SIZES | TINY)[size]


def pixels(size: str) -> int:
    """Return the pixels of a picture of a size."""
    height, width = sides(size)
    return height * width


def settings(sizes: list[str], batches: list[int]) -> list[tuple[str, int]]:
    """Return each size with each batch, the fewest pixels first: the largest may not fit."""
    both = [(size, batch) for size in sizes for batch in batches]
    return sorted(both, key=lambda one: pixels(one[0]) * one[1])


def files(report: Report, engines: str, sizes: list[str], batches: list[int], reps: int) -> None:
    """Time pictures in device memory to bytes on the host, and back."""
    codec, report.content["engines"] = gpu_codec(engines)
    for size, batch in settings(sizes, batches):
        setting = {"size": size, "batch": batch}
        made: list[bytes] = []
        encode = partial(bench_files_encode, codec, size, batch, reps, made)
        report.measure("files", {"what": "encode", **setting}, encode)
        decode = partial(bench_files_decode, codec, size, made, reps)
        report.measure("files", {"what": "decode", **setting}, decode)


def bench_files_encode(
    codec: Any, size: str, batch: int, reps: int, made: list[bytes]
) -> dict[str, Any]:
    """Time a batch to files; leave them in `made`."""
    one = cuda.to_device(photo(*sides(size)))
    pictures, quality, trellis = [one] * batch, [QUALITY16] * batch, [TRELLIS] * batch
    made += codec.encode_batch(pictures, quality, trellis)
    work = partial(codec.encode_batch, pictures, quality, trellis)
    found = {"bytes": len(made[0]), **staged(codec.device, reps, work)}
    return told("encode", found, size, batch)


def bench_files_decode(codec: Any, size: str, made: list[bytes], reps: int) -> dict[str, Any]:
    """Time files to pictures in device memory, checked."""
    if not made:
        raise RuntimeError("there are no files: encoding failed")
    work = partial(codec.decode_batch, made, "quality", 2**28)
    decoded = work()[-1].copy_to_host()
    error = float(((decoded.astype(float) - photo(*sides(size))) ** 2).mean())
    timed = staged(codec.device, reps, work, stages_too=not codec.graphs)
    found = {"mse": error, "one graph": codec.graphs, **timed}
    return told("decode", found, size, len(made))


def told(what: str, found: dict[str, Any], size: str, batch: int) -> dict[str, Any]:
    """Print a row of files, with its rate."""
    found["images/s"] = batch / found["ms"] * 1e3
    print(f"{size} x{batch} {what}: {found['images/s']:.1f} images/s, {found['ms']:.2f} ms")
    for stage, ms in found["stages ms"].items():
        print(f"    {stage:22} {ms:9.3f} ms")
    return found


# ---- others ----


def others(report: Report, reps: int) -> None:
    """Time torch_ans on the kernels' symbols, and CompressAI's files, where they are installed."""
    for name, measure in (("torch_ans", torch_ans), ("compressai", compressai)):
        report.measure("others", {"what": name}, partial(measure, reps))
        print(name, report.content["others"][-1])


def torch_ans(reps: int) -> dict[str, Any]:
    """Time torch_ans on CUDA tensors, in the variants that `benchmarks.coder` compares."""
    import torch
    from torch_ans.utils import TorchANSInterface

    source, rows = make_source(1 << 22), []
    cdfs = source.cdfs
    longest = max(map(len, cdfs))
    table = torch.tensor([c + [c[-1]] * (longest - len(c)) for c in cdfs], dtype=torch.int32)
    sizes = torch.tensor([len(c) for c in cdfs], dtype=torch.int32)
    offsets = torch.from_numpy(-source.tables.half_width[0].astype(np.int32))
    for impl, interleaves, states in (
        ("rans32_16", 32, 1),
        ("rans32_16", 32, 64),
        ("rans32_16", 32, 1024),
        ("rans64", 32, 1024),
    ):
        ans = TorchANSInterface(
            impl=impl,
            num_interleaves=interleaves,
            num_parallel_states=states,
            bypass_coding=False,
            freq_precision=15,
            device="cuda",
        )
        ans.set_cdfs(table.cuda(), sizes.cuda(), offsets.cuda())
        k = torch.from_numpy(source.k).cuda()
        index = torch.from_numpy(source.index.astype(np.int32)).cuda()
        data = ans.encode_with_indexes(k, index)
        times = []
        for _ in range(reps + 2):
            torch.cuda.synchronize()
            start = time.perf_counter()
            ans.decode_with_indexes(data, index)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        name = f"torch_ans {impl} x{interleaves}, {states} states"
        rows.append(row(name, len(source.k), statistics.median(times[2:]), 0.0))
    return {"rows": rows}


def compressai(reps: int) -> dict[str, Any]:
    """Time compress and decompress of CompressAI's mean-scale hyperprior, untrained, at 1080p."""
    import torch
    from compressai.models import MeanScaleHyperprior

    model = MeanScaleHyperprior(128, 192).eval().cuda()
    model.update()
    pixels = torch.from_numpy(photo(1088, 1920)).permute(2, 0, 1)[None].cuda() / 255
    times: dict[str, list[float]] = {"compress": [], "decompress": []}
    with torch.inference_mode():
        for _ in range(reps + 2):
            start = time.perf_counter()
            out = model.compress(pixels)
            torch.cuda.synchronize()
            middle = time.perf_counter()
            model.decompress(out["strings"], out["shape"])
            torch.cuda.synchronize()
            times["compress"].append(middle - start)
            times["decompress"].append(time.perf_counter() - middle)
    return {name: 1e3 * statistics.median(values[2:]) for name, values in times.items()}


# ---- report ----


def against_goals(report: Report) -> dict[str, dict[str, Any]]:
    """Set the best figures beside the goals."""
    best: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        best[name] = max(best.get(name, 0.0), value)

    for one in report.rows("kernels"):
        if one["what"] == "decode" and one["states"]:
            note("decode, trellis", one["million/s"])
        if one["what"] == "search" and one["states"] == 32:
            note("search, 32 states", one["million/s"])
    for one in report.rows("files"):
        if one["size"] == "1080p":
            note(f"1080p {one['what']}", one["images/s"])
    return {
        name: {"unit": unit, "goal": goal, "measured": best.get(name)}
        for name, (unit, goal) in GOALS.items()
    }


def check(device: Device) -> None:
    """Run the first part on tiny inputs."""
    source = make_source(96)
    bench_decode(device, source, 2, 4, 4 if SIMULATED else STATES, 1)
    bench_encode(device, source, 2, 4, 0, 1)
    bench_search(device, source, 1, 4, 4, 1)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Speed on a GPU, stage by stage.")
    parser.add_argument("--symbols", type=int, default=1 << 18, help="of each slice")
    parser.add_argument("--slices", type=int, nargs="+", default=[4, 64, 512])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=[*SIZES, *TINY])
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--skip", nargs="*", default=[], choices=["kernels", "files", "others"])
    parser.add_argument("--engines", default="auto", choices=ENGINES)
    parser.add_argument("--rehearse", action="store_true", help="on the fake driver of the tests")
    parser.add_argument("--check", action="store_true", help="tiny inputs, no result written")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if SIMULATED and not options.check:
        parser.error("the simulator's times mean nothing: give --check")
    return options


def main() -> int:
    """Run from the command line; exit with 1 where a measurement failed."""
    options = parse()
    with ExitStack() as around:
        if options.rehearse:
            from tests.cuda.driver.plugin import stand_ins

            around.enter_context(stand_ins())
        return bench(options)


def bench(options: argparse.Namespace) -> int:
    """Measure what the options ask for; return the exit code."""
    device = Device()
    few = SIMULATED or options.rehearse
    bandwidth = copy_bandwidth(device, 5, 1 << 10 if few else COPY_BYTES)
    print(f"{gpu_name()}: a copy moves {bandwidth / 1e9:.0f} GB/s, read and written")
    if options.check:
        check(device)
        return 0
    head = {"machine": describe(PACKAGES), "gpu": gpu_name(), "copy GB/s": bandwidth / 1e9}
    report = Report(options.out, head)
    if "kernels" not in options.skip:
        kernels(report, device, options.symbols, options.slices, options.repeats)
    if "files" not in options.skip:
        files(report, options.engines, options.sizes, options.batches, options.repeats)
    if "others" not in options.skip:
        others(report, options.repeats)
    report.content["goals"] = against_goals(report)
    report.write()
    for name, goal in report.content["goals"].items():
        print(f"{name}: {goal['measured']} {goal['unit']}, goal {goal['goal']}")
    measured = [*report.content.get("kernels", []), *report.content.get("files", [])]
    return 1 if any("error" in one for one in measured) else 0


if __name__ == "__main__":
    sys.exit(main())
