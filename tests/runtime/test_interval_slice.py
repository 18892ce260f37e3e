"""What layers of intervals take of latents, pass by pass, inside of the encoder."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.make_dither import scene

from trellic.bitstream import Layering
from trellic.images import Picture
from trellic.latents import layered_coding
from trellic.latents.interval_slice import IntervalSlice
from trellic.latents.layered import of_pass
from trellic.latents.layered_coding import LayeredEncoder, levels_of
from trellic.latents.predictor import Predictor
from trellic.latents.quantizer import Quantizer
from trellic.support.clock import Clock

SCENE = scene(40, 300)


class Watched(IntervalSlice):
    """A slice that keeps what it chooses."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = []

    def choose(self, coded, y32, quantizer, lanes, tables):
        division = self._division(coded) if self._layer else None
        symbols = super().choose(coded, y32, quantizer, lanes, tables)
        ends = [of_pass(of, coded) for of in (self._low, self._high)]
        self.seen.append((coded, of_pass(y32, coded), division, symbols, *ends))
        return symbols


def watched(tiny, monkeypatch, mode="search", **layout):
    """Quantize a scene in three layers; return what was seen, and what predicted."""
    ways = []

    class Kept(Watched):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            ways.append(self)

    monkeypatch.setattr(layered_coding, "IntervalSlice", Kept)
    layering = Layering((480, 848), 2, 1, intervals=True)
    made = tiny._encoding.latents().predictor
    predictor = Predictor(made.layout.model_copy(update=layout), made.networks)
    plane = predictor.layout.plane(300, 40)
    f, h = tiny._encoding.analyse(Picture(SCENE), plane, Clock())
    levels = levels_of(tiny.bundle.levels, (480, 848, 1200), 0)
    quantizer = Quantizer(0, tiny.bundle.manifest.search["scalar"].lam, mode=mode)
    passes = layering.passes(len(predictor.steps))
    layered = LayeredEncoder(predictor, tiny.bundle.tables, layering)
    layered.quantize([f] * 3, h, plane, levels, quantizer, passes)
    (way,) = ways
    return way.seen, predictor


def test_the_lowest_layer_names_the_cells_that_latents_lie_in(tiny, monkeypatch):
    seen, _ = watched(tiny, monkeypatch)
    indices = []
    for coded, target, _, symbols, low, high in seen:
        if coded.layer == 0:
            assert ((low <= target) & (target <= high)).all()
            indices.append(symbols.k)
    assert np.unique(np.sign(np.concatenate(indices))).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("mode", ["search", "round"])
def test_a_search_takes_the_cheapest_parts_of_the_last_layer(tiny, monkeypatch, mode):
    """Layers below it take the parts that latents lie in, which the next one divides."""
    seen, _ = watched(tiny, monkeypatch, mode)
    differing = 0
    for coded, target, division, symbols, *_ in seen:
        if division is not None:
            found, cheapest = division.find(target), division.cheapest(target)
            differing += np.count_nonzero(found != cheapest)
            searched = mode == "search" and coded.layer == 2
            np.testing.assert_array_equal(symbols.k, cheapest if searched else found)
    assert differing


def test_later_layers_code_latents_from_the_least_scale_index_on(tiny, monkeypatch):
    seen, _ = watched(tiny, monkeypatch, skip_index=12)
    indices = [coded.scale_index for coded, *_ in seen if coded.layer]
    assert np.concatenate(indices).min() == 12
    for coded, *_ in seen:
        assert coded.position.dtype == coded.mean32.dtype == np.int32
        assert coded.scale_index.dtype == np.uint8


def test_the_clock_has_its_two_stages(tiny, monkeypatch):
    _, predictor = watched(tiny, monkeypatch)
    assert set(predictor.clock.stages) == {"networks", "search"}
