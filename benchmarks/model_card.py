"""The card of a bundle: what it is and how it was trained, read from the bundle itself.

::

    python -m benchmarks.model_card photo

Prints the Markdown that docs/model-*.md hold between their marks (`benchmarks.readme` writes it).
"""

import argparse
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.recorded import changed, named
from trellic.model.bundle import Bundle, find


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a card; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_card", description=__doc__)
    parser.add_argument("model", help="name of an installed model, or a bundle's file")
    print(card(parser.parse_args(arguments).model))
    return 0


def card(model: str) -> str:
    """Return two tables: the model and its stages, then its decoders."""
    bundle = Bundle(find(model))
    return "\n".join([*_model(bundle), "", *_decoders(bundle)])


def _model(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    exact = [manifest.hyper_encoder, *manifest.exact.values()]
    rows = {
        "what": manifest.description or "no description",
        "stream id": f"`{manifest.stream_id}`",
        "size": _size(bundle),
        "kMAC a pixel": f"g_a {manifest.encoder.kmac_per_pixel:.1f}, h_a and integer networks "
        f"{sum(graph.kmac_per_pixel for graph in exact):.1f}; decoders: see below",
        "licence": manifest.licence,
        "first stage": _stage(manifest.training),
    }
    if tuned := manifest.training.get("finetuning"):
        rows["second stage"] = _stage(tuned)
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]


def _decoders(bundle: Bundle) -> list[str]:
    stages = bundle.manifest.training.get("decoders", {})
    rows = ["| decoder | kMAC a pixel | made for | training |", "|---|---:|---|---|"]
    for name, info in bundle.manifest.decoders.items():
        trained = _stage(stages[name], name) if name in stages else "the stages above"
        rows.append(f"| `{name}` | {info.graph.kmac_per_pixel:.1f} | {info.purpose} | {trained} |")
    return rows


def _size(bundle: Bundle) -> str:
    """Size of the file, and how much of it are graphs in other precisions."""
    manifest = bundle.manifest
    graphs = [manifest.encoder, *(info.graph for info in manifest.decoders.values())]
    variants = {file for graph in graphs for file in graph.variants.values()}
    with zipfile.ZipFile(bundle.path) as archive:
        packed = {entry.filename: entry.compress_size for entry in archive.infolist()}
    share = sum(packed[file] for file in variants)
    whole = f"{sum(packed.values()) / 1e6:.1f} MB"
    return f"{whole}, {share / 1e6:.1f} of them graphs in other precisions" if share else whole


def _stage(facts: Mapping[str, Any], decoder: str = "") -> str:
    """Say what a run was: its recipe, seed, steps, time, start, and what was done afterwards."""
    recipe = facts.get("recipe", {})
    name = recipe.get("name") or named(recipe, decoder)
    parts = [f"recipe `{name}`{_own(recipe, name)}"] if name else []
    parts += [f"seed {recipe['seed']}"] if "seed" in recipe else []
    parts += [f"{facts['steps']:,} steps"] if "steps" in facts else []
    runs = f" ({facts['runs']})" if "runs" in facts else ""
    parts += [f"{facts['minutes']:.0f} minutes{runs}"] if "minutes" in facts else []
    if start := facts.get("started_from"):
        parts.append(f"from `{start['file']}` ({start['sha256'][:8]})")
    if "rescaled_from" in facts:
        parts.append("then moved by `python -m trellic_export.rescale`")
    return ", ".join(parts) or "not recorded"


def _own(recipe: Mapping[str, Any], name: str) -> str:
    """Say in which settings a run differs from the recipe of its name as it is now."""
    parts = [
        f"{key} {value}" if isinstance(value, float | int) else f"other {key}"
        for key, value in changed(recipe, name)
    ]
    return f" with {', '.join(parts)}" if parts else ""


if __name__ == "__main__":
    sys.exit(main())
