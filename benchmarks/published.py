"""Published rate-distortion curves on the 24 Kodak photos (benchmarks/anchors.json)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bdrate import Curve

ANCHORS = Path(__file__).with_name("anchors.json")
# Both, always: the first flatters VTM by 1 to 3 %, but it is the one that papers quote.
VTM = ("VTM-9.1 (CompressAI JSON)", "VTM-9.1 (same bits, PSNR against the PNG)")
PLOTTED = (
    VTM[1],
    "ELIC",
    "BPG 4:4:4 x265",
    "mbt2018-mean, one variable-rate model",
)


@dataclass(frozen=True)
class Published:
    """A curve that somebody else measured."""

    name: str
    source: str
    curve: Curve

    @property
    def label(self) -> str:
        """The name, marked as not measured here."""
        return f"{self.name} (published)"


def load() -> list[Published]:
    """Read the published curves."""
    curves = json.loads(ANCHORS.read_text(encoding="utf-8"))["curves"]
    return [
        Published(name, one["source"], Curve(np.array(one["bpp"]), np.array(one["psnr_rgb_db"])))
        for name, one in curves.items()
    ]


def is_kodak(names: list[str]) -> bool:
    """Whether these file names are the whole of the Kodak set."""
    stems = {Path(name).stem.lower() for name in names}
    return stems == {f"kodim{number:02d}" for number in range(1, 25)}
