"""Planes of models of all strides: what a file counts in does not depend on them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trellic.geometry import Plane, Rectangle, blocks, choose_slice_side, slice_counts, slice_grid
from trellic.model.channels import Group, Layout

strides = st.tuples(st.sampled_from([4, 8, 16]), st.sampled_from([2, 4]))


def layout(**strides: int) -> Layout:
    return Layout(
        groups=(Group(channels=3, steps=(0, 1)),), hyper=2, scales=8, skip_index=1, **strides
    )


def test_usual_strides_are_left_out():
    text = layout().model_dump_json()
    assert text == '{"groups":[{"channels":3,"steps":[0,1]}],"hyper":2,"scales":8,"skip_index":1}'
    assert layout(stride=16, cell=4).model_dump_json() == text
    assert Layout.model_validate_json(text) == layout()


@pytest.mark.parametrize("chosen", [{"stride": 4}, {"cell": 2}, {"stride": 8, "cell": 2}])
def test_other_strides_come_last(chosen):
    text = layout(**chosen).model_dump_json()
    assert list(json.loads(text).items())[4:] == list(chosen.items())
    assert Layout.model_validate_json(text) == layout(**chosen)


@pytest.mark.parametrize("chosen", [{"stride": 2}, {"stride": 32}, {"cell": 1}, {"cell": 8}])
def test_other_values_are_refused(chosen):
    with pytest.raises(ValidationError, match=r"stride|cell"):
        layout(**chosen)


def test_a_plane_of_cifar():
    plane = layout(stride=4, cell=2).plane(32, 32)
    assert (plane.latents, plane.hyper, plane.coded) == ((8, 8), (4, 4), (8, 8))
    ragged = layout(stride=4, cell=2).plane(33, 31)
    assert (ragged.padded, ragged.latents, ragged.hyper) == ((32, 40), (8, 10), (4, 5))
    assert ragged.coded == (8, 9)


def leaves_a_strip(width, height, side):
    """Whether a last row or column of slices is one that no slice may be, but not the only one."""
    last = slice_grid(*blocks(width, height), side)[-1]
    return (last.top > 0 and last.shape[0] < 16) or (last.left > 0 and last.shape[1] < 16)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_encoders_leave_no_thin_strip_where_they_can(width, height):
    good = [side for side in range(64, 81, 4) if not leaves_a_strip(width, height, side)]
    assert choose_slice_side(width, height) == (good[0] if good else 64)


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((1, 1), 1024),
        ((1024, 1024), 1024),
        ((1025, 10), 1088),
        ((1920, 1080), 1088),
        ((1080, 1920), 1088),
        ((3840, 2160), 1088),
        ((1920, 1200), 1216),
        ((1264, 1), 1280),
        ((1265, 1), 1024),  # a last slice of 256 pixels is allowed
        ((1296, 1040), 1024),  # no side up to 1280 does
        ((65535, 65535), 1024),
    ],
)
def test_sides_that_encoders_choose(size, side):
    assert 16 * choose_slice_side(*size) == side
    assert Plane(*size, 4, 4).slice_side == side // 4


@given(st.integers(1, 5000), st.integers(1, 5000), strides, st.integers(4, 255))
def test_slices_of_any_stride_are_those_that_the_file_counts(width, height, chosen, units):
    plane, side = Plane(width, height, *chosen), 4 * units
    grid = slice_grid(*plane.latents, side * plane.block)
    down, across = slice_counts(*blocks(width, height), side)
    assert len(grid) == down * across
    for part in grid:
        assert part.coarser(plane.cell).finer(plane.cell) == part
        assert part.top % 2 == part.left % 2 == 0
        inside = part.within(Rectangle(0, plane.coded[0], 0, plane.coded[1]))
        assert min(inside.shape) > 0
