"""Making a trained model larger without changing what it computes: details, and deeper transforms.

Details are more latents beside the old ones. What the trained model cannot reproduce even without
quantization is regressed on its own features; the strongest directions of that regression
(reduced-rank regression, Izenman 1975) become the detail path of g_a and g_s. The grown model
starts as the old one plus this linear correction. Blocks that a transform has beyond those of the
trained one start as the identity.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.coupling import Denoising
from trellic_training.models.everywhere import GlobalAttention
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.principal import LATENT_SCALE, scale_bias, start_from_components
from trellic_training.models.transforms import DepthBlock, DetailAnalysis, DetailSynthesis

WITH_DETAILS = (DetailAnalysis, DetailSynthesis)
PASSES_ON = (DepthBlock, NeighbourAttention, Denoising, GlobalAttention)  # identity at first
FREE = ("g_a", "h_a", "g_s")  # networks
MIDDLE = 50.0
RIDGE = 1e-4  # of the mean variance of a feature, against directions without any
SMALL = 0.1  # of the largest singular value of g_s's last layer: weaker directions are left alone


def grown(config: ModelConfig, trained: PhotoModel | None, crops: Tensor) -> PhotoModel:
    """Return a model to start a run from: principal components, or a trained model, and details.

    Parameters
    ----------
    config : of the model to be made
    trained : a model of the same sizes, which may lack the details and have fewer blocks; None
        starts from principal components
    crops : (N, 3, H, W) in [-1/2, 1/2], a few hundred, sides multiples of the stride

    Raises
    ------
    ValueError
        When the two models differ in more than that.
    """
    if trained is None:
        trained = PhotoModel(config.without_details())
        start_from_components(trained, crops)
    trained = _deepened(config, trained)
    if trained.config == config:
        return trained
    model = PhotoModel(config)
    _grow(model, trained, crops)
    return model


@torch.no_grad()
def _deepened(config: ModelConfig, trained: PhotoModel) -> PhotoModel:
    """Return a model with a configuration's blocks and modulation, equal to the trained one."""
    changed = ["encoder_blocks", "decoder_blocks", "modulated", "attention", "nonlocal_hyper"]
    changed += ["denoising"] if config.details == trained.config.details else []
    deeper = trained.config.model_copy(update={name: getattr(config, name) for name in changed})
    if deeper == trained.config:
        return trained
    if trained.config.modulated and not config.modulated:
        raise ValueError("the weights' model sees the quality, the recipe's does not")
    model = PhotoModel(deeper)
    _take_over_shared(model, trained)
    for name in FREE:
        _take_over_chain(list(getattr(model, name)), list(getattr(trained, name)))
    return model


def _take_over_shared(model: PhotoModel, trained: PhotoModel) -> None:
    """Copy everything but the free transforms."""
    state = model.state_dict()
    same = {k: v for k, v in trained.state_dict().items() if k.split(".")[0] not in FREE}
    model.load_state_dict(state | same)


def _take_over_chain(own: list[nn.Module], trained: list[nn.Module]) -> None:
    """Copy a chain's weights; blocks that the trained chain lacks start as the identity."""
    rest = list(trained)
    for module in own:
        if isinstance(module, PASSES_ON) and not (rest and type(rest[0]) is type(module)):
            module.pass_on()
            continue
        source = rest.pop(0) if rest else None
        if type(source) is not type(module):
            raise ValueError("the weights' model has more blocks than the recipe's")
        if isinstance(module, WITH_DETAILS) and isinstance(source, WITH_DETAILS):
            _take_over_chain(list(module.trunk), list(source.trunk))
            module.detail.load_state_dict(source.detail.state_dict())
        else:  # without a modulation a block is one that changes nothing
            module.load_state_dict(module.state_dict() | source.state_dict())


@torch.no_grad()
def _grow(model: PhotoModel, trained: PhotoModel, crops: Tensor) -> None:
    """Take over the weights of a model without details and set the details; see `grown`."""
    if not model.config.details or model.config.without_details() != trained.config:
        raise ValueError("the weights' model differs from the recipe's in more than its details")
    quality = torch.full((len(crops),), MIDDLE)  # the same at all of them without a modulation
    decoded = trained.g_s(trained.g_a(crops, quality), quality)
    missing = functional.pixel_unshuffle(crops - decoded, model.config.stem)
    head = trained.g_s[-2]
    decoder = [part for part in model.g_s if not isinstance(part, Denoising)]
    analysis, synthesis = model.g_a[-1], decoder[0]
    if not isinstance(analysis, DetailAnalysis) or not isinstance(synthesis, DetailSynthesis):
        raise TypeError("a model with details has no detail path")
    stem = trained.g_a[: -len(analysis.trunk)](crops)
    encode, decode, mean, deviation = _regress(
        _flat(functional.pixel_unshuffle(stem, 2)),
        _flat(functional.pixel_unshuffle(missing, 2)),
        _four_positions(head.weight.flatten(1)),  # type: ignore[operator]
        model.config.details,
    )
    _take_over(model, trained, deviation)
    _copy(analysis.trunk, list(trained.g_a)[-len(analysis.trunk) :])
    _copy(synthesis.trunk, list(trained.g_s)[: len(synthesis.trunk)])
    _copy(decoder[1:], list(trained.g_s)[len(synthesis.trunk) :])
    analysis.detail.weight.copy_(encode.reshape(analysis.detail.weight.shape))
    synthesis.detail.weight.copy_(decode[:, :, None, None])
    if analysis.detail.bias is not None and synthesis.detail.bias is not None:
        analysis.detail.bias.copy_(-encode @ mean)
        nn.init.zeros_(synthesis.detail.bias)


def _flat(x: Tensor) -> Tensor:
    """Turn (N, C, h, w) into (N h w, C), in double precision."""
    return x.permute(0, 2, 3, 1).flatten(0, 2).double()


def _four_positions(weight: Tensor) -> Tensor:
    """Repeat a matrix at twice the latents' resolution for the four positions in a latent."""
    return torch.kron(weight.double(), torch.eye(4, dtype=torch.float64))


def _regress(
    features: Tensor, missing: Tensor, head: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the details that explain most of what is missing.

    Parameters
    ----------
    features : (n, F)
    missing : (n, P) pixels that the model did not reproduce
    head : (P, U) from the input of g_s's last layer to pixels
    count : number of details

    Returns
    -------
    encode (count, F), decode (U, count), mean of the features (F,), deviations (count,)
    """
    mean = features.mean(0)
    centred = features - mean
    moment = centred.T @ centred / len(centred)
    values, vectors = torch.linalg.eigh(moment)
    values = values + RIDGE * values.mean()
    whiten = vectors * values.rsqrt()
    inverse = torch.linalg.pinv(head, rtol=SMALL)
    reachable = missing @ inverse.T @ head.T
    explained = reachable.T @ (centred @ whiten) / len(centred)
    left, strength, right = torch.linalg.svd(explained, full_matrices=False)
    left, strength, right = left[:, :count], strength[:count], right[:count]
    encode = LATENT_SCALE * (strength[:, None] * right) @ whiten.T
    decode = inverse @ left / LATENT_SCALE
    return encode.float(), decode.float(), mean.float(), (LATENT_SCALE * strength).float()


def _take_over(model: PhotoModel, trained: PhotoModel, deviation: Tensor) -> None:
    """Copy what both models have; new channels get the gains of an average one."""
    old, own = trained.state_dict(), model.state_dict()
    for name, value in own.items():
        if name in old and old[name].shape == value.shape:
            value.copy_(old[name])
    kept = trained.config.latents
    gain = old["gains.log_gain"]
    own["gains.log_gain"].copy_(torch.cat([gain, gain.mean(1, True).expand(-1, len(deviation))], 1))
    context = torch.cat([old["context_log_gain"], (2 / deviation).log()])
    own["context_log_gain"].copy_(context)
    first = own["h_a.0.weight"]
    first.zero_()
    first[:, :kept] = old["h_a.0.weight"]
    bias = model.contexts[-1][-1].scale.bias  # type: ignore[index]
    others = len(bias) - len(deviation)  # channels coded in the details' step, if any
    bias[others:].copy_(scale_bias(deviation, model.config.scales))
    if others:
        heads = trained.contexts[len(model.contexts) - 1][-1]  # type: ignore[index]
        bias[:others].copy_(heads.scale.bias)


def _copy(own: Iterable[nn.Module], trained: list[nn.Module]) -> None:
    """Copy the weights of a chain of modules; their places in the two models differ."""
    for to, source in zip(own, trained, strict=True):
        to.load_state_dict(source.state_dict())
