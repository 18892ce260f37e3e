"""Make an adapter of the tiny model, and golden streams that name or hold it.

Run once, from the repository's root: ``python -m tests.data.make_adapter``. It writes no file that
is there: what they decode to is decided by the format and the model for ever.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.data.make_dither import scene

from trellic.codec import Codec
from trellic.model import weights
from trellic.model.adapter import ENCODER, SUFFIX, Adapter, Facts, Part, Place, Side
from trellic.model.bundle import Bundle

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden"
TINY = FOLDER / "tiny.zip"
ADAPTER = GOLDEN / f"adapter{SUFFIX}"


def made(bundle: Bundle, name: str = "test", seed: int = 5, spread: float = 0.02) -> Adapter:
    """Return an adapter of random numbers for the encoder and the decoder ``quality``."""
    rng = np.random.default_rng(seed)
    graphs = {
        ENCODER: bundle.manifest.encoder,
        "quality": bundle.manifest.decoders["quality"].graph,
    }
    sides = []
    for names in ([ENCODER], ["quality"]):
        parts, numbers = {}, []
        for graph in names:
            known = weights.constants(bundle.graph(graphs[graph]))
            places = places_of(known)
            count = sum(place.size(known[place.constant].shape) for place in places)
            digest = bundle.manifest.sha256[graphs[graph].file]
            parts[graph] = Part(sha256=digest, numbers=count, places=places)
            numbers.append((spread * rng.standard_normal(count)).astype(np.float16))
        facts = Facts(name=name, stream_id=bundle.manifest.stream_id, graphs=parts)
        sides.append(Side(facts, np.concatenate(numbers)))
    return Adapter(sides[1], sides[0])


def places_of(known: dict[str, weights.Constant]) -> list[Place]:
    """Choose two convolutions, by a rank, and two vectors."""
    pointwise = [name for name, one in known.items() if len(one.shape) == 4 and one.shape[1] > 8]
    vectors = [name for name, one in known.items() if len(one.shape) == 1 and one.size > 8]
    ranks = [Place(constant=name, rank=2) for name in pointwise[:2]]
    return ranks + [Place(constant=name, rank=0) for name in vectors[:2]]


def main() -> None:
    """Write what is missing."""
    adapter = made(Bundle(TINY))
    codecs = {
        f"adapter{ending}": Codec.load(TINY, "cpu", adapter=adapter, embed_adapter=bool(ending))
        for ending in ("", "-embedded")
    }
    files = {ADAPTER.name: adapter.to_bytes()}
    for name, codec in codecs.items():
        files[f"{name}.tlc"] = codec.encode(scene(90, 120), quality=70, trellis=8)
    for name, data in files.items():
        if not (GOLDEN / name).exists():
            (GOLDEN / name).write_bytes(data)


if __name__ == "__main__":
    main()
