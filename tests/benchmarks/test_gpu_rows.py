"""A run on a GPU that ends early loses nothing: rows are written as they are measured."""

import json

import pytest

pytest.importorskip("numba_cuda")

from benchmarks._rows import Report

from benchmarks import gpu


def test_each_row_is_written_as_it_is_measured(tmp_path):
    path = tmp_path / "results" / "gpu.json"
    report = Report(path, {"machine": "this one"})
    assert json.loads(path.read_text("utf-8")) == {"machine": "this one"}
    seen = []

    def work():
        seen.append(json.loads(path.read_text("utf-8")))
        return {"ms": len(seen)}

    for batch in (1, 4):
        report.measure("files", {"batch": batch}, work)
    assert seen[1]["files"] == [{"batch": 1, "ms": 1}]
    assert json.loads(path.read_text("utf-8"))["files"][1] == {"batch": 4, "ms": 2}


def test_an_exception_becomes_a_row(tmp_path, capsys):
    def fails():
        raise MemoryError("98 GB")

    report = Report(tmp_path / "gpu.json", {})
    report.measure("files", {"what": "encode", "size": "4K", "batch": 16}, fails)
    report.measure("files", {"what": "encode", "size": "1080p"}, lambda: {"images/s": 7.0})
    rows = json.loads(report.path.read_text("utf-8"))["files"]
    assert rows[0] == {"what": "encode", "size": "4K", "batch": 16, "error": "MemoryError: 98 GB"}
    assert "98 GB" in capsys.readouterr().err
    assert report.rows("files") == rows[1:]
    assert gpu.against_goals(report)["1080p encode"]["measured"] == 7.0


def test_the_largest_comes_last():
    order = gpu.settings(["4K", "768x512", "1080p"], [16, 1])
    assert order[0] == ("768x512", 1)
    assert order[-1] == ("4K", 16)
    assert order.index(("4K", 1)) < order.index(("1080p", 16))


def test_sizes_and_batches_are_options():
    options = gpu.parse(["--sizes", "1080p", "--batches", "2", "8", "--skip", "others"])
    assert (options.sizes, options.batches, options.skip) == (["1080p"], [2, 8], ["others"])


def test_a_failed_encoding_is_said_again_where_its_files_are_missing():
    with pytest.raises(RuntimeError, match="encoding failed"):
        gpu.bench_files_decode(None, "1080p", [], 1)
