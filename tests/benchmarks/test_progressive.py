"""What the beginning of a file is worth: arithmetic of `benchmarks.progressive`."""

import pytest

from benchmarks import progressive, progressive_jxl, progressive_tables

MADE = [[1000, 30.0, 40.0], [2000, 33.0, 60.0], [4000, 36.0, 80.0]]


def test_more_bits_than_a_file_made_for_the_score():
    assert progressive.more_bits(MADE, [2000, 33.0, 60.0], 1) == pytest.approx(0)
    assert progressive.more_bits(MADE, [3000, 33.0, 60.0], 2) == pytest.approx(50)
    assert progressive.more_bits(MADE, [5000, 37.0, 90.0], 1) == pytest.approx(25)
    assert progressive.more_bits(MADE, [900, 29.0, 20.0], 1) is None  # below all that were made
    assert progressive.more_bits(MADE, None, 1) is None


def test_means_count_the_photos_that_have_one():
    cuts = [None, *([2400, 33.0, 60.0] for _ in range(4))]
    one = {"made": MADE, "jpeg_made": MADE, "jpeg_cuts": cuts}
    one["cuts"] = dict.fromkeys(progressive.CODINGS, cuts)
    other = one | {"jpeg_cuts": [[1200, 30.0, 40.0]] * 5}
    found = progressive.summary([one, other])
    assert found["layers"]["psnr"][0] == [None, 0]
    assert found["layers"]["psnr"][1] == [20.0, 2]
    assert found["jpeg"]["ssimulacra2"][0] == [20.0, 1]


def test_a_missing_record_leaves_its_row_out(tmp_path):
    assert "kodak" not in progressive_tables.whole(tmp_path)


def test_jpeg_xl_is_left_out_by_name_where_its_programs_are_missing(monkeypatch):
    monkeypatch.setattr(progressive_jxl.shutil, "which", lambda _: None)
    assert "cjxl and djxl not found" in str(progressive_jxl.missing())


def test_jpeg_xl_is_left_out_where_cjxl_ignores_progressive(monkeypatch):
    monkeypatch.setattr(progressive_jxl.shutil, "which", lambda name: name)
    monkeypatch.setattr(progressive_jxl, "version", lambda: "cjxl v0.7.0")
    monkeypatch.setattr(progressive_jxl, "encode", lambda *_, progressive: b"same")
    assert "cjxl v0.7.0 ignores -p" in str(progressive_jxl.missing())
    monkeypatch.setattr(progressive_jxl, "encode", lambda *_, progressive: bytes([progressive]))
    assert progressive_jxl.missing() is None
