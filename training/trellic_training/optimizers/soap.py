"""SOAP: Adam in the eigenbases of Shampoo's preconditioners, matrices of one shape at a time.

Vyas et al. 2024, "SOAP: Improving and stabilizing Shampoo using Adam" (arXiv 2409.11321). On a
matrix this computes the same as ``pytorch_optimizer.SOAP`` (tests compare the two), in a third of
its time on a CPU. Kernels of convolutions are matrices (filters by inputs, not tensors of four
dimensions), equal shapes go through one batched product, and the momentum stays in the eigenbasis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

SIDES = ("left", "right")
TINY = 1e-30
SHIFTS = (1e-5, 1e-5, 1e-6, 0.0)  # of unit columns' products, pass by pass


class Soap(torch.optim.Optimizer):
    """Adam in slowly turning eigenbases; vectors get plain Adam.

    Parameters
    ----------
    parameters : to be trained; more than two dimensions are viewed as (first, all others)
    lr : learning rate
    beta : memory of both moments and of the preconditioners
    every : steps between new eigenbases
    largest : sides longer than this keep their own basis ("one-sided" in the paper)
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        beta: float = 0.95,
        every: int = 10,
        largest: int = 256,
        eps: float = 1e-8,
    ) -> None:
        settings = {"lr": lr, "beta": beta, "every": every, "largest": largest, "eps": eps}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all parameters that have a gradient; the first step only looks at it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            due = []
            for shape, members in self._cohorts(group["params"]).items():
                if self._move(group, shape[1:], members):
                    due.append(self.state[members[0]])
            _renew(due)
        return loss

    def _cohorts(self, parameters: list[Tensor]) -> dict[tuple[int, ...], list[Tensor]]:
        """Group the parameters that move together, by the index of the first and their shape.

        The parameters of a group have one shape and got their first gradient in the same step. The
        first of them holds the state of all.
        """
        started: dict[tuple[int, ...], int] = {}
        cohorts: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for place, p in enumerate(parameters):
            shape = _matrix_shape(p)
            if "leader" not in self.state[p]:
                if p.grad is None:
                    continue
                self.state[p]["leader"] = started.setdefault(shape, place)
            cohorts[self.state[p]["leader"], *shape].append(p)
        return cohorts

    def _move(self, group: dict[str, Any], shape: tuple[int, ...], members: list[Tensor]) -> bool:
        """Make one step of a cohort; parameters without a gradient stay where they are.

        Returns whether its bases are due to be renewed.
        """
        if all(p.grad is None for p in members):
            return False
        gradient = torch.stack(
            [p.new_zeros(shape) if p.grad is None else p.grad.reshape(shape) for p in members]
        )
        state = self.state[members[0]]
        if "step" not in state:
            self._begin(state, group, gradient)
            return False
        state["step"] += 1
        beta = group["beta"]
        turned = _turn(gradient, state)
        state["mean"].lerp_(turned, 1 - beta)
        state["square"].lerp_(turned.square(), 1 - beta)
        update = _turn_back(state["mean"] / (state["square"].sqrt() + group["eps"]), state)
        forgotten = beta ** state["step"]
        size = group["lr"] * (1 - forgotten) ** 0.5 / (1 - forgotten)
        moved = [pair for pair in zip(members, update, strict=True) if pair[0].grad is not None]
        targets = [_as_matrix(p, shape) for p, _ in moved]
        pairs = zip(targets, moved, strict=True)
        changes = [change.reshape(target.shape) for target, (_, change) in pairs]
        torch._foreach_sub_(targets, changes, alpha=size)
        for side, outer in _outer_products(gradient, state).items():
            state[f"{side}_moment"].lerp_(outer, 1 - beta)
        return bool(state["step"] % group["every"] == 0)

    def _begin(self, state: dict[str, Any], group: dict[str, Any], gradient: Tensor) -> None:
        state["step"] = 0
        state["mean"] = torch.zeros_like(gradient)
        state["square"] = torch.zeros_like(gradient)
        if gradient.ndim < 3:
            return
        for side, length in zip(SIDES, gradient.shape[1:], strict=True):
            if length <= group["largest"]:
                moment = (1 - group["beta"]) * _outer(gradient, side)
                state[f"{side}_moment"] = moment
                state[f"{side}_basis"] = _basis(moment)


def _basis(moment: Tensor) -> Tensor:
    """Eigenvectors, the largest eigenvalue's first: (..., n, n)."""
    try:
        vectors: Tensor = torch.linalg.eigh(moment)[1]
    except RuntimeError:  # single precision may not converge where most gradients are 0
        vectors = torch.linalg.eigh(moment.double())[1].to(moment.dtype)
    return vectors.flip(-1)


def _matrix_shape(p: Tensor) -> tuple[int, ...]:
    return (p.numel(),) if p.ndim < 2 else (p.shape[0], p[0].numel())


def _as_matrix(p: Tensor, shape: tuple[int, ...]) -> Tensor:
    """View a parameter as a matrix where its memory allows, so that one operation moves all."""
    try:
        return p.view(shape)
    except RuntimeError:  # a kernel of several taps, channels last
        return p


def _turn(matrices: Tensor, state: dict[str, Any]) -> Tensor:
    """Turn matrices into the eigenbases."""
    if "left_basis" in state:
        matrices = state["left_basis"].mT @ matrices
    return matrices @ state["right_basis"] if "right_basis" in state else matrices


def _turn_back(matrices: Tensor, state: dict[str, Any]) -> Tensor:
    if "left_basis" in state:
        matrices = state["left_basis"] @ matrices
    return matrices @ state["right_basis"].mT if "right_basis" in state else matrices


def _outer(gradient: Tensor, side: str) -> Tensor:
    return gradient @ gradient.mT if side == "left" else gradient.mT @ gradient


def _outer_products(gradient: Tensor, state: dict[str, Any]) -> dict[str, Tensor]:
    return {side: _outer(gradient, side) for side in SIDES if f"{side}_moment" in state}


def _renew(states: list[dict[str, Any]]) -> None:
    """One power iteration of each basis; moments of the gradient follow it.

    Bases of one size are renewed together, whatever the shapes that they belong to.
    """
    means = [_turn_back(state["mean"], state) for state in states]
    sizes: dict[int, list[tuple[dict[str, Any], str]]] = defaultdict(list)
    for state in states:
        for side in SIDES:
            if f"{side}_basis" in state:
                sizes[state[f"{side}_basis"].shape[-1]].append((state, side))
    for places in sizes.values():
        basis = torch.cat([state[f"{side}_basis"] for state, side in places])
        product = torch.cat([state[f"{side}_moment"] for state, side in places]) @ basis
        order = (basis * product).sum(1).argsort(descending=True)
        renewed = _renewed(_permuted(product, order, 2), _permuted(basis, order, 2))
        counts = [len(state[f"{side}_basis"]) for state, side in places]
        parts = zip(places, torch.split(renewed, counts), torch.split(order, counts), strict=True)
        for (state, side), own, mine in parts:
            state["square"] = _permuted(state["square"], mine, 1 + SIDES.index(side))
            state[f"{side}_basis"] = own
    for state, mean in zip(states, means, strict=True):
        state["mean"] = _turn(mean, state)


def _renewed(columns: Tensor, basis: Tensor) -> Tensor:
    """Return orthonormal columns by the faster way: QR on a CPU, Cholesky factors elsewhere."""
    if columns.device.type == "cpu":
        vectors: Tensor = torch.linalg.qr(columns)[0]
        return vectors
    return orthonormal(columns, basis)


def orthonormal(columns: Tensor, otherwise: Tensor) -> Tensor:
    """Make columns orthonormal, from the first on, as QR does: (..., n, n).

    It uses Cholesky factors of their products (shifted CholeskyQR, Fukaya et al. 2020), a few
    operations for all matrices; QR takes them one by one on a GPU. A matrix for which that fails
    becomes ``otherwise``. Nothing waits for the device.
    """
    result: Tensor = columns / columns.norm(dim=-2, keepdim=True).clamp_min(TINY)
    unit = torch.eye(columns.shape[-1], dtype=columns.dtype, device=columns.device)
    for shift in SHIFTS:
        factor, fault = torch.linalg.cholesky_ex(result.mT @ result + shift * unit)
        solved = torch.linalg.solve_triangular(factor.mT, result, upper=True, left=False)
        result = torch.where((fault == 0)[..., None, None], solved, otherwise)
    return result


def _permuted(matrices: Tensor, order: Tensor, axis: int) -> Tensor:
    """Reorder one axis of each matrix of (n, rows, columns) by its own order (n, length)."""
    index = order[:, :, None] if axis == 1 else order[:, None, :]
    return matrices.take_along_dim(index, axis)
