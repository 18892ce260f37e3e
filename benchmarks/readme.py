"""Write the tables of README.md and of pages in docs/ from the committed results.

::

    python -m benchmarks.readme --check     # exit code 1 if a table differs from its JSON
    python -m benchmarks.readme --write

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; what is between them
is replaced, all else is left alone.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import (
    borders_tables,
    choice_tables,
    curve_tables,
    cut_decoders,
    cutouts,
    decoders_tables,
    drift,
    fleet_tables,
    generations,
    gpu_tables,
    labels_tables,
    laplacian,
    latent_labels_tables,
    model_card,
    perception,
    progressive_tables,
    published,
    quality_scale,
    rd_tables,
    recognition,
    refined_tables,
    screens_tables,
    sensing_tables,
    speed_tables,
    standing,
    tables,
    transcode,
    tuning_tables,
    universal_tables,
    web_tables,
)
from benchmarks._machine import made_on
from benchmarks.ablation import report as ablation_tables
from benchmarks.adapter_tables import adapters, by_quality, pairs
from benchmarks.bdrate import BdRate
from benchmarks.domain_tables import domains
from benchmarks.labels import label
from benchmarks.runs import Comparison
from benchmarks.scores import SCORES
from benchmarks.slim_tables import slim
from benchmarks.video import report as video

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "benchmarks",
            "browser",
            "data-tools",
            "decoders",
            "deploy",
            "domains",
            "experiments/a-inn",
            "experiments/attention",
            "experiments/choice",
            "experiments/coarse-stage",
            "experiments/drawn-screens",
            "experiments/drift",
            "experiments/encoder",
            "experiments/eye",
            "experiments/latent-labels",
            "experiments/learning-curve",
            "experiments/rate-perception",
            "experiments/remote-sensing",
            "experiments/shrinkage",
            "experiments/slices",
            "experiments/video",
            "fine-tuning",
            "gpu",
            "model-cifar",
            "model-photo",
            "model-photo-psnr",
            "progressive",
            "quality",
            "reliability",
            "saving-again",
            "scale",
            "screens",
            "slim",
            "training",
            "universal",
        )
    ),
)
BLOCK = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)
EYE_SETS = ("kodak", "gb82", "validation")
EYE_HOW = rd_tables.How("avif")
EYE_OURS = "trellic:trellis=32"
EYE_SCORES = ("ssimulacra2", "cvvdp", "ms_ssim", "psnr")
EYE_RIVALS = {
    "avif": "AVIF",
    "avif:speed=3": "AVIF, speed 3",
    "jxl:effort=7": "JPEG XL",
    "webp": "WebP",
    "jpegli": "JPEG (jpegli)",
}
SHORT = {published.VTM[0]: "VTM-9.1 (published)", published.VTM[1]: "VTM-9.1 (corrected)"}


class UnknownTableError(ValueError):
    """A page asks for a table that is not drawn here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or write the pages; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="say which pages differ")
    action.add_argument("--write", action="store_true", help="write them")
    options = parser.parse_args(arguments)
    stale = [page for page in PAGES if update(page.read_text(encoding="utf-8"))[1]]
    for page in stale:
        if options.write:
            page.write_text(update(page.read_text(encoding="utf-8"))[0], encoding="utf-8")
        print(f"{page.name}: {'written' if options.write else 'differs from the results'}")
    return int(bool(stale) and options.check)


def update(text: str, results: Path = RESULTS) -> tuple[str, bool]:
    """Return a page with its tables drawn from the results, and whether that changes it.

    Raises
    ------
    UnknownTableError
        It asks for a table that is not among `TABLES`.
    """

    def draw(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise UnknownTableError(f"no table {match[2]!r}; choose from {', '.join(TABLES)}")
        return match[1] + TABLES[match[2]](results) + "\n" + match[4]

    new = BLOCK.sub(draw, text)
    return new, new != text


# ---- rate-distortion ----


def rd_psnr(results: Path) -> str:
    """Draw BD-rates by PSNR on the mean curves: what was run here, against all anchors."""
    run, comparisons = _rd(results)
    ran = {codec["spec"] for codec in run["codecs"]}
    chosen = [c for c in comparisons if c.score == "psnr" and c.codec in ran]
    return f"{tables.markdown(chosen, _name)}\n\n{_range(run)} {_made(run)}"


def eye(results: Path) -> str:
    """Draw how many bits ours needs at equal measure, against others: means over the sets."""
    sets = _eye(results)
    lines = [
        "| at equal | " + " | ".join(f"against {name}" for name in EYE_RIVALS.values()) + " |",
        "|---" + "|---:" * len(EYE_RIVALS) + "|",
    ]
    for score in EYE_SCORES:
        cells = []
        for rival in EYE_RIVALS:
            found = [
                rd_tables.percent(one.codecs[EYE_OURS], one.codecs[rival], score, EYE_HOW)
                for one in sets
            ]
            known = [value for value in found if value is not None]
            whole = len(known) == len(sets)
            cells.append(f"{sum(known) / len(known):+.0f} %" if whole else "-")
        lines.append(f"| {SCORES[score].label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"*{made_on(sets[0].machine)}.*"])


def backgrounds(results: Path) -> str:
    """Draw how much of a white or black background stays exact."""
    run = json.loads((results / "cutouts.json").read_text(encoding="utf-8"))
    return cutouts.markdown([cutouts.Kept(**row) for row in run["kept"]]).rstrip()


def fuzz(results: Path) -> str:
    """Draw how often each target of fuzzing was run, and what was found."""
    known = json.loads((results / "fuzz.json").read_text(encoding="utf-8"))["targets"]
    lines = ["| target | executions | hours | faults |", "|---|---:|---:|---:|"]
    for name, one in known.items():
        hours = one["seconds"] / 3600
        lines.append(f"| `{name}` | {one['executions']:,} | {hours:.1f} | {one['faults']} |")
    total = sum(one["executions"] for one in known.values())
    return "\n".join([*lines, f"| all | {total:,} | | |"])


def eye_sets(results: Path) -> str:
    """Draw BD-rates by what people see: each set, the mean, and the best rival."""
    return rd_tables.page(_eye(results), EYE_HOW, "###").rstrip()


def quality_means(results: Path) -> str:
    """Draw what a quality means: its mean score on each set."""
    found = json.loads((results / "quality-scale.json").read_text(encoding="utf-8"))
    return quality_scale.scale_table([quality_scale.Step(**row) for row in found["scale"]])


def transcoded(name: str) -> Callable[[Path], str]:
    """Return what draws the gain of making files smaller in the latents, not through pixels."""
    return lambda results: transcode.markdown(_load(results / f"{name}.json"))


def generation_loss(way: str) -> Callable[[Path], str]:
    """Return what draws the loss of encoding again and again, in one way."""
    return lambda results: generations.markdown(_load(results / "generations.json"), way)


def quality_equals(results: Path) -> str:
    """Draw the settings of other codecs, and the quality of the same mean score."""
    found = json.loads((results / "quality-scale.json").read_text(encoding="utf-8"))
    return quality_scale.equals_table([quality_scale.Equal(**row) for row in found["equals"]])


def card(model: str) -> Callable[[Path], str]:
    """Return what draws the card of a model, from its bundle."""
    return lambda _: model_card.card(model)


def _eye(results: Path) -> list[rd_tables.PhotoSet]:
    return [rd_tables.read(results / f"rd-eye-{name}.json", EYE_HOW.anchor) for name in EYE_SETS]


def rd_scores(results: Path) -> str:
    """Draw BD-rates by the other scores, against the codecs run here."""
    _, comparisons = _rd(results)
    chosen = {name: [c for c in comparisons if c.score == name] for name in list(SCORES)[1:]}
    parts = [
        f"At equal {SCORES[name].label}:\n\n{tables.markdown(rows, _name)}"
        for name, rows in chosen.items()
        if rows
    ]
    return "\n\n".join(parts) or "*Not in the committed results: they were made with PSNR only.*"


def rd_photos(results: Path) -> str:
    """Draw the mean of the pictures' own BD-rates by PSNR, with its interval."""
    run, comparisons = _rd(results)
    chosen = [c for c in comparisons if c.score == "psnr" and c.per_image is not None]
    return tables.markdown(chosen, _name, detailed=True) + f"\n\n{_made(run)}"


EYE = ("ssimulacra2", "cvvdp", "ms_ssim", "psnr")  # the nearest to what people see first
OURS, ANCHOR = "trellic:decoder=quality:trellis=32", "avif"


def _rd(results: Path) -> tuple[dict[str, Any], list[Comparison]]:
    run = _load(results / "rd-kodak.json")
    comparisons = []
    for row in run["bd_rates"]:
        mean = row["mean_curve"]
        comparisons.append(Comparison(**{**row, "mean_curve": BdRate(**mean) if mean else None}))
    return run, comparisons


def _name(spec: str) -> str:
    """Return how a table calls a codec: ours in bold, published curves short."""
    name = SHORT.get(spec.removesuffix(" (published)"), label(spec))
    return f"**{name}**" if spec.split(":")[0] == "trellic" else name


def _range(run: Mapping[str, Any]) -> str:
    if run["bpp_range"] is None:
        return ""
    low, high = run["bpp_range"]
    return f"\\* The curves do not cover the whole of {low:g} to {high:g} bit/pixel."


# ---- entropy coder and trellis ----


def coder(results: Path) -> str:
    """Draw the speeds of the entropy coder with 32 lanes and of others."""
    run = _load(results / "coder.json")
    rows = [
        (speed["name"], f"{speed['encode']:.0f}", f"{speed['decode']:.0f}", f"{speed['bytes']:,}")
        for speed in run["speeds"]
        if not speed["name"].startswith("trellic") or speed["name"].endswith(", 32 lanes")
    ]
    head = ("coder", "encode, Msymbols/s", "decode, Msymbols/s", "bytes")
    return speed_tables.table(head, rows) + f"\n\nOne core, best run. {_made(run)}"


def gaussian(results: Path) -> str:
    """Draw the excess over the Shannon bound of every quantizer, each at its best step."""
    run = _load(results / "gaussian_rd.json")
    best: dict[str, dict[str, Any]] = {}
    for row in run["results"]:
        if row["excess"] < best.get(row["name"], {"excess": float("inf")})["excess"]:
            best[row["name"]] = row
    rows = [
        (name, f"{row['step']:.2f}", f"{row['excess']:.1f} %", f"{row['expected']:.1f} %")
        for name, row in best.items()
    ]
    head = ("quantizer", "step", "excess, in bytes of the coder", "design's figure")
    return speed_tables.table(head, rows) + f"\n\n{_made(run)}"


# ---- speed ----


def _speed(draw: Callable[[Mapping[str, Any]], str]) -> Callable[[Path], str]:
    def drawn(results: Path) -> str:
        path = results / "speed-kodak.json"
        if not path.is_file():
            return "*Not measured yet: `python -m benchmarks.speed --images kodak`.*"
        run = _load(path)
        return f"{draw(run)}\n\n{_made(run)}"

    return drawn


def big(results: Path) -> str:
    """Draw time and peak memory of large pictures, and the lines fitted to them."""
    path = results / "big.json"
    if not path.is_file():
        return "*Not measured yet: `python -m benchmarks.big --repeat 3`.*"
    run = _load(path)
    parts = ("encode", "decode", "region")
    head = ("megapixels", *(f"{part}, s" for part in parts), *(f"{part}, MB" for part in parts))
    rows = []
    for row in run["results"]:
        seconds = (f"{row[part]['seconds']:.2f}" for part in parts)
        memory = (
            f"{row[part]['peak_bytes'] / 1e6:.0f} ({row[part]['bound'] / 1e6:.0f})"
            for part in parts
        )
        rows.append([f"{row['megapixels']:.1f}", *seconds, *memory])
    lines = (_line(part, run["fits"][part]) for part in ("encode", "decode"))
    return "\n\n".join([speed_tables.table(head, rows), "<br>\n".join(lines), _made(run)])


def _line(part: str, fitted: Mapping[str, Mapping[str, float]]) -> str:
    time, memory = fitted["seconds"], fitted["peak_bytes"]
    return (
        f"{part.capitalize()}: {1e3 * time['fixed']:.0f} ms + {1e3 * time['each']:.0f} ms a "
        f"megapixel (every point within {time['off']:.0%}); {memory['fixed'] / 1e6:.0f} MB + "
        f"{memory['each'] / 1e6:.1f} MB a megapixel (within {memory['off']:.0%})."
    )


# ---- labels ----


def labels_rate(results: Path) -> str:
    """Draw labels that are right at how many bits, straight from latents and from pictures."""
    run = _load(results / "labels-rate.json")
    return f"{labels_tables.markdown(run)}\n\n{_labels_facts(run)} {_made(run)}"


def _labels_facts(run: Mapping[str, Any]) -> str:
    weights, steps = run["weights"], run["steps"]
    return (
        f"{run['test_pictures']:,} test pictures; the classifier of pictures is right for "
        f"{run['untouched']:.1%} of untouched ones; weights {weights['from_latents']:,} (`class`) "
        f"and {weights['from_pictures']:,} (pictures), {steps['from_latents']:,} and "
        f"{steps['from_pictures']:,} training steps."
    )


# ---- what all of them share ----


def _made(run: Mapping[str, Any]) -> str:
    """Say on what, from which commit and when a result was made."""
    machine, earlier = run["machine"], run.get("reused_from")
    taken = f" (points taken over from commit {earlier['commit']})" if earlier else ""
    cores = f"{machine['cores']} core" + ("s" if machine["cores"] != 1 else "")
    return (
        f"*Made on {machine['date'][:10]} from commit {machine['commit']}{taken}, "
        f"{machine['processor']}, {cores}.*"
    )


def _whole(name: str, draw: Callable[[Mapping[str, Any]], str]) -> Callable[[Path], str]:
    """Return what draws a table from one result, and says how it was made."""

    def drawn(results: Path) -> str:
        run = _load(results / f"{name}.json")
        return f"{draw(run)}\n\n{_made(run)}"

    return drawn


def _load(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "eye": eye,
    "cutouts": backgrounds,
    "fuzz": fuzz,
    "eye-sets": eye_sets,
    "quality-means": quality_means,
    "quality-equals": quality_equals,
    "transcode": transcoded("transcode"),
    "transcode-photo-psnr": transcoded("transcode-photo-psnr"),
    **{f"generations-{way}": generation_loss(way) for way in generations.WAYS},
    **{f"card-{model}": card(model) for model in ("photo", "photo-psnr", "cifar")},
    "rd-psnr": rd_psnr,
    "rd-scores": rd_scores,
    "rd-photos": rd_photos,
    "domains": domains,
    "adapters": adapters,
    "slim": slim,
    "standing": standing.drawn,
    "standing-cropped": standing.cropped,
    "adapters-quality": by_quality,
    "adapters-whole": pairs,
    **{f"choice-{name}": _whole("choice", draw) for name, draw in choice_tables.TABLES.items()},
    "coder": coder,
    "gaussian": gaussian,
    "big": big,
    "labels-rate": labels_rate,
    "perception": _whole("perception", perception.markdown),
    "texture": _whole("texture", perception.markdown),
    "laplacian": _whole("laplacian", laplacian.markdown),
    "cut-decoders": _whole("cut-decoders", cut_decoders.markdown),
    "drift": _whole("drift", drift.markdown),
    "recognition": _whole("recognition", recognition.markdown),
    "borders": _whole("borders", borders_tables.markdown),
    "seams": _whole("borders", borders_tables.seam_table),
    "dependence": lambda _: borders_tables.lost(),
    "latent-labels": _whole("latent-labels", latent_labels_tables.markdown),
    "video": _whole("video", video.markdown),
    "video-kinds": _whole("video", video.kinds),
    **fleet_tables.TABLES,
    **gpu_tables.TABLES,
    **progressive_tables.TABLES,
    **universal_tables.TABLES,
    **tuning_tables.TABLES,
    **curve_tables.TABLES,
    **ablation_tables.TABLES,
    **decoders_tables.TABLES,
    **web_tables.TABLES,
    **screens_tables.TABLES,
    **refined_tables.TABLES,
    **sensing_tables.TABLES,
    **{name: _speed(draw) for name, draw in speed_tables.TABLES.items()},
}


if __name__ == "__main__":
    sys.exit(main())
