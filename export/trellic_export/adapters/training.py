r"""Training an adapter on a bundle's own graphs, with its own quantizer and integer networks.

::

    x -> g_a + adapter -> y -> the runtime's search -> y_hat -> g_s + adapter -> x_hat
                           \-> t = y - mean, scale index -> bits of a Gaussian

Gradients pass straight through the quantizer (`trellic_export.coding`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from trellic.errors import BadParameter
from trellic.model import weights
from trellic.model.adapter import ENCODER, Adapter, Facts, Place, Side
from trellic.model.bundle import Bundle
from trellic.model.decoders import DecoderInfo
from trellic.pipeline.rate_control import to_quality16
from trellic_export.adapters.networks import AdaptedGraph, places_of, size_of
from trellic_export.adapters.objective import Objective
from trellic_export.adapters.pacing import paced
from trellic_export.adapters.pictures import Pictures
from trellic_export.adapters.settings import Settings
from trellic_export.coding import Coding
from trellic_training.pixels import PIXEL_RANGE
from trellic_training.recipes.lmbda import lmbda_at

MAIN = "quality"  # the decoder that an adapter begins with
WARM_UP = 20  # steps


class Trainer:
    """Trains the adapter of a bundle.

    Parameters
    ----------
    bundle : the model
    settings : of the training
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.bundle, self.settings = bundle, settings
        self._objective = Objective.of(bundle)
        self._decoders = whole(bundle)
        self._graphs = {ENCODER: bundle.manifest.encoder}
        self._graphs |= {name: info.graph for name, info in self._decoders.items()}
        files = {name: bundle.graph(graph) for name, graph in self._graphs.items()}
        places = self.places(files)
        self.networks = {name: AdaptedGraph(file, places[name]) for name, file in files.items()}
        self._coded = Coding(bundle, settings.states)
        self._distortion = self._objective.distortion(settings.shares)

    @property
    def measure(self) -> str:
        """The measure of pictures: a name of `trellic_training.losses.eye`, or "psnr"."""
        return self._objective.measure

    def places(self, files: dict[str, bytes]) -> dict[str, list[Place]]:
        """Choose what is trained in each graph."""
        return fitting(files, self.settings, parameters(self.bundle))

    def train(self, pictures: Pictures) -> int:
        """Train for the time that the settings give; returns the number of steps."""
        settings, rng = self.settings, np.random.default_rng(self.settings.seed)
        trained = [p for network in self.networks.values() for p in network.parameters()]
        optimizer = torch.optim.Adam(trained, settings.learning_rate)
        steps = 0
        for _ in paced(optimizer, settings, WARM_UP, "adapting"):
            optimizer.zero_grad()
            torch.autograd.backward(self._loss(pictures, rng))
            optimizer.step()
            steps += 1
        return steps

    def adapter(self, name: str) -> Adapter:
        """Return what has been trained so far."""

        def side(names: list[str]) -> Side:
            digests = {n: self.bundle.manifest.sha256[self._graphs[n].file] for n in names}
            parts = {n: self.networks[n].part(digest) for n, digest in digests.items()}
            numbers = np.concatenate([self.networks[n].numbers() for n in names])
            stream_id = self.bundle.manifest.stream_id
            return Side(Facts(name=name, stream_id=stream_id, graphs=parts), numbers)

        return Adapter(side(list(self._decoders)), side([ENCODER]))

    def _loss(self, pictures: Pictures, rng: np.random.Generator) -> Tensor:
        settings = self.settings
        crops = pictures.crops(rng, settings.batch, settings.crop)
        quality16 = to_quality16(float(rng.uniform(*settings.qualities)))
        level = self._coded.level(quality16)
        quality = torch.full((settings.batch,), level.quality)
        f = self.networks[ENCODER]({"image": crops, "quality": quality})
        coded = self._coded(f, level)
        others = [name for name in self._decoders if name != MAIN]
        name = MAIN if not others or rng.random() < settings.main else str(rng.choice(others))
        shown = self.networks[name]({"latents": coded.y_hat, "quality": quality})
        x_hat = (shown / PIXEL_RANGE - 0.5).permute(0, 3, 1, 2)
        x = (crops.float() / PIXEL_RANGE - 0.5).permute(0, 3, 1, 2)
        lmbda = lmbda_at(self._objective.lmbda, quality)
        bpp = coded.bits / settings.crop**2
        cost: Tensor = bpp + self._distortion(x_hat, x, quality, lmbda)
        return (lmbda**settings.weight_exponent * cost).mean()


def whole(bundle: Bundle) -> dict[str, DecoderInfo]:
    """Return the decoders that an adapter changes: of pictures at full size, from all latents.

    Decoders that are mixed with another one were trained for another aim than an adapter is.
    """
    found = {
        name: info
        for name, info in bundle.manifest.decoders.items()
        if info.kind == "picture" and (info.scale, info.channels, info.base) == (1, None, None)
    }
    if MAIN not in found:
        name = bundle.manifest.name
        raise BadParameter(f"model {name!r} has no decoder {MAIN!r}, which an adapter begins with")
    return found


def fitting(files: Mapping[str, bytes], settings: Settings, total: int) -> dict[str, list[Place]]:
    """Choose the places of each graph, by the largest rank that is within the parameters."""
    for rank in range(settings.rank, 0, -1):
        places = {name: places_of(file, rank) for name, file in files.items()}
        count = sum(size_of(files[name], of) for name, of in places.items())
        if count <= settings.share * total:
            return places
    raise BadParameter(
        f"an adapter of {count} parameters of a model of {total}",
        expected=f"at most {100 * settings.share:g} %: the model is too small to be adapted",
    )


def parameters(bundle: Bundle) -> int:
    """Count the parameters of a model: its free transforms and its integer networks."""
    manifest = bundle.manifest
    graphs = [manifest.encoder, manifest.hyper_encoder]
    graphs += [info.graph for info in manifest.decoders.values()]
    free = [weights.constants(bundle.graph(graph)).values() for graph in graphs]
    exact = [layer.weight.size for net in bundle.networks.values() for layer in net.layers]
    return sum(one.size for constants in free for one in constants) + sum(exact)
