"""What recipes add to a loss: the cross entropy of a frozen classifier, the verdict of a critic."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic.errors import BadParameter
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.critic import Critic
from trellic_training.models.picture_classifier import load_classifier
from trellic_training.models.precision import bfloat16
from trellic_training.recipes.terms import Classification, CriticSettings


class ClassificationTerm(nn.Module):
    """A classifier of pictures that never changes: gradients pass through it to the pictures.

    Raises
    ------
    BadParameter
        When the recipe's file holds no classifier.
    """

    def __init__(self, settings: Classification) -> None:
        super().__init__()
        self.file, self.lambda_c = settings.classifier, settings.lambda_c
        trained = load_classifier(self.file)
        self.labels, self.side = trained.labels, trained.side
        self.network = trained.network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> ClassificationTerm:
        """Stay as in use: statistics of its batch normalisation do not move."""
        return super().train(False)

    def check(self, pack: PackedPhotos, crops: Iterable[int]) -> None:
        """Check that pictures to train on are of the classifier's labels and size.

        Raises
        ------
        BadParameter
            When they are not.
        """
        pack.check_labelled(1)
        if pack.labels != self.labels:
            raise BadParameter(
                f"the photos have the labels {', '.join(pack.labels[:5])} ...",
                expected=f"those of {self.file}: {', '.join(self.labels[:5])} ...",
                remedy="train a classifier on these photos",
            )
        wrong = [crop for crop in crops if crop != self.side]
        if wrong:
            raise BadParameter(
                f"the recipe has crops of {wrong[0]} pixels",
                expected=f"{self.side}, as the pictures that {self.file} was trained on",
            )

    def forward(self, x_hat: Tensor, label: Tensor, show: Callable[[str, Tensor], None]) -> Tensor:
        """Return ``lambda_c`` times the cross entropy, in nats, of each picture: (N,).

        Parameters
        ----------
        x_hat : (N, 3, H, W), decoded
        label : (N,), what they show
        show : is told the mean cross entropy
        """
        if not self.lambda_c:
            return x_hat.new_zeros(len(x_hat))
        logits: Tensor = self.network(x_hat.clamp(-0.5, 0.5)).float()
        entropy = functional.cross_entropy(logits, label, reduction="none")
        show("cross_entropy", entropy.detach().mean())
        return self.lambda_c * entropy


class LearningCritic(Critic):
    """A critic with an optimizer of its own, which learns beside what it judges.

    Parameters
    ----------
    pictures : how many it is given at once: the one that it judges, and others beside it
    """

    def __init__(self, settings: CriticSettings, pictures: int, autocast: bool) -> None:
        super().__init__(settings.hidden, pictures)
        self.settings, self.autocast = settings, autocast
        self.optimizer = torch.optim.Adam(
            self.parameters(), settings.learning_rate, betas=(0.5, 0.9)
        )

    def verdict(self, picture: Tensor, *beside: Tensor) -> Tensor:
        """Verdicts (N, 1, h, w), high for what looks like a photo."""
        with bfloat16(picture.device.type, self.autocast):
            found: Tensor = self(picture, *beside).float()
        return found

    def learn(self, x: Tensor, x_hat: Tensor, *beside: Tensor) -> Tensor:
        """Make one step of the hinge loss; returns how far apart the verdicts are."""
        real, made = self.verdict(x, *beside), self.verdict(x_hat.detach(), *beside)
        loss = functional.relu(1 - real).mean() + functional.relu(1 + made).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return (real.mean() - made.mean()).detach()

    def belief(self, x_hat: Tensor, *beside: Tensor) -> Tensor:
        """Mean verdict of each decoded picture (N,): its gradient reaches the picture alone."""
        self.requires_grad_(False)
        found = self.verdict(x_hat, *beside).mean((1, 2, 3))
        self.requires_grad_(True)
        return found
