"""Trellic in Triton's Python backend: pictures to streams, or streams to pictures.

A copy of this file lies in each model of a repository that ``trellic export --triton`` wrote. It
needs ``trellic`` in the Python that Triton's stub runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils

from trellic.codec import Codec
from trellic.constants import DEFAULT_DECODER, DEFAULT_TRELLIS
from trellic.errors import BadParameter, TrellicError


class Asked(NamedTuple):
    """The content of a request: pictures or streams, and the options for all of them."""

    items: list[Any]
    options: dict[str, Any]


class TritonPythonModel:
    """The class that Triton instantiates."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the codec: on the GPU for instances of ``KIND_GPU``, else with one thread."""
        config = json.loads(args["model_config"])
        settings = {name: one["string_value"] for name, one in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._gpu = args["model_instance_kind"] == "GPU"
        codec = Codec.load(
            folder / settings["model"],
            "cuda" if self._gpu else "cpu",
            threads=1,
            limits="service",
        )
        self._encodes = settings["way"] == "encode"
        if self._encodes:
            codec.warm_up(trellis=DEFAULT_TRELLIS)
            self._code: Any = codec.encode_batch
        else:
            codec.warm_up(decoder=DEFAULT_DECODER)
            self._code = codec.decode_batch

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests; those with the same options go to a GPU together."""
        read = _pictures if self._encodes else _streams
        asked = [_kept(partial(read, request)) for request in requests]
        if self._gpu:
            made = self._together(asked)
        else:
            made = [one if isinstance(one, TrellicError) else self._alone(one) for one in asked]
        return [_response(one, encoded=self._encodes) for one in made]

    def _alone(self, one: Asked) -> list[Any] | TrellicError:
        found: list[Any] | TrellicError = _kept(partial(self._code, one.items, **one.options))
        return found

    def _together(self, asked: list[Asked | TrellicError]) -> list[list[Any] | TrellicError]:
        """Code requests in batches of equal options; if a batch fails, code each alone."""
        made: dict[int, list[Any] | TrellicError] = {}
        groups: dict[str, list[int]] = {}
        for number, one in enumerate(asked):
            if isinstance(one, TrellicError):
                made[number] = one
            else:
                groups.setdefault(repr(one.options), []).append(number)
        for numbers in groups.values():
            members = [one for one in map(asked.__getitem__, numbers) if isinstance(one, Asked)]
            items = [item for one in members for item in one.items]
            found = _kept(partial(self._code, items, **members[0].options))
            for number, one in zip(numbers, members, strict=True):
                if isinstance(found, TrellicError):
                    made[number] = self._alone(one)
                else:
                    made[number], found = found[: len(one.items)], found[len(one.items) :]
        return [made[number] for number in range(len(asked))]


def _kept(function: Any) -> Any:
    """Run a function, and return its error instead of raising it."""
    try:
        return function()
    except TrellicError as error:
        return error


def _input(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _option(request: Any, name: str) -> Any:
    """Return the one value of an option, None where it is not given."""
    values = _input(request, name)
    if values is None:
        return None
    if len({*values.ravel().tolist()}) != 1:
        raise BadParameter(f"several values of {name} in a request", expected="one")
    return values.ravel()[0]


def _pictures(request: Any) -> Asked:
    pictures = _input(request, "IMAGE")
    if pictures.shape[-1] == 1:
        pictures = pictures[..., 0]
    quality = _option(request, "QUALITY")
    return Asked(list(pictures), {} if quality is None else {"quality": float(quality)})


def _streams(request: Any) -> Asked:
    decoder = _option(request, "DECODER")
    streams = [bytes(data) for data in _input(request, "STREAM").ravel()]
    return Asked(streams, {} if decoder is None else {"decoder": decoder.decode()})


def _response(made: list[Any] | TrellicError, *, encoded: bool) -> Any:
    if not isinstance(made, TrellicError) and not encoded and len({one.shape for one in made}) > 1:
        made = BadParameter("streams of several sizes in a request", expected="one size")
    if isinstance(made, TrellicError):
        text = f"{type(made).__name__}: {made}"
        return pb_utils.InferenceResponse(
            error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
        )
    if encoded:
        streams = np.array(made, dtype=object).reshape(-1, 1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("STREAM", streams)])
    pictures = np.stack([one if one.ndim == 3 else one[..., None] for one in made])
    return pb_utils.InferenceResponse([pb_utils.Tensor("IMAGE", pictures)])
