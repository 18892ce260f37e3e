"""The model, its gains, its rates, and the start from principal components."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_optimizer import SOAP
from torch import nn

from trellic_training.losses.rates import SIGMA_MAX, SIGMA_MIN, bits, scale_ratio
from trellic_training.models.gains import Gains
from trellic_training.models.photo import PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.models.proxies import PROXIES, soft_round, soft_unround
from trellic_training.optimizers import soap
from trellic_training.optimizers.choice import make_optimizer
from trellic_training.optimizers.soap import Soap, orthonormal
from trellic_training.pixels import to_network

SIGMAS = st.floats(SIGMA_MIN, SIGMA_MAX)

# ---- gains ----


def test_gains_are_interpolated_in_the_logarithm():
    gains = Gains(3, 9, 0.5, 8.0)
    with torch.no_grad():
        gains.log_gain.add_(torch.randn(9, 3))
    anchors = torch.linspace(1, 100, 9)
    torch.testing.assert_close(gains.log(anchors)[..., 0, 0], gains.log_gain)
    middle = (anchors[1:] + anchors[:-1]) / 2
    expected = (gains.log_gain[1:] + gains.log_gain[:-1]) / 2
    torch.testing.assert_close(gains.log(middle)[..., 0, 0], expected, rtol=1e-4, atol=1e-4)
    assert gains(anchors).shape == (9, 3, 1, 1)
    torch.testing.assert_close(gains(anchors).log(), gains.log(anchors))


def test_gains_start_between_their_ends_and_go_on_beyond():
    gains = Gains(2, 5, 0.5, 8.0)
    values = gains(torch.tensor([1.0, 50.5, 100.0, 110.0, -8.0]))[:, 0, 0, 0]
    slope = math.log(16) / 99
    expected = [0.5, 2.0, 8.0, 8 * math.exp(10 * slope), 0.5 * math.exp(-9 * slope)]
    torch.testing.assert_close(values, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_gains_learn_only_where_they_are_used():
    gains = Gains(2, 5, 1.0, 1.0)
    gains(torch.tensor([30.0])).sum().backward()
    used = gains.log_gain.grad.abs().sum(1) > 0
    assert used.tolist() == [False, True, True, False, False]


# ---- rates ----


@given(SIGMAS, st.floats(-0.5, 0.5))
def test_rates_are_those_of_a_distribution(sigma, mean):
    k = torch.arange(-1500, 1501, dtype=torch.float64)
    rate = bits(k - mean, torch.full_like(k, sigma))
    assert torch.isfinite(rate).all()
    total = torch.exp2(-rate).sum().item()
    assert 0.98 < total < 1.005


@given(SIGMAS)
def test_outliers_cost_more(sigma):
    x = torch.arange(0, 200, 0.25, dtype=torch.float64)
    rate = bits(x, torch.full_like(x, sigma))
    assert (rate.diff() >= -1e-9).all()
    assert rate[-1] < 41
    torch.testing.assert_close(bits(-x, torch.full_like(x, sigma)), rate)


def test_rates_near_the_entropy():
    rng = np.random.default_rng(0)
    for sigma in (0.3, 1.0, 10.0):
        k = torch.from_numpy(np.rint(rng.normal(0, sigma, 200_000)))
        mean = bits(k, torch.full_like(k, sigma)).mean().item()
        counts = np.unique(k.numpy(), return_counts=True)[1] / len(k)
        entropy = -(counts * np.log2(counts)).sum()
        assert entropy - 0.01 < mean < entropy + 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_have_finite_gradients_everywhere(dtype):
    x = torch.tensor([0.0, 0.3, 0.5, 1, 5, 60, 79, 5000, 1e6], dtype=dtype)
    x, sigma = torch.meshgrid(x, torch.logspace(-1, 2, 7, dtype=dtype), indexing="ij")
    x, sigma = x.clone().requires_grad_(), sigma.clone().requires_grad_()
    bits(x, sigma).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(sigma.grad).all()
    outliers = x.grad[(x > 2) & (x < 20) & (sigma < 1)]
    assert (outliers > 0.01).all()


def test_the_ladder_of_scales():
    assert SIGMA_MIN * scale_ratio(48) ** 47 == pytest.approx(SIGMA_MAX)


# ---- the model ----


def test_the_model_codes_pictures(model):
    x = torch.rand(2, 3, 64, 128) - 0.5
    for training in (True, False):
        output = model.train(training)(x, torch.tensor([10.0, 90.0]))
        assert output.x_hat.shape == x.shape
        for rate in (output.y_bits, output.z_bits):
            assert rate.shape == (2,)
            assert (rate > 0).all()


def test_every_parameter_learns(model):
    crops = torch.rand(2, 3, 128, 128) - 0.5
    output = model(crops, torch.tensor([35.0, 70.0]))
    loss = (output.y_bits + output.z_bits).sum() / 1e4 + 100 * (output.x_hat - crops).square().sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if "hyper_mean" not in name:
            assert parameter.grad.any(), name


def test_steps_partition_the_latents(model):
    steps = model.step_map(4, 6)
    assert steps.shape == (24, 4, 6)
    assert sorted(set(steps.flatten().tolist())) == [0, 1, 2]
    assert steps[0, :2, :2].tolist() == [[0, 1], [1, 0]]
    assert steps[20, :2, :2].tolist() == [[1, 2], [2, 1]]


def test_later_steps_never_reach_earlier_ones(model):
    """What step 1 predicts does not change with latents of steps 1 and 2."""
    model.eval()
    features = torch.randint(0, 128, (1, 16, 6, 6)).float()
    quality = torch.tensor([50.0])
    steps = model.step_map(6, 6)
    y = 20 * torch.randn(1, 24, 6, 6)
    known = y * (steps < 1)
    mean, index = model.parameters_of(1, features, known, quality)
    assert model.steps[1].context == 8
    # channels beyond the context do not matter
    other = known.clone()
    other[:, 8:] += 5
    again, index_again = model.parameters_of(1, features, other, quality)
    assert torch.equal(mean, again)
    assert torch.equal(index, index_again)


def test_buckets_of_hyper_latents_are_those_of_the_format(model):
    q16 = torch.arange(16, 1601)
    size = 100 / 16
    bucket = ((q16 - 8).div(100, rounding_mode="floor")).clamp(0, 15)
    expected = bucket * size + 0.5 + size / 2
    seen = model.hyper_quality(q16 / 16).clamp(max=0.5 + 15.5 * size)
    torch.testing.assert_close(seen, expected)


def test_principal_components_are_a_good_start(model, packed):
    from trellic_training.data.photos import PackedPhotos

    photos = PackedPhotos(packed)
    start_from_components(model, to_network(photos.crops(np.random.default_rng(0), 100, 64)))
    model.eval()
    x = to_network(photos.crops(np.random.default_rng(9), 8, 128))
    with torch.no_grad():
        plain = model.g_s(model.g_a(x))
        coded = model(x, torch.full((8,), 90.0)).x_hat
    for x_hat in (plain, coded):
        assert -10 * (x_hat - x).square().mean().log10() > 25
    # latents come in the order of their energy
    energy = model.g_a(x).square().mean((0, 2, 3))
    assert energy[:4].min() > energy[-12:].max()


def test_the_start_of_a_fine_model_hands_pixels_through(tiny_config, packed):
    """As many latents as samples, and more channels in between than a block of 2 x 2 has."""
    from trellic_training.data.photos import PackedPhotos

    sizes = {"stride": 4, "cell": 2, "wide": 16, "deep": 48}
    group = tiny_config.groups[0].model_copy(update={"channels": 48})
    torch.manual_seed(1)
    model = PhotoModel(tiny_config.model_copy(update=sizes | {"groups": (group,)}))
    crops = PackedPhotos(packed).crops(np.random.default_rng(0), 100, 32)
    start_from_components(model, to_network(crops))
    x = to_network(crops[:8])
    with torch.no_grad():
        f = model.g_a(x)
        assert f.shape == (8, 48, 8, 8)
        assert model.h_a(f).shape[2:] == (4, 4)
        assert -10 * (model.g_s(f) - x).square().mean().log10() > 30
        assert model.eval()(x, torch.full((8,), 90.0)).x_hat.shape == x.shape


def test_a_start_from_one_colour_is_finite(tiny_config):
    model = PhotoModel(tiny_config)
    start_from_components(model, torch.zeros(4, 3, 64, 64))
    output = model(torch.zeros(1, 3, 64, 64), torch.tensor([50.0]))
    assert torch.isfinite(output.x_hat).all()
    assert torch.isfinite(output.y_bits).all()


# ---- optimizers ----


@pytest.mark.parametrize("name", ["adamw", "soap", "muon"])
def test_each_optimizer_makes_steps(model, name):
    optimizer = make_optimizer(model, name, 1e-3)
    names = {id(p): n for n, p in model.named_parameters()}
    chosen = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(chosen) == sorted(names)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    x = torch.rand(2, 3, 128, 128) - 0.5
    for _ in range(3):
        optimizer.zero_grad()
        output = model(x, torch.tensor([30.0, 80.0]))
        (output.x_hat - x).square().mean().add(1e-5 * output.y_bits.mean()).backward()
        optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert {"g_a.1.weight", "g_a.1.bias", "g_s.0.weight", "gains.log_gain"} <= changed
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_settings_of_the_optimizers(model):
    model.h_a.requires_grad_(False)
    parts = nn.ModuleList([model, nn.Linear(2, 4)])  # Muon takes matrices of two inputs, too
    trained = [p for p in parts.parameters() if p.requires_grad]
    made = {name: make_optimizer(parts, name, 0.03) for name in ("adamw", "soap", "muon")}
    for optimizer in made.values():
        chosen = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(chosen) == sorted(map(id, trained))
    (adamw,), (soap_,) = made["adamw"].param_groups, made["soap"].param_groups
    assert (adamw["lr"], adamw["betas"], adamw["weight_decay"]) == (0.03, (0.9, 0.98), 0)
    assert soap_["lr"] == 0.03
    matrices, rest = made["muon"].param_groups
    assert (matrices["use_muon"], matrices["lr"]) == (True, 0.03)
    assert (rest["use_muon"], rest["lr"]) == (False, pytest.approx(0.003))
    assert {p.ndim for p in rest["params"]} > {1}  # kernels of one input channel too
    assert all(p.ndim >= 2 and p.shape[1] > 1 for p in matrices["params"])
    assert not any(p.ndim >= 2 and p.shape[1] > 1 for p in rest["params"])


def test_soap_is_what_the_library_computes_of_matrices():
    shapes = (8, 12), (8, 12), (30, 5), (7,)
    start = [torch.randn(shape) for shape in shapes]
    own, other = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    settings = {"weight_decay": 0.0, "precondition_frequency": 10, "max_precondition_dim": 20}
    optimizers = (
        (own, Soap(own, 1e-2, largest=20)),
        (other, SOAP(other, lr=1e-2, betas=(0.95, 0.95), **settings)),
    )
    for step in range(35):  # new bases three times
        for parameters, optimizer in optimizers:
            generator = torch.Generator().manual_seed(step)
            for p in parameters:
                p.grad = p.detach() + torch.randn(p.shape, generator=generator)
            optimizer.step()
    for p, q, s in zip(own, other, start, strict=True):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-5)
        assert (p - s).abs().mean() > 0.05


def test_soap_takes_kernels_as_matrices_and_resumes():
    kernels = [nn.Parameter(torch.randn(6, 4, 2, 2))]
    matrices = [nn.Parameter(kernels[0].detach().reshape(6, 16).clone())]
    optimizers = Soap(kernels, 1e-2), Soap(matrices, 1e-2)
    for step in range(24):
        gradient = torch.randn(6, 16, generator=torch.Generator().manual_seed(step))
        kernels[0].grad, matrices[0].grad = gradient.reshape(6, 4, 2, 2), gradient
        for optimizer in optimizers:
            optimizer.step()
        if step == 13:
            state = optimizers[1].state_dict()
            optimizers = optimizers[0], Soap(matrices, 1e-2)
            optimizers[1].load_state_dict(state)
    torch.testing.assert_close(kernels[0].reshape(6, 16), matrices[0])


def test_soap_begins_where_most_gradients_are_zero():
    """LAPACK's single precision does not converge on these."""
    generator = torch.Generator().manual_seed(16)
    parameter = nn.Parameter(torch.zeros(49, 2))
    size = 10 ** (-3 - 3 * torch.rand(49, 1, generator=generator))
    used = torch.rand(49, 1, generator=generator) < 0.2
    gradient = torch.randn(49, 2, generator=generator) * size * used
    optimizer = Soap([parameter], 1e-2)
    for _ in range(2):
        parameter.grad = gradient.clone()
        optimizer.step()
    assert parameter.isfinite().all()
    assert parameter.abs().max() > 0


def test_soap_takes_parameters_in_when_they_get_gradients():
    """A later phase may train more, or less: each goes on as if it were alone."""
    together = [nn.Parameter(torch.randn(6, 4)) for _ in range(3)]
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    optimizer, others = Soap(together, 1e-2), [Soap([p], 1e-2) for p in alone]
    for step in range(30):
        trained = [2] if step < 7 else [0, 1, 2] if step < 20 else [1] if step < 25 else [1, 2]
        for i in range(3):
            generator = torch.Generator().manual_seed(10 * step + i)
            gradient = torch.randn(6, 4, generator=generator) if i in trained else None
            together[i].grad, alone[i].grad = gradient, gradient
        for each in (optimizer, *others):
            each.step()
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q)


def test_soap_stands_still_where_nothing_has_a_gradient():
    found = []
    for pause in (0, 3):
        matrix = nn.Parameter(torch.zeros(6, 4))
        optimizer = Soap([matrix], 1e-2, every=5)
        for step in range(20):
            for _ in range(pause if step in (1, 8) else 0):
                matrix.grad = None
                optimizer.step()
            matrix.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
            optimizer.step()
        found.append(matrix.detach())
    torch.testing.assert_close(found[1], found[0])


def test_soap_only_looks_at_first_and_moves_vectors_as_adam_does():
    """By the learning rate at the second step, less where eps is felt."""
    vector = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = Soap([vector], 0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = vector.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 5
    assert vector.tolist() == [1, -2]
    assert optimizer.step(closure) == 5
    assert vector.tolist() == pytest.approx([0.99, -1.99], rel=1e-6)
    assert optimizer.step() is None
    felt = nn.Parameter(torch.zeros(1))
    optimizer = Soap([felt], 0.01, eps=0.5)
    for _ in range(2):
        felt.grad = torch.full((1,), 3.0)
        optimizer.step()
    root = 0.05**0.5  # of what the first of the moving averages has
    assert felt.tolist() == pytest.approx([-0.01 / root * 0.05 * 3 / (root * 3 + 0.5)], rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((4, 5), "left right"),
        ((1, 3), "left right"),
        ((4, 6), "left"),
        ((6, 5), "right"),
        ((7,), ""),
    ],
)
def test_soap_turns_sides_that_are_short_enough(shape, sides):
    matrix = nn.Parameter(torch.randn(shape))
    optimizer = Soap([matrix], 0.01, largest=5)
    matrix.grad = torch.randn(shape)
    optimizer.step()
    state = optimizer.state[matrix]
    assert [side for side in soap.SIDES if f"{side}_basis" in state] == sides.split()
    for side, length in zip(soap.SIDES, shape, strict=False):
        if side in sides:
            product = soap._outer(matrix.grad[None], side)
            torch.testing.assert_close(state[f"{side}_moment"], 0.05 * product)
            basis = state[f"{side}_basis"][0]
            torch.testing.assert_close(basis.T @ basis, torch.eye(length))
            values = (basis.T @ product[0] @ basis).diag()
            assert (values.diff() <= 1e-5).all()  # the largest first


def test_soap_has_its_settings():
    settings = Soap([nn.Parameter(torch.zeros(1))], 0.3).defaults
    expected = {"lr": 0.3, "beta": 0.95, "every": 10, "largest": 256, "eps": 1e-8}
    assert settings == expected


def test_soap_moves_kernels_that_are_channels_last():
    start = torch.randn(6, 4, 3, 3)
    kernels = [nn.Parameter(start.clone()) for _ in range(2)]
    kernels[1].data = kernels[1].data.contiguous(memory_format=torch.channels_last)
    assert not kernels[1].is_contiguous()
    for kernel in kernels:
        optimizer = Soap([kernel], 0.01)
        for step in range(12):
            generator = torch.Generator().manual_seed(step)
            kernel.grad = torch.randn(start.shape, generator=generator)
            optimizer.step()
    torch.testing.assert_close(kernels[1], kernels[0])
    assert (kernels[1] - start).abs().mean() > 0.02


def test_unknown_optimizers_are_refused(model):
    with pytest.raises(ValueError, match="unknown optimizer 'sgd': use one of adamw, soap, muon"):
        make_optimizer(model, "sgd", 1e-3)


# ---- proxies of rounding ----


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_stay_within_a_step_and_pass_gradients(name):
    torch.manual_seed(3)
    x = torch.linspace(-3.3, 3.3, 1000).requires_grad_()
    rate, decoded = PROXIES[name](x)
    assert (rate - x).abs().max() <= 1
    assert (decoded - x).abs().max() <= 1
    decoded.sum().backward()
    assert x.grad is not None
    assert x.grad.mean() == pytest.approx(1, abs=0.1)


def test_soft_rounding_has_an_inverse():
    x = torch.linspace(-2.4, 2.4, 97)
    torch.testing.assert_close(soft_unround(soft_round(x)), x, atol=1e-3, rtol=0)
    assert (soft_round(x) - x.round()).abs().max() <= 0.5 + 1e-6
    assert (soft_round(x, 30.0) - x.round()).abs().median() < 0.02


def test_cholesky_factors_make_bases_as_good_as_those_of_qr():
    """Also of ill-conditioned moments, and of bases that are far from their eigenvectors."""
    torch.manual_seed(0)
    for decay, noise in ((2, 0.3), (6, 0.01), (10, 1.0)):
        q = torch.linalg.qr(torch.randn(3, 48, 48))[0]
        values = 10 ** -torch.linspace(0, decay, 48)
        basis = torch.linalg.qr(q + noise * torch.randn(3, 48, 48) / 7)[0]
        product = (q * values) @ q.mT @ basis
        made = orthonormal(product, torch.full_like(basis, math.nan))
        torch.testing.assert_close(
            made.mT @ made, torch.eye(48).expand(3, -1, -1), atol=1e-4, rtol=0
        )
        expected = torch.linalg.qr(product)[0][..., :8]
        overlap = (expected * made[..., :8]).sum(1).abs()
        assert overlap.min() > 0.999
    spoilt = product.clone()
    spoilt[1] = math.nan
    made = orthonormal(spoilt, basis)
    torch.testing.assert_close(made[1], basis[1])
    assert made.isfinite().all()


def test_bases_are_renewed_from_their_products_with_the_moments(monkeypatch):
    """Both in the order of the eigenvalues, the largest first."""
    given = []
    monkeypatch.setattr(soap, "_renewed", lambda *both: given.append(both) or both[1])
    matrix = nn.Parameter(torch.zeros(6, 6))
    optimizer = Soap([matrix], 0.05, every=3)
    for step in range(4):
        matrix.grad = torch.randn(6, 6, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    ((columns, bases),) = given  # of both sides, which are of one size
    moments = torch.cat([optimizer.state[matrix][f"{side}_moment"] for side in soap.SIDES])
    torch.testing.assert_close(columns, moments @ bases)
    values = (bases * columns).sum(1)
    assert (values.diff() <= 0).all()
    torch.testing.assert_close(bases.mT @ bases, torch.eye(6).expand(2, -1, -1))


def test_a_cpu_renews_bases_by_qr_and_others_by_cholesky_factors(monkeypatch):
    columns, basis = torch.randn(2, 5, 5), torch.randn(2, 5, 5)
    assert torch.equal(soap._renewed(columns, basis), torch.linalg.qr(columns)[0])
    monkeypatch.setattr(soap, "orthonormal", lambda *given: given)
    elsewhere = columns.to("meta")
    found = soap._renewed(elsewhere, basis)
    assert found[0] is elsewhere
    assert found[1] is basis


def test_bases_are_renewed_alike_by_both_ways(monkeypatch):
    torch.manual_seed(2)
    target = torch.randn(12, 8)
    found = []
    for way in (soap._renewed, soap.orthonormal):
        monkeypatch.setattr(soap, "_renewed", way)
        matrix = torch.nn.Parameter(torch.zeros(12, 8))
        optimizer = Soap([matrix], 0.05, every=2)
        for _ in range(40):
            optimizer.zero_grad()
            (matrix - target).square().sum().backward()
            optimizer.step()
        found.append(matrix.detach().clone())
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-3)
    assert (found[0] - target).square().sum() < target.square().sum() / 2
