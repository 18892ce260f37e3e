"""Recipes as the runs of shipped weights recorded them, beside the recipes that ship."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import trellic_training.recipes
from trellic_training.recipes.codec import QuantizedRecipe, Recipe
from trellic_training.recipes.decoder import Family

Settings = Mapping[str, Any]
RECIPES = Path(trellic_training.recipes.__path__[0])
APART = {"name", "seed"}
"""What a card names by itself."""


def named(recipe: Settings, decoder: str) -> str | None:
    """Return the recipe whose decoder of that name has just the settings that were recorded."""
    for path in sorted(RECIPES.glob("decoders*.yaml")):
        family = Family(**yaml.safe_load(path.read_text(encoding="utf-8")))
        found = family.decoders.get(decoder)
        if found and not _differ(recipe, found.model_dump(mode="json")):
            return family.name
    return None


def changed(recipe: Settings, name: str) -> list[tuple[str, Any]]:
    """Return the recorded settings that differ from the recipe of that name."""
    path = RECIPES / f"{name}.yaml"
    if not path.is_file() or path.stem.startswith("decoders"):
        return []
    kind = QuantizedRecipe if "quantizers" in recipe else Recipe
    now = kind(**yaml.safe_load(path.read_text(encoding="utf-8")))
    return _differ(recipe, now.model_dump(mode="json"))


def _differ(recorded: Settings, now: Settings) -> list[tuple[str, Any]]:
    """Return what was recorded and is another; settings that came later are not compared."""
    out: list[tuple[str, Any]] = []
    for key, value in recorded.items():
        if key in APART:
            continue
        other = now.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            out += [(f"{key}.{inner}", found) for inner, found in _differ(value, other)]
        elif value != other:
            out.append((key, value))
    return out
