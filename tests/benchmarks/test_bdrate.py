import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.bdrate import BdRate, Curve, bd_rate, frontier, quality_at
from benchmarks.pchip import Pchip

ANCHOR = Curve(np.array([0.1, 0.2, 0.4, 0.8]), np.array([26.0, 29.0, 32.5, 36.0]))


def curves() -> dict[str, Curve]:
    path = Path(__file__).parents[2] / "benchmarks" / "anchors.json"
    published = json.loads(path.read_text())["curves"]
    return {
        name: Curve(np.array(one["bpp"]), np.array(one["psnr_rgb_db"]))
        for name, one in published.items()
    }


def rate(test: Curve, anchor: Curve, bpp_range: tuple[float, float] | None = None) -> BdRate:
    result = bd_rate(test, anchor, bpp_range)
    assert result is not None
    return result


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.7])
def test_a_constant_rate_factor_is_found_exactly(factor: float) -> None:
    result = rate(Curve(ANCHOR.bpp * factor, ANCHOR.quality), ANCHOR)
    assert result.percent == pytest.approx((factor - 1) * 100, abs=1e-9)
    assert result.quality == (26.0, 36.0)


def test_straight_lines_give_the_closed_form() -> None:
    # log2 rate = psnr / 3 against psnr / 4: over 24..36 dB the mean difference is 30 / 12 octaves.
    psnr = np.array([24.0, 28.0, 33.0, 36.0])
    result = rate(Curve(2 ** (psnr / 3), psnr), Curve(2 ** (psnr / 4), psnr))
    assert result.percent == pytest.approx((2**2.5 - 1) * 100)


def test_swapping_the_codecs_inverts_the_ratio() -> None:
    other = Curve(np.array([0.09, 0.25, 0.7]), np.array([27.0, 31.0, 35.0]))
    forth, back = rate(other, ANCHOR), rate(ANCHOR, other)
    assert (1 + forth.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


@pytest.mark.parametrize(
    ("test", "anchor", "expected"),
    # The table that came with the published curves, to its one decimal.
    [
        ("BPG 4:4:4 x265", "VTM-9.1 (CompressAI JSON)", 22.0),
        ("AV1 libaom cpu-used=0 (CompressAI JSON)", "VTM-9.1 (CompressAI JSON)", 16.2),
        ("ELIC", "VTM-9.1 (CompressAI JSON)", -7.0),
        ("WebP", "BPG 4:4:4 x265", 44.2),
        ("WebP", "JPEG (Pillow 4:2:0)", -36.2),
        ("bmshj2018-hyperprior", "JPEG (Pillow 4:2:0)", -55.0),
    ],
)
def test_known_values_of_published_curves(test: str, anchor: str, expected: float) -> None:
    assert rate(curves()[test], curves()[anchor]).percent == pytest.approx(expected, abs=0.06)


def test_the_rate_range_limits_the_tested_codec() -> None:
    result = rate(Curve(ANCHOR.bpp / 2, ANCHOR.quality), ANCHOR, (0.1, 0.2))
    assert result.bpp == pytest.approx((0.1, 0.2))
    assert result.quality == pytest.approx((29.0, 32.5))
    assert result.complete


def test_a_rate_range_that_is_not_covered_is_reported() -> None:
    assert not rate(ANCHOR, ANCHOR, (0.05, 0.5)).complete
    short = Curve(ANCHOR.bpp[1:], ANCHOR.quality[1:])
    assert not rate(ANCHOR, short, (0.1, 0.5)).complete


def test_curves_that_share_no_quality_have_no_bd_rate() -> None:
    assert bd_rate(Curve(ANCHOR.bpp, ANCHOR.quality + 20), ANCHOR) is None
    assert bd_rate(Curve(ANCHOR.bpp[:1], ANCHOR.quality[:1]), ANCHOR) is None
    assert bd_rate(ANCHOR, ANCHOR, (2.0, 3.0)) is None


def test_the_frontier_sorts_and_drops_beaten_points() -> None:
    messy = Curve(np.array([0.4, 0.1, 0.3, 0.2, 0.2]), np.array([33.0, 27.0, 29.0, 30.0, 29.5]))
    bpp, psnr = frontier(messy)
    assert bpp.tolist() == [0.1, 0.2, 0.4]
    assert psnr.tolist() == [27.0, 30.0, 33.0]


def test_quality_at_inverts_the_rate() -> None:
    assert quality_at(ANCHOR, 0.2) == pytest.approx(29.0)
    assert quality_at(ANCHOR, 0.01) == pytest.approx(26.0)
    assert quality_at(ANCHOR, 9.0) == pytest.approx(36.0)


@pytest.mark.parametrize("seed", range(5))
def test_pchip_is_scipys(seed: int) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.1, 2, 2 + seed * 2))
    y = rng.normal(size=len(x)) if seed % 2 else np.cumsum(rng.uniform(0, 1, len(x)))
    ours, theirs = Pchip(x, y), interpolate.PchipInterpolator(x, y)
    at = np.linspace(x[0], x[-1], 101)
    np.testing.assert_allclose(ours(at), theirs(at), atol=1e-12)
    low, high = at[7], at[90]
    expected = theirs.integrate(low, high) / (high - low)
    assert ours.mean(low, high) == pytest.approx(expected)


def test_pchip_refuses_points_out_of_order() -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        Pchip(np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="two or more"):
        Pchip(np.array([1.0]), np.array([0.0]))
