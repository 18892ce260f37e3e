"""The mixture of measures: CVVDP's own version, what each term adds, its slopes, flat white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_msssim import ms_ssim
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trellic.errors import BadParameter
from trellic_training.losses import jod
from trellic_training.losses.eye import (
    ERRORS,
    Distortion,
    decibels,
    flat_error,
    measures,
    ms_ssim_error,
    within_the_edge,
)
from trellic_training.losses.jod import jod_lost
from trellic_training.losses.reference import COLUMNS, ReferenceCurve, read_reference
from trellic_training.pixels import PIXEL_RANGE, to_network

OSPREY = Path(__file__).parents[2] / "samples" / "osprey.png"
SHARES = {"squared_error": 0.4, "ssimulacra2": 0.2, "ms_ssim": 0.15, "jod": 0.25}
QUALITY, LMBDA = torch.tensor([30.0, 80.0]), torch.tensor([0.004, 0.08])


def osprey() -> np.ndarray:
    with Image.open(OSPREY) as image:
        return np.asarray(image.convert("RGB"))[100:356, 200:520].astype(np.int64)


def tensor(pixels: np.ndarray) -> Tensor:
    return to_network(torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))[None])


# JOD by the package cvvdp 0.5.7, display standard_4k, of the crop and these versions of it.
RECORDED = [
    (lambda im: im // 24 * 24 + 12, 9.083629608154297),
    (lambda im: np.roll(im, 1, 1), 8.483511924743652),
    (lambda im: im // 6 * 6 + 3, 9.983635902404785),
]


@pytest.mark.parametrize(("change", "jod"), RECORDED)
def test_jod_is_that_of_the_package(change, jod):
    lost = jod_lost(tensor(change(osprey())), tensor(osprey()))
    assert 10 - lost.item() == pytest.approx(jod, abs=1e-4)


def test_jod_follow_a_power_of_the_error_and_a_line_near_0():
    """The line meets the power at an error of 0.1."""
    points = jod._points(torch.tensor([0.0, 0.05, 0.1, 0.2, 3.0])).tolist()
    power = [0.0439569391310215 * error**0.9302042722702026 for error in (0.1, 0.2, 3.0)]
    assert points == pytest.approx([0, power[0] / 2, *power], rel=1e-5)


def test_sensitivities_lie_on_lines_between_those_of_the_table():
    """Beyond its luminances those at its ends hold; one factor corrects all."""
    luminances, bands = jod._table()
    last = len(luminances) - 1
    for band in (0, 3, jod.BANDS):
        for at in (-2.0, 0.0, 0.5, 7.25, last - 0.25, float(last), last + 2.0):
            step = (luminances[-1] - luminances[0]) / last
            light = torch.full((1, 1, 2, 2), 10 ** (luminances[0] + step * at))
            inside = min(max(at, 0), last)
            expected = [
                10 ** (np.interp(inside, range(last + 1), channel) - 0.2797423303127289 / 20)
                for channel in bands[band]
            ]
            found = jod._sensitivity(light, band)
            assert found.shape == (1, 3, 2, 2)
            assert found[0, :, 1, 0].tolist() == pytest.approx(expected, rel=1e-3)


def test_black_and_white_are_those_of_the_display():
    """Of 200 cd/m2 at a contrast of 1000:1, in a room that adds 0.4; between them sRGB's curve."""
    grey = torch.tensor([0, 10, 128, 255, 300]) / 255 - 0.5
    shown = jod._shown(grey.view(5, 1, 1, 1).expand(5, 3, 2, 2))[:, 0, 1, 0]
    black, white = float(shown[0]), float(shown[3])
    assert (white / black) == pytest.approx(200.398 / 0.598, rel=1e-3)
    shares = ((shown - black) / (white - black)).tolist()
    assert shares == pytest.approx([0, 0.0030353, 0.2158605, 1, 1], rel=1e-3, abs=1e-6)
    assert torch.equal(jod._shown(torch.full((1, 3, 2, 2), -0.7))[:, 0, 1, 0], shown[:1])


@pytest.mark.parametrize(
    ("size", "bands"),
    [((16, 40), 3), ((40, 16), 3), ((31, 31), 3), ((32, 32), 4), ((64, 64), 4)],
)
def test_bands_end_where_a_side_is_short(size, bands, monkeypatch):
    """Of more than four, which are the most here, the last ones do not count."""
    monkeypatch.setattr(jod, "BANDS", 4)
    looked_at = []
    monkeypatch.setattr(jod, "_masked", lambda test, _: looked_at.append(test) or test)
    x = torch.zeros(1, 3, *size)
    jod_lost(x, x)
    assert len(looked_at) == bands


def test_each_picture_has_its_own_jod():
    x = torch.cat([tensor(osprey()[:64, :64]), tensor(osprey()[90:154, 90:154])])
    worse = 0.8 * x + torch.tensor([0.02, 0, -0.05]).view(3, 1, 1)
    alone = [float(jod_lost(one[None], other[None])) for one, other in zip(worse, x, strict=True)]
    assert jod_lost(worse, x).tolist() == pytest.approx(alone, rel=1e-4)
    assert abs(alone[0] - alone[1]) > 0.05


def flat_colours() -> tuple[Tensor, Tensor]:
    """Two opponent colours of 100 cd/m2 whose contrasts differ by 0.1 and -0.2."""
    test, photo = torch.tensor([[100.0, 15, 10], [100.0, 5, 30]])[:, None, :, None, None]
    return test.expand(-1, -1, 4, 4), photo.expand(-1, -1, 4, 4)


def test_what_is_left_of_the_pyramid_counts_by_its_contrasts():
    """Each picture's by its own mean luminance; they are seen as at the photo's."""
    test, photo = flat_colours()
    seen = jod._sensitivity(torch.full((1, 1, 1, 1), 100.0), jod.BANDS).flatten().tolist()
    expected = [0, 0.1 * seen[1], 0.2 * seen[2]]
    assert jod._base(test, photo)[0].tolist() == pytest.approx(expected, rel=0.02, abs=1e-3)
    brighter = torch.cat([2 * test, test])
    both = jod._base(brighter, torch.cat([photo, photo]))
    torch.testing.assert_close(both[0], both[1])


def test_channels_and_bands_are_summed_in_fourth_powers():
    """Of flat pictures only what is left of the pyramid differs."""
    x_hat, x = (
        torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 32, 32)
        for colour in ([0.5, -0.5, -0.5], [0.0, 0, 0])
    )
    test, photo = jod._shown(x_hat), jod._shown(x)
    channels = jod._base(test, photo)[0] * torch.tensor(jod.BASE_WEIGHT)
    expected = jod._points(jod.STILL * channels.pow(4).sum() ** 0.25)
    assert float(jod_lost(x_hat, x)) == pytest.approx(float(expected), rel=0.02)
    assert expected > 0.5


@pytest.mark.parametrize("side", [16, 24, 31])
def test_small_pictures_have_jod_too(side):
    x = tensor(osprey())[..., :side, :40]
    assert jod_lost(x, x).tolist() == pytest.approx([0], abs=1e-3)
    lost = [float(jod_lost(x * share, x)) for share in (0.9, 0.7)]
    assert 0.1 < lost[0] < lost[1] < 10


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """Two crops of the sample, and noisy versions of them."""
    pixels = osprey()[:192]
    x = torch.cat([tensor(pixels[:, :192]), tensor(pixels[:, 100:292])])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return x + 0.04 * noise, x


@pytest.fixture(scope="module")
def curve() -> ReferenceCurve:
    return read_reference(Path("photo"))


def mixture(shares: dict[str, float], curve: ReferenceCurve, flat: float = 0.0) -> Distortion:
    distortion = Distortion(shares, flat)
    distortion.follow(curve)
    return distortion


def test_gradients_are_finite_also_where_nothing_differs(pair, curve):
    distortion = mixture(SHARES, curve, 0.03)
    for x_hat in pair:
        x_hat = x_hat.clone().requires_grad_()
        distortion(x_hat, pair[1], QUALITY, LMBDA).sum().backward()
        assert torch.isfinite(x_hat.grad).all()


def test_each_term_counts_by_its_share_and_a_better_picture_lowers_it(pair, curve):
    x_hat, x = pair
    nearer = x + (x_hat - x) / 2
    whole = mixture(SHARES, curve)(x_hat, x, QUALITY, LMBDA)
    parts = []
    for name, share in SHARES.items():
        alone = mixture({name: share}, curve)
        parts.append(alone(x_hat, x, QUALITY, LMBDA))
        assert (alone(nearer, x, QUALITY, LMBDA) < parts[-1]).all(), name
        twice = mixture({name: 2 * share}, curve)(x_hat, x, QUALITY, LMBDA)
        torch.testing.assert_close(twice, 2 * parts[-1])
    torch.testing.assert_close(whole, torch.stack(parts).sum(0))


def test_a_point_is_worth_the_slope_of_the_curve(pair, curve):
    """In bits: along a straight curve, as many bits a pixel as the points would cost there."""
    x_hat, x = pair
    lines = np.array([0.01, 0.02, 0.03, 0.04])
    straight = ReferenceCurve(
        "straight",
        tuple((v, 10 * v, 20 + v, 10 * v / 0.05, 10 * v / 0.3, 10 * v / 2.0) for v in lines),
    )
    worth = {"ssimulacra2": 0.05, "ms_ssim": 0.3, "jod": 2.0}
    for name, error in ERRORS.items():
        found = mixture({name: 1.0}, straight)(x_hat, x, QUALITY, torch.tensor([0.015, 0.035]))
        lost = error(x_hat, x)
        torch.testing.assert_close(found, worth[name] * lost, rtol=1e-4, atol=1e-4)


def test_slopes_go_on_beyond_the_curve_and_end_before_it(curve):
    slope = mixture({"jod": 1.0}, curve).slopes["jod"]
    log_lmbda, log_slope = curve.slopes("jod")
    torch.testing.assert_close(slope(log_lmbda.exp()), log_slope.exp())
    middle = slope(((log_lmbda[1] + log_lmbda[2]) / 2).exp())
    torch.testing.assert_close(middle.log(), (log_slope[1] + log_slope[2]) / 2)
    assert slope(torch.tensor(1e-5)) == pytest.approx(log_slope[0].exp().item())
    beyond = slope((2 * log_lmbda[-1] - log_lmbda[-2]).exp())
    torch.testing.assert_close(beyond.log(), 2 * log_slope[-1] - log_slope[-2])


def test_squared_error_alone_is_what_it_was(pair):
    x_hat, x = pair
    found = Distortion({"squared_error": 1.0})(x_hat, x, QUALITY, LMBDA)
    assert torch.equal(found, LMBDA * PIXEL_RANGE**2 * (x_hat - x).square().mean((1, 2, 3)))


FALLING = ((0.1, 1, 30, 50, 10, 9), (0.2, 2, 31, 49, 11, 9.5))
LEVEL = ((0.1, 1, 30, 50, 10, 9), (0.2, 1, 31, 51, 11, 9.5))  # a point would cost no bits


@pytest.mark.parametrize("points", [FALLING, LEVEL])
def test_a_curve_that_does_not_rise_is_refused(points):
    with pytest.raises(BadParameter, match="falling: ssimulacra2 does not rise"):
        ReferenceCurve("falling", points).slopes("ssimulacra2")


def test_curves_are_read_by_name_or_path(curve, tmp_path):
    path = tmp_path / "new" / "folders" / "own.csv"
    curve.write(path)
    again = read_reference(path)
    np.testing.assert_allclose(again.points, curve.points, rtol=1e-6)
    assert (curve.name, again.name) == ("photo", str(path))
    assert len(COLUMNS) == len(curve.points[0])
    with pytest.raises(BadParameter, match="no reference curve 'none'; shipped: photo"):
        read_reference(Path("none"))


def test_a_curve_has_three_points_at_least(curve, tmp_path):
    path = tmp_path / "short.csv"
    ReferenceCurve("three", curve.points[:3]).write(path)
    assert len(read_reference(path).points) == 3
    ReferenceCurve("two", curve.points[:2]).write(path)
    with pytest.raises(BadParameter, match=r"short.csv is not a reference curve; .* 3 rows"):
        read_reference(path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("Dear diary\n", type(None)),
        ("lmbda,rate\n1,2\n", KeyError),
        (f"{','.join(COLUMNS)}\n1,2\n", TypeError),
        (f"{','.join(COLUMNS)}\n1,2,3,4,5,six\n", ValueError),
    ],
)
def test_other_files_are_no_curves(content, cause, tmp_path):
    (tmp_path / "diary.csv").write_text(content)
    said = r"diary.csv is not a reference curve; expected CSV"
    with pytest.raises(BadParameter, match=said) as refused:
        read_reference(tmp_path / "diary.csv")
    assert isinstance(refused.value.__cause__, cause)


# ---- pure white and black ----


@pytest.fixture
def half_white() -> Tensor:
    x = torch.zeros(2, 3, 8, 8)
    x[..., :4] = 0.5
    x[1] = -x[1]  # the other is half black
    return x


def test_flat_samples_miss_by_levels_beyond_rounding(half_white):
    assert flat_error(half_white, half_white).tolist() == [0, 0]
    inside = half_white * (1 - 2 * 3 / PIXEL_RANGE)  # three levels short
    assert flat_error(inside, half_white).tolist() == pytest.approx([1.3, 1.3], rel=1e-4)
    beyond = half_white * 1.1
    assert flat_error(beyond, half_white).tolist() == [0, 0]


def test_beyond_white_is_white_only_where_the_photo_is(half_white):
    wide = half_white * 1.1
    assert torch.equal(within_the_edge(wide, half_white), half_white)
    moved = half_white.flip(3) * 1.1
    assert torch.equal(within_the_edge(moved, half_white)[..., 4:], moved[..., 4:])


def test_what_lies_beyond_white_is_no_error_of_a_mixture_that_minds_flat_samples(half_white):
    wide = half_white * 1.1
    at = torch.full((2,), 60.0)
    found = Distortion({"squared_error": 1.0}, 0.1)(wide, half_white, at, LMBDA)
    assert found.tolist() == [0, 0]
    assert (Distortion({"squared_error": 1.0})(wide, half_white, at, LMBDA) > 0).all()


def test_flat_samples_count_from_quality_20_and_whole_from_50(half_white):
    inside = half_white * 0.9
    plain, flat = Distortion({"squared_error": 1.0}), Distortion({"squared_error": 1.0}, 0.1)
    missed = flat_error(inside, half_white)[0].item()
    for quality, part in ((10.0, 0.0), (35.0, 0.5), (50.0, 1.0), (90.0, 1.0)):
        at = torch.full((2,), quality)
        more = flat(inside, half_white, at, LMBDA) - plain(inside, half_white, at, LMBDA)
        assert more.tolist() == pytest.approx([part * 0.1 * missed] * 2, rel=1e-3, abs=1e-4)


# ---- measures ----


def test_measures_rise_with_quality_and_end_where_nothing_differs(pair):
    x_hat, x = pair
    worse, better, same = (measures(each, x) for each in (x_hat, x + (x_hat - x) / 4, x))
    for name in ("psnr", *ERRORS):
        assert (worse[name] < better[name]).all(), name
        assert (better[name] < same[name]).all(), name
    assert same["jod"].tolist() == pytest.approx([10, 10], abs=1e-3)
    torch.testing.assert_close(
        measures(x_hat, x)["ms_ssim"], -ms_ssim_error(x_hat.clamp(-0.5, 0.5), x)
    )


@pytest.mark.slow("steps with all measures")
def test_constants_are_sent_to_a_device_once(pair, curve):
    """Each time would make the host wait. The package of MS-SSIM sends its five weights."""
    distortion = mixture({"squared_error": 0.5, "ssimulacra2": 0.25, "jod": 0.25}, curve, 0.1)
    with torch.inference_mode():
        measures(*pair)  # does not spoil what training uses
    x_hat = pair[0].clone().requires_grad_()
    sent = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "lift_fresh" in str(function) or "_local_scalar" in str(function):
                sent.append(str(function))
            return function(*args, **(kwargs or {}))

    for _ in range(2):
        sent.clear()
        with Watch():
            distortion(x_hat, pair[1], QUALITY, LMBDA).sum().backward()
    assert sent == []
    with Watch():
        torch.tensor([1.0, 2.0])  # it would be seen
    assert sent


def test_ms_ssim_has_the_window_of_the_package(pair):
    ours = ms_ssim_error(pair[0].clamp(-0.5, 0.5), pair[1])
    pictures = [(x.clamp(-0.5, 0.5) + 0.5) for x in pair]
    theirs = ms_ssim(*pictures, data_range=1.0, size_average=False)
    torch.testing.assert_close(ours, 10 * torch.log10(1 - theirs + 1e-6), rtol=1e-4, atol=1e-4)


def test_what_no_display_shows_is_no_error(pair):
    """MS-SSIM and the measures are of pictures in their range, whatever a network made."""
    wide, x = 3 * pair[0], pair[1]
    shown = wide.clamp(-0.5, 0.5)
    assert torch.equal(ms_ssim_error(wide, x), ms_ssim_error(shown, x))
    found, expected = measures(wide, x), measures(shown, x)
    for name in ("psnr", *ERRORS):
        assert torch.equal(found[name], expected[name]), name
    error = (shown - x).square().mean((1, 2, 3))
    torch.testing.assert_close(found["psnr"], -10 * error.log10())


def test_decibels_are_the_mean_over_pictures_and_end_at_90():
    assert float(decibels(torch.tensor([1e-2, 1e-4]))) == pytest.approx(30)
    assert float(decibels(torch.zeros(2))) == pytest.approx(90)


def test_the_curve_is_no_part_of_a_models_weights(curve):
    assert not mixture(SHARES, curve).state_dict()
