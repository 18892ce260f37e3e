"""Give a model's qualities another scale: that of a recipe's ``lmbda``.

::

    python -m trellic_export.rescale photo-eye OUT weights.pt tuned.pt fast.pt

It takes the weights of a model, of its second stage, and of decoders trained for it. Their tables
over quality are read again where each ``lmbda`` of the recipe was, and the results go to the folder
OUT under the same names. Each ``lmbda`` does what it did before, at another quality.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trellic.errors import BadParameter, TrellicError
from trellic_export.family import model_digest
from trellic_training.cli.train import named, shipped_recipe
from trellic_training.models.decoder_weights import load_decoder, save_decoder
from trellic_training.models.stretch import stretch_tables, stretched
from trellic_training.models.weights import load_weights, save_weights
from trellic_training.recipes.codec import load_recipe
from trellic_training.recipes.lmbda import same_lmbda


def rescale(values: Sequence[float], paths: Sequence[Path], out: Path) -> None:
    """Write weights whose qualities stand for other ``lmbda``.

    Parameters
    ----------
    values : ``lmbda`` at evenly spaced qualities, as of `trellic_training.recipes.lmbda`
    paths : a model first; then its second stages, and decoders of its latents
    out : folder for the results

    Raises
    ------
    BadParameter
        When a file has no weights, does not say its ``lmbda``, or is of another encoder.
    """
    old = model_digest(load_weights(paths[0])[0])
    new = ""
    for path in paths:
        try:
            model, facts = load_weights(path)
        except BadParameter:
            decoder = load_decoder(path)
            if decoder.encoder != old or not new:
                raise BadParameter(f"{path} is for another encoder than {paths[0]}") from None
            stretch_tables(decoder.network, partial(same_lmbda, values, _lmbda(decoder.facts)))
            decoder.encoder, decoder.facts = new, _facts(decoder.facts, values, path)
            save_decoder(decoder, out / path.name)
            continue
        if model_digest(model) != old:
            raise BadParameter(f"{path} has another encoder than {paths[0]}")
        moved = stretched(model, partial(same_lmbda, values, _lmbda(facts)))
        save_weights(moved, _facts(facts, values, path), out / path.name)
        new = model_digest(load_weights(out / path.name)[0])


def _lmbda(facts: dict[str, Any]) -> tuple[float, ...]:
    values = facts.get("recipe", {}).get("lmbda")
    if not values:
        raise BadParameter("weights that do not say the lmbda of their qualities")
    return tuple(values)


def _facts(facts: dict[str, Any], values: Sequence[float], path: Path) -> dict[str, Any]:
    """Facts with the new scale in all recipes, and the file that it was made from."""
    found = copy.deepcopy(facts)
    for part in (found, found.get("finetuning", {})):
        if "recipe" in part:
            part["recipe"]["lmbda"] = list(values)
    return found | {"rescaled_from": named(path) | {"lmbda": facts["recipe"]["lmbda"]}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trellic_export.rescale", description=__doc__)
    parser.add_argument("recipe", type=Path, help="YAML recipe, or the name of a shipped one")
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument("weights", type=Path, nargs="+", help="a model, and what belongs to it")
    options = parser.parse_args(arguments)
    try:
        values = load_recipe(shipped_recipe(options.recipe)).lmbda
        options.out.mkdir(parents=True, exist_ok=True)
        rescale(values, options.weights, options.out)
    except TrellicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
