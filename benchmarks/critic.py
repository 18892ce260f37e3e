"""The distance that a held-out critic sees between photos and what a decoder makes of them.

The Wasserstein-1 distance of two distributions is the largest difference of means that any
1-Lipschitz function has on them (Kantorovich and Rubinstein). A small network with spectral
normalisation (Miyato et al., "Spectral normalization for generative adversarial networks", ICLR
2018) is trained to have a large one on patches of training photos and of the same photos decoded,
and evaluated on other photos. No decoder was trained against it. Its unit is its own: compare
decoders with each other, not with other figures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.codecs import Pixels
from benchmarks.measure import read_pixels

PATCH = 32  # pixels a side
CROP = 512  # pixels a side of a photo that are used, its middle
PHOTOS = 32  # of the training folder at most
STEPS = 250
BATCH = 64  # patches of each kind
RATE = 5e-4
SEED = 11
Pair = tuple[Pixels, Pixels]


def distances(
    pictures: Callable[[Pixels], Mapping[str, Pixels]], train: Sequence[Path], test: Sequence[Path]
) -> Iterator[tuple[str, float]]:
    """Yield each decoder's name and its distance, every one by a critic of its own.

    Parameters
    ----------
    pictures
        Returns what each decoder makes of a photo, at the photo's size.
    train
        Photos that the critics are trained on: `PHOTOS` of them, evenly chosen.
    test
        Photos that they judge.
    """
    known = _pairs(pictures, train[:: max(1, len(train) // PHOTOS)][:PHOTOS])
    unknown = _pairs(pictures, test)
    for name in known:
        yield name, judge(trained(known[name]), unknown[name])


def trained(pairs: Sequence[Pair]) -> nn.Module:
    """Return a critic, high on originals and low on decoded pictures, trained from a fixed seed.

    Parameters
    ----------
    pairs
        Originals and the same pictures decoded, (H, W, 3) uint8.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        critic = _network()
    real, made = (torch.cat([_patches(pair[i]) for pair in pairs]) for i in (0, 1))
    optimizer = torch.optim.Adam(critic.parameters(), RATE, betas=(0.5, 0.9))
    rng = np.random.default_rng(SEED)
    for _ in range(STEPS):
        chosen = torch.from_numpy(rng.integers(0, len(real), BATCH))
        loss = critic(made[chosen]).mean() - critic(real[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return critic.eval()


def judge(critic: nn.Module, pairs: Sequence[Pair]) -> float:
    """Return the critic's mean on originals less that on decoded pictures, over all patches."""
    with torch.inference_mode():
        gaps = [critic(_patches(real)) - critic(_patches(made)) for real, made in pairs]
    return float(torch.cat(gaps).mean())


def _network() -> nn.Module:
    layers: list[nn.Module] = []
    for narrow, wide in ((3, 32), (32, 64), (64, 64)):
        layers += [spectral_norm(nn.Conv2d(narrow, wide, 4, 2, 1)), nn.LeakyReLU(0.2)]
    side = PATCH // 8
    return nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(64 * side * side, 1)))


def _patches(pixels: Pixels) -> Tensor:
    """Cut a picture into squares, float32 (patches, 3, PATCH, PATCH) in [-1, 1]."""
    rows, columns = (side // PATCH for side in pixels.shape[:2])
    whole = torch.from_numpy(pixels[: rows * PATCH, : columns * PATCH].copy()).float() / 127.5 - 1
    squares = whole.reshape(rows, PATCH, columns, PATCH, 3).permute(0, 2, 4, 1, 3)
    return squares.reshape(-1, 3, PATCH, PATCH)


def _pairs(
    pictures: Callable[[Pixels], Mapping[str, Pixels]], photos: Sequence[Path]
) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for path in photos:
        original = _middle(read_pixels(path))
        for name, decoded in pictures(original).items():
            found.setdefault(name, []).append((original, decoded))
    return found


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, side - CROP) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])
