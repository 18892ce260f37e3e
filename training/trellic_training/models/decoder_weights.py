"""Files of a decoder's weights, small enough for a repository, with all that a bundle needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor

from trellic.errors import BadParameter
from trellic.model.channels import Layout
from trellic_training.data.files import load_marked, reading, save
from trellic_training.models.decoders import Sizes
from trellic_training.models.finite import check_finite, check_trained
from trellic_training.models.photo import PhotoModel
from trellic_training.models.transforms import Chain

VERSION = 1
SIZES: TypeAdapter[Sizes] = TypeAdapter(Sizes)


@dataclass
class TrainedDecoder:
    """A decoder, and all that a bundle's manifest says about it.

    Attributes
    ----------
    sizes : of its layers
    network : its weights, float32
    purpose, base, labels : as in `trellic.model.decoders.DecoderInfo`
    layout : of the latents that it reads
    encoder : digest of the encoder whose latents it was trained on
    facts : of its training
    """

    sizes: Sizes
    network: Chain
    purpose: str
    base: str | None
    labels: list[str] | None
    layout: Layout
    encoder: str
    facts: dict[str, Any]


def save_decoder(decoder: TrainedDecoder, path: Path) -> None:
    """Write a decoder, its weights in float16.

    Raises
    ------
    BadParameter
        When a number is not finite. A file of an earlier call stays as it is.
    """
    state = {n: value.half() for n, value in decoder.network.state_dict().items()}
    check_trained(state, path)
    content = {
        "trellic_decoder": VERSION,
        "sizes": decoder.sizes.model_dump(),
        "purpose": decoder.purpose,
        "base": decoder.base,
        "labels": decoder.labels,
        "layout": decoder.layout.model_dump(),
        "encoder": decoder.encoder,
        "facts": decoder.facts,
        "state": state,
    }
    save(content, path)


def load_decoder(path: Path) -> TrainedDecoder:
    """Read what `save_decoder` wrote.

    Raises
    ------
    BadParameter
        When the file is something else, or of another version, or a number is not finite.
    """
    with reading(path, "holds no decoder"):
        content = load_marked(path, "trellic_decoder", VERSION, "decoder")
        check_finite(content["state"])
        sizes = SIZES.validate_python(content["sizes"])
        layout = Layout.model_validate(content["layout"])
        network = sizes.make(layout, len(content["labels"] or []))
        network.load_state_dict(content["state"])
        kept = {name: content[name] for name in ("purpose", "base", "labels", "encoder", "facts")}
    return TrainedDecoder(sizes, network.float().eval(), layout=layout, **kept)


def state_of_synthesis(path: Path, model: PhotoModel) -> dict[str, Tensor]:
    """Read the weights of a decoder that has the layers of a model's g_s.

    Raises
    ------
    BadParameter
        When the file holds none, or one of another network.
    """
    given, own = load_decoder(path).network.state_dict(), model.g_s.state_dict()
    shapes = [{name: w.shape for name, w in each.items()} for each in (given, own)]
    if shapes[0] != shapes[1]:
        raise BadParameter(
            f"decoder {path} has other layers than g_s of the model",
            expected="one of its whole size, as trellic finetune writes",
        )
    return given
