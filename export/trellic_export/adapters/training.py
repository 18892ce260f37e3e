r"""Training an adapter on a bundle's own graphs, with its own quantizer and integer networks.

::

    x -> g_a -> the runtime's search -> y_hat -> pool
                                        pool -> g_s + adapter -> x_hat -> distortion

Only decoders are changed. So files stay what they are without the adapter, and quantized latents
are used several times (`trellic_training.data.pool`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from trellic.errors import BadParameter
from trellic.model import weights
from trellic.model.adapter import Adapter, Facts, Place, Side
from trellic.model.bundle import Bundle
from trellic.model.decoders import DecoderInfo
from trellic.pipeline.rate_control import to_quality16
from trellic_export.adapters.networks import AdaptedGraph, places_of, size_of
from trellic_export.adapters.objective import Objective
from trellic_export.adapters.pacing import paced
from trellic_export.adapters.pictures import Pictures
from trellic_export.adapters.settings import Settings
from trellic_export.coding import Coding
from trellic_export.torch_graph import TorchGraph
from trellic_training.data.pool import Batch, Pool
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
        files = {name: bundle.graph(info.graph) for name, info in self._decoders.items()}
        places = self.places(files)
        self.networks = {name: AdaptedGraph(file, places[name]) for name, file in files.items()}
        self._encoder = TorchGraph(bundle.graph(bundle.manifest.encoder))
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
        pool, steps = Pool(settings.pool, rng), 0
        for _ in paced(optimizer, settings, WARM_UP, "adapting"):
            wanted = settings.first if not pool.samples else int(steps % settings.reuse == 0)
            for _ in range(wanted):
                pool.add(self._quantized(pictures, rng))
            optimizer.zero_grad()
            torch.autograd.backward(self._loss(pool.draw(settings.batch), rng))
            optimizer.step()
            steps += 1
        return steps

    def adapter(self, name: str) -> Adapter:
        """Return what has been trained so far."""
        graphs = {one: info.graph.file for one, info in self._decoders.items()}
        digests = {one: self.bundle.manifest.sha256[file] for one, file in graphs.items()}
        parts = {one: self.networks[one].part(digest) for one, digest in digests.items()}
        numbers = np.concatenate([self.networks[one].numbers() for one in digests])
        facts = Facts(name=name, stream_id=self.bundle.manifest.stream_id, graphs=parts)
        return Adapter(Side(facts, numbers))

    @torch.no_grad()
    def _quantized(self, pictures: Pictures, rng: np.random.Generator) -> Batch:
        """Quantize crops as the encoder does, all at one quality: for the pool."""
        settings = self.settings
        crops = pictures.crops(rng, settings.batch, settings.crop)
        level = self._coded.level(to_quality16(float(rng.uniform(*settings.qualities))))
        quality = torch.full((settings.batch,), level.quality)
        f = self._encoder({"image": crops, "quality": quality})[0]
        return {"x": crops, "y_hat": self._coded(f, level).y_hat, "quality": quality}

    def _loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Weighted distortion of pictures that one of the decoders makes."""
        settings = self.settings
        others = [name for name in self._decoders if name != MAIN]
        name = MAIN if not others or rng.random() < settings.main else str(rng.choice(others))
        quality = batch["quality"]
        shown = self.networks[name]({"latents": batch["y_hat"], "quality": quality})
        x_hat = (shown / PIXEL_RANGE - 0.5).permute(0, 3, 1, 2)
        x = (batch["x"].float() / PIXEL_RANGE - 0.5).permute(0, 3, 1, 2)
        lmbda = lmbda_at(self._objective.lmbda, quality)
        distortion: Tensor = self._distortion(x_hat, x, quality, lmbda)
        return (lmbda**settings.weight_exponent * distortion).mean()


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
