"""Digits of one stream by several decoders, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from trellic_training.data.files import load, reading
from trellic_training.universal.jobs import Job
from trellic_training.universal.measure import decode_all
from trellic_training.universal.networks import SIDE, Decoder, Encoder
from trellic_training.universal.quantizer import DitheredQuantizer

COLUMNS = 16


def draw_digits(
    jobs: Iterable[Job], models: Path, width: float, images: Tensor, path: Path
) -> None:
    """Write a PNG: originals above, then a row for each decoder of the finished jobs.

    Parameters
    ----------
    jobs : whose decoders to show; those without weights are left out
    models : folder of weights
    width : of the decoders
    images : float32 (N, 1, 28, 28); the first are shown
    path : of the picture; decoders are named at the left
    """
    from matplotlib.figure import Figure

    rows = {"original": images[:COLUMNS]}
    for job in jobs:
        rows.update(_decoded(job, models / f"{job.name}.pt", width, images[:COLUMNS]))
    figure = Figure(figsize=(9, 0.5 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 1, squeeze=False).ravel()
    for axes, (label, row) in zip(panels, rows.items(), strict=True):
        strip = row.permute(2, 0, 3, 1).reshape(SIDE, -1).numpy()
        axes.imshow(1 - strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks([SIDE / 2], [label], fontsize=7)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)


def _decoded(job: Job, weights: Path, width: float, images: Tensor) -> dict[str, Tensor]:
    if not weights.is_file():
        return {}
    encoder, quantizer = Encoder(job.latent[0]), DitheredQuantizer(*job.latent)
    decoders = nn.ModuleList(Decoder(job.latent[0], width) for _ in job.targets)
    with reading(weights, "holds no model of this report"):
        stored = load(weights)
        encoder.load_state_dict(stored["encoder"])
        decoders.load_state_dict(stored["decoders"])
    rows = {}
    for target, decoder in zip(job.targets, decoders, strict=True):
        label = " ".join(f"{k[0]}={v:g}" for k, v in target.model_dump().items() if v) or "MSE"
        rows[f"{job.encoder or job.name}\n{label}"] = decode_all(
            encoder.eval(), decoder.eval(), quantizer, images
        )
    return rows
