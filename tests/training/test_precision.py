"""bfloat16 in training only where it is faster."""

import pytest
import torch

from trellic_training.models import precision


@pytest.mark.parametrize(("slower", "dtype"), [(1.1, torch.float32), (0.9, torch.bfloat16)])
def test_convolutions_run_in_what_is_faster(monkeypatch, slower, dtype):
    seconds = iter([1.0, slower])
    monkeypatch.setattr(precision, "_seconds", lambda compute: next(seconds))
    precision.pays.cache_clear()
    layer = torch.nn.Conv2d(3, 3, 1)
    x = torch.ones(1, 3, 4, 4)
    try:
        with precision.bfloat16("cpu", wanted=True):
            assert layer(x).dtype == dtype
        with precision.bfloat16("cpu", wanted=False):
            assert layer(x).dtype == torch.float32
    finally:
        precision.pays.cache_clear()


def test_a_trial_multiplies_and_takes_time():
    products = []
    assert precision._seconds(lambda: products.append(0) or torch.ones(1)) > 0
    assert len(products) == precision.ROUNDS + 1
