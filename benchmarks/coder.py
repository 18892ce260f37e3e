"""Speed of the entropy coder on one core, beside others, on the same symbols and tables.

Run ``python -m benchmarks.coder`` from the repository's root. The symbols are those of the test
source in the design (24 scales and up, most of them small), none of them beyond its table, so that
no coder needs escapes. Others are measured where they can be imported:

- constriction: its ANS coder as it is used with a scale for each symbol, `QuantizedGaussian`, whose
  tables it computes as it goes; and with ready `Categorical` tables, one call for each table,
  which only works where all tables are known before the first symbol is decoded.
- CompressAI: its compiled rANS alone (`compressai.ans`), with and without the conversion of lists.
- torch_ans: a C++ extension of PyTorch, several variants with its default symbol search (its manual
  says that inverse tables buy less than 3 % below 64 symbols).

``--path FOLDER`` adds a folder to look in, as `compressai` without torchvision can be installed
nowhere else: ``pip install --no-deps --target FOLDER --group coders``.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks._machine import describe
from trellic.entropy import Decoder, Segment, Tables, choose_lanes, encode
from trellic.quantize.trellis import next_state
from trellic_training.quantization.fit import parametric_tables

SIGMAS = np.geomspace(0.11, 64, 48)  # in scalar steps
STATES = 8
ELSEWHERE = "pip install --no-deps --target build/coders --group coders, then --path build/coders"
REMEDIES = {
    "constriction": "pip install --group bench",
    "compressai": ELSEWHERE,
    "torch_ans": f"{ELSEWHERE} (needs the extra training)",
}
RESULT = Path(__file__).parent / "results" / "coder.json"


@dataclass(frozen=True)
class Speed:
    """Rates of one coder in million symbols a second, best of several runs."""

    name: str
    encode: float
    decode: float
    bytes: int
    note: str = ""


@dataclass(frozen=True)
class Source:
    """Symbols to code: indices, scale indices and tables."""

    k: np.ndarray
    index: np.ndarray
    tables: Tables

    @property
    def cdfs(self) -> list[list[int]]:
        """Cumulative frequencies of the scalar tables, from 0 to 2**15."""
        ends = self.tables.start[: self.tables.scales] + self.tables.sizes[: self.tables.scales]
        rows = zip(self.tables.start.tolist(), ends.tolist(), strict=False)
        return [[0, *np.cumsum(self.tables.freqs[a:b].astype(int)).tolist()] for a, b in rows]


def make_source(n: int) -> Source:
    """Draw normal samples whose scales have the weights of the design's test source."""
    rng = np.random.default_rng(2026)
    tables = parametric_tables(SIGMAS, trellis_step=21)
    weight = np.exp(-0.5 * ((np.log(SIGMAS) - np.log(0.35)) / 0.9) ** 2)
    index = rng.choice(len(SIGMAS), n, p=weight / weight.sum()).astype(np.uint8)
    width = tables.half_width.min(axis=0)[index].astype(np.int32)
    k = np.rint(rng.normal(0, SIGMAS[index])).astype(np.int32)
    return Source(np.clip(k, -width, width), index, tables)


def best(function: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of one call, of at least three and for at least `seconds`."""
    shortest, spent, calls = float("inf"), 0.0, 0
    while calls < 3 or spent < seconds:
        start = time.perf_counter()
        function()
        taken = time.perf_counter() - start
        shortest, spent, calls = min(shortest, taken), spent + taken, calls + 1
    return shortest


def measure(
    name: str,
    n: int,
    seconds: float,
    write: Callable[[], Any],
    read: Callable[[], np.ndarray],
    expected: np.ndarray,
    size: int,
    note: str = "",
) -> Speed:
    """Check that `read` gives back the symbols, then time both."""
    if not np.array_equal(np.asarray(read()), expected):
        raise RuntimeError(f"{name} does not give the symbols back")
    encode_s, decode_s = best(write, seconds), best(read, seconds)
    return Speed(name, round(n / encode_s / 1e6, 2), round(n / decode_s / 1e6, 2), size, note)


def trellic_scalar(source: Source, seconds: float, lanes: int) -> Speed:
    """Measure Trellic without a trellis."""
    segment = Segment(source.k, source.index.astype(np.uint16))
    (data,) = encode([segment], source.tables, lanes)

    def read() -> np.ndarray:
        decoder = Decoder(data, source.tables, lanes)
        k = decoder.scalar(data, source.index)
        decoder.finish()
        return k

    def write() -> object:
        return encode([segment], source.tables, lanes)

    name = f"trellic scalar, {lanes} lanes"
    return measure(name, len(segment.k), seconds, write, read, segment.k, len(data))


def trellic_trellis(source: Source, seconds: float, lanes: int) -> Speed:
    """Measure Trellic with a trellis that chooses the tables as it decodes."""
    moves = next_state(STATES)
    state = np.zeros(lanes, np.uint8)
    cls = np.empty(len(source.k), np.uint16)
    for i in range(0, len(cls), lanes):
        row = source.k[i : i + lanes]
        cls[i : i + lanes] = 1 + (state[: len(row)] & 1)
        state[: len(row)] = moves[state[: len(row)], row & 1]
    segment = Segment(source.k, (cls * source.tables.scales + source.index).astype(np.uint16))
    (data,) = encode([segment], source.tables, lanes)

    def read() -> np.ndarray:
        decoder = Decoder(data, source.tables, lanes)
        k, _ = decoder.trellis(data, source.index, moves)
        decoder.finish()
        return k

    def write() -> object:
        return encode([segment], source.tables, lanes)

    name = f"trellic {STATES}-state trellis, {lanes} lanes"
    return measure(name, len(cls), seconds, write, read, source.k, len(data))


def constriction_gaussian(source: Source, seconds: float) -> Speed:
    """Measure constriction with a scale for each symbol."""
    import constriction

    limit = int(np.abs(source.k).max())
    family = constriction.stream.model.QuantizedGaussian(-limit, limit)
    mean = np.zeros(len(source.k), np.float32)
    scale = SIGMAS[source.index].astype(np.float32)

    def write() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(source.k, family, mean, scale)
        return coder.get_compressed()

    data = write()

    def read() -> np.ndarray:
        return constriction.stream.stack.AnsCoder(data).decode(family, mean, scale)

    note = "computes its own Gaussian tables"
    name = "constriction ANS, QuantizedGaussian"
    return measure(name, len(mean), seconds, write, read, source.k, data.nbytes, note)


def constriction_tables(source: Source, seconds: float) -> Speed:
    """Measure constriction with ready tables, symbols sorted by table beforehand."""
    import constriction

    order = np.argsort(source.index, kind="stable")
    counts = np.bincount(source.index, minlength=len(SIGMAS)).tolist()
    width = source.tables.half_width[0].astype(np.int32)
    symbols = (source.k + width[source.index])[order]
    parts = np.split(symbols, np.cumsum(counts)[:-1])
    model = constriction.stream.model.Categorical
    models = [model(np.diff(np.array(c, float)), perfect=False) for c in source.cdfs]

    def write() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        for part, one in zip(reversed(parts), reversed(models), strict=True):
            coder.encode_reverse(part, one)
        return coder.get_compressed()

    data = write()

    def read() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder(data)
        pairs = zip(models, counts, strict=True)
        return np.concatenate([coder.decode(one, count) for one, count in pairs])

    note = "sorted by table: sorting not timed, impossible with a trellis"
    name = "constriction ANS, Categorical"
    return measure(name, len(order), seconds, write, read, symbols, data.nbytes, note)


def load_compressai() -> ModuleType:
    """Import the compiled coder of CompressAI without the package around it."""
    for folder in sys.path:
        for file in sorted(Path(folder or ".").glob("compressai/ans.*")):
            spec = importlib.util.spec_from_file_location("compressai.ans", file)
            if spec and spec.loader:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ImportError("no compressai/ans.* on the path")


def compressai(source: Source, seconds: float, lists: bool) -> Speed:
    """Measure CompressAI's rANS, with arrays in and out or with its own lists."""
    ans = load_compressai()
    cdfs = [[2 * c for c in row] for row in source.cdfs]  # its precision is 16
    sizes = [len(row) for row in cdfs]
    offsets = (-source.tables.half_width[0].astype(int)).tolist()
    k, index = source.k.tolist(), source.index.tolist()
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()

    def write() -> bytes:
        symbols, which = (k, index) if lists else (source.k.tolist(), source.index.tolist())
        return encoder.encode_with_indexes(symbols, which, cdfs, sizes, offsets)

    data = write()

    def read() -> Any:
        which = index if lists else source.index.tolist()
        out = decoder.decode_with_indexes(data, which, cdfs, sizes, offsets)
        return out if lists else np.array(out, np.int32)

    name = "CompressAI rANS, " + ("lists" if lists else "arrays")
    return measure(name, len(k), seconds, write, read, source.k, len(data))


def torch_ans(source: Source, seconds: float, impl: str, interleaves: int, states: int) -> Speed:
    """Measure one variant of torch_ans on one thread."""
    import torch
    from torch_ans.utils import TorchANSInterface

    torch.set_num_threads(1)
    cdfs = source.cdfs
    longest = max(map(len, cdfs))
    table = torch.tensor([c + [c[-1]] * (longest - len(c)) for c in cdfs], dtype=torch.int32)
    sizes = torch.tensor([len(c) for c in cdfs], dtype=torch.int32)
    offsets = torch.from_numpy(-source.tables.half_width[0].astype(np.int32))
    coder = TorchANSInterface(
        impl=impl,
        num_interleaves=interleaves,
        num_parallel_states=states,
        bypass_coding=False,
        freq_precision=15,
    )
    coder.set_cdfs(table, sizes, offsets)
    k, index = torch.from_numpy(source.k), torch.from_numpy(source.index.astype(np.int32))
    data = coder.encode_with_indexes(k, index)

    def read() -> np.ndarray:
        return coder.decode_with_indexes(data, index).numpy().ravel()[: len(k)]

    def write() -> bytes:
        return coder.encode_with_indexes(k, index)

    name = f"torch_ans {impl} x{interleaves}, {states} states"
    return measure(name, len(k), seconds, write, read, source.k, len(data))


def variants(source: Source, seconds: float) -> list[tuple[str, Callable[[], Speed]]]:
    """Return everything to measure, by package."""
    fitting = choose_lanes(len(source.k) // 16)
    todo: list[tuple[str, Callable[[], Speed]]] = []
    for lanes in sorted({1, 4, 32, fitting}):
        todo.append(("trellic", lambda lanes=lanes: trellic_scalar(source, seconds, lanes)))
        todo.append(("trellic", lambda lanes=lanes: trellic_trellis(source, seconds, lanes)))
    todo += [
        ("constriction", lambda: constriction_gaussian(source, seconds)),
        ("constriction", lambda: constriction_tables(source, seconds)),
        ("compressai", lambda: compressai(source, seconds, lists=False)),
        ("compressai", lambda: compressai(source, seconds, lists=True)),
    ]
    for setting in (
        ("rans32_16", 8, 1),
        ("rans32_16", 8, 4),
        ("rans32_16", 32, 1),
        ("rans64", 8, 1),
        ("rans64", 8, 4),
    ):
        todo.append(("torch_ans", lambda s=setting: torch_ans(source, seconds, *s)))
    return todo


def run(n: int, seconds: float) -> tuple[list[Speed], list[str]]:
    """Measure all; return the speeds and a line for each coder that could not be."""
    source = make_source(n)
    speeds, missing = [], []
    for package, work in variants(source, seconds):
        try:
            speeds.append(work())
        except ImportError as error:
            missing.append(
                f"{package} was not measured: {error}; remedy: {REMEDIES.get(package, 'make demo')}"
            )
            continue
        one = speeds[-1]
        print(f"{one.encode:9.2f} {one.decode:9.2f} {one.bytes:9d}  {one.name}  {one.note}")
    return speeds, sorted(set(missing))


def ratios(speeds: list[Speed]) -> dict[str, float]:
    """Return how many times as fast the 32-lane decoder is as the fastest of each other coder."""
    ours = {s.name: s.decode for s in speeds if ", 32 lanes" in s.name}
    out = {}
    for other in ("constriction ANS, Quant", "constriction ANS, Cat", "CompressAI", "torch_ans"):
        rates = [s for s in speeds if s.name.startswith(other)]
        if rates:
            fastest = max(rates, key=lambda s: s.decode)
            for name, rate in ours.items():
                out[f"{name} / {fastest.name}"] = round(rate / fastest.decode, 2)
    return out


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Speed of the entropy coder on one core.")
    parser.add_argument("--symbols", type=int, default=1 << 18)
    parser.add_argument("--seconds", type=float, default=1.0, help="spent on each measurement")
    parser.add_argument("--path", action="append", default=[], help="folder to import from")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    sys.path += [os.path.abspath(folder) for folder in options.path]
    print("encode and decode in million symbols/s on one core, bytes")
    speeds, missing = run(options.symbols, options.seconds)
    print(*missing, sep="\n", end="\n" if missing else "")
    for name, ratio in ratios(speeds).items():
        print(f"{ratio:6.2f} x  decode of {name}")
    packages = ("numpy", "numba", "constriction", "compressai", "torch_ans", "torch")
    report = {
        "machine": describe(packages),
        "symbols": options.symbols,
        "unit": "million symbols a second, best run, one core",
        "speeds": [asdict(speed) for speed in speeds],
        "decode_ratios": ratios(speeds),
        "not_measured": missing,
    }
    lost = lost_by(report, options.out)
    if lost:
        print(f"{options.out} is left as it is: it has {', '.join(lost)} too; --out names another")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def lost_by(report: dict[str, Any], out: Path) -> list[str]:
    """Coders that an earlier report has and the new one lacks, as they are not installed here."""
    if not out.is_file():
        return []
    earlier = json.loads(out.read_text(encoding="utf-8"))
    own = {speed["name"] for speed in report["speeds"]}
    return [speed["name"] for speed in earlier["speeds"] if speed["name"] not in own]


if __name__ == "__main__":
    main()
