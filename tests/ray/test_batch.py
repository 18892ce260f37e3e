"""``trellic batch`` on a local Ray: all files once, even when an actor is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fsspec")

from trellic.errors import BadParameter
from trellic_data.batch.items import Item, find


def picture_file(seed: int, side: int = 24) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Six photos and a bad file, in two folders."""
    folder = tmp_path / "photos"
    for number in range(6):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(picture_file(number))
    (folder / "a" / "bad.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("none")
    return folder


# ---- without Ray ----


def test_items_of_folders(photos):
    found = find(str(photos), "encode")
    assert [item.name for item in found] == [
        "a/0.png", "a/2.png", "a/4.png", "a/bad.png", "b/1.png", "b/3.png", "b/5.png",
    ]  # fmt: skip
    assert found[0].read() == picture_file(0)
    with pytest.raises(BadParameter):
        find(str(photos), "decode")


def test_items_of_tar_shards(photos, tmp_path):
    with tarfile.open(photos / "shard.tar", "w") as shard:
        for name in ("x/1.png", "../evil.png", "/evil.png", "2.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(picture_file(9))
            shard.addfile(info, io.BytesIO(picture_file(9)))
    found = [item for item in find(str(photos), "encode") if item.begin >= 0]
    assert [item.name for item in found] == ["shard/x/1.png"]
    assert found[0].read() == picture_file(9)


@pytest.mark.parametrize("shape", ["bytes", "struct"])
def test_items_of_parquet(tmp_path, shape):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    files = [picture_file(seed) for seed in range(5)]
    column = files if shape == "bytes" else [{"bytes": data, "path": "x"} for data in files]
    pq.write_table(pa.table({"image": column}), tmp_path / "p.parquet", row_group_size=2)
    found = find(str(tmp_path / "p.parquet"), "encode")
    assert [item.name for item in found] == [f"p/{n:08}.png" for n in range(5)]
    assert [item.read() for item in found] == files
    with pytest.raises(BadParameter, match="column"):
        find(str(tmp_path / "p.parquet"), "encode", column="other")


def test_two_items_of_one_name_are_refused(photos):
    with tarfile.open(photos / "a.tar", "w") as shard:
        info = tarfile.TarInfo("0.png")
        shard.addfile(info, io.BytesIO(b""))
    with pytest.raises(BadParameter, match="8 items with 7 names"):
        find(str(photos), "encode")


def test_a_worker_sets_bad_items_aside(tiny_path, photos, tmp_path):
    from trellic_data.batch.work import Task, Worker

    task = Task("encode", str(tmp_path / "out"), model=str(tiny_path), trellis=0)
    worker = Worker(task)
    good, bad = (worker.one(Item(name, str(photos / name))) for name in ("a/0.png", "a/bad.png"))
    assert good["error"] == ""
    assert (tmp_path / "out" / "a" / "0.png.tlc").stat().st_size == good["bytes_out"]
    assert bad["error"].startswith("BadImage: ")
    gone = worker.one(Item("c.png", str(photos / "c.png")))
    assert gone["error"].startswith("FileNotFoundError")
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == ["0.png.tlc"]


@pytest.mark.parametrize("into", ["tar", "parquet"])
def test_shards_hold_what_was_done(tiny_path, photos, tmp_path, into):
    """A row of items is one shard; a run that lost its manifest's end goes on by the shards."""
    if into == "parquet":
        pytest.importorskip("pyarrow")
    from trellic_data.batch.manifest import MANIFEST, Manifest
    from trellic_data.batch.work import Task, Worker, row_of

    out = tmp_path / "out"
    task = Task("encode", str(out), model=str(tiny_path), trellis=0, into=into)
    items = find(str(photos), "encode")
    Manifest(task, items)
    worker = Worker(task)
    rows = worker(row_of(items[:5]))
    assert [row["error"].partition(":")[0] for row in rows] == ["", "", "", "BadImage", ""]
    (shard,) = out.glob(f"*.{into}")
    before = shard.read_bytes()
    assert worker(row_of(items[:5]))[0]["file"] == shard.name  # once more, as after a kill
    assert [path.name for path in out.glob(f"*.{into}")] == [shard.name]
    assert len(shard.read_bytes()) == len(before)
    assert worker(row_of(items[3:4]))[0]["error"]  # nothing good, no shard
    assert len(list(out.glob(f"*.{into}"))) == 1
    good = [item.name for item in items[:5] if "bad" not in item.name]
    assert Manifest(task, items).done == set(good)
    assert len((out / MANIFEST).read_text().splitlines()) == 1 + len(good)
    assert not list((out / "_trellic" / "parts").iterdir())
    found = find(str(out), "decode")
    assert [item.name for item in found] == [f"{shard.stem}/{name}.tlc" for name in good]
    back = Task("decode", str(tmp_path / "back"), model=str(tiny_path), into=into)
    assert [row["error"] for row in Worker(back)(row_of(found))] == [""] * 4


def test_what_a_target_holds(tiny_path, photos, tmp_path):
    """Results that nobody noted count where a run was before; others' files do not."""
    from trellic_data.batch.manifest import MANIFEST, Manifest
    from trellic_data.batch.work import Task

    target = f"file://{tmp_path / 'out'}"
    task, items = Task("encode", target), find(f"file://{photos}", "encode")
    result = tmp_path / "out" / "a" / "0.png.tlc"
    result.parent.mkdir(parents=True)
    result.write_bytes(b"older than the run")
    assert Manifest(task, items).done == set()
    assert Manifest(task, items).done == {"a/0.png"}
    with pytest.raises(BadParameter, match="other settings"):
        Manifest(Task("encode", target, quality=9), items)
    with (tmp_path / "out" / MANIFEST).open("a") as file:
        file.write("damaged\n")
    with pytest.raises(BadParameter, match="damaged"):
        Manifest(task, items)


def test_other_file_systems(tiny_path, photos):
    """From memory to memory, with fsspec."""
    import fsspec

    from trellic_data.batch.work import Task, Worker, row_of

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/photos/b/1.png", picture_file(1))
    task = Task("encode", "memory://out", model=str(tiny_path), trellis=0)
    (row,) = Worker(task)(row_of(find("memory://photos", "encode")))
    assert (row["name"], row["error"]) == ("b/1.png", "")
    assert list(memory.find("/out")) == ["/out/b/1.png.tlc"]
    assert memory.size("/out/b/1.png.tlc") == row["bytes_out"]


# ---- with Ray ----


def actors_of(process: int) -> list[int]:
    """Processes of Ray Data's actors that are below a process of ours."""
    parents, actors = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
            title = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue  # it has ended
        if title.startswith(b"ray::") and b"MapWorker" in title:
            actors.append(int(entry.name))

    def below(one: int) -> bool:
        while one > 1:
            if one == process:
                return True
            one = parents.get(one, 0)
        return False

    return [one for one in actors if below(one)]


@pytest.mark.slow("a local Ray starts, and two actors load a model each")
@pytest.mark.filterwarnings("default")
def test_an_actor_is_killed_midway(cluster, tiny_path, photos, tmp_path):
    from trellic_data.batch.manifest import Manifest
    from trellic_data.batch.run import run
    from trellic_data.batch.work import Task

    task = Task("encode", str(tmp_path / "out"), model=str(tiny_path), trellis=0)
    for number in range(10, 40):
        (photos / "b" / f"{number}.png").write_bytes(picture_file(number, 48))
    items, killed = find(str(photos), "encode"), []

    def kill_one(report) -> None:
        """Kill the process of an actor when a few items are done."""
        if report.done >= 3 and not killed:
            killed.append(actors_of(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    report = run(items, task, actors=2, batch=2, progress=kill_one)
    assert killed, "no actor was killed"
    assert (report.done, report.failed, report.items) == (len(items) - 1, 1, len(items))
    assert report.bad[0]["name"] == "a/bad.png"
    made = sorted(p.name for p in (tmp_path / "out").rglob("*.tlc"))
    assert len(made) == len(items) - 1
    assert len(list((tmp_path / "out" / "_trellic" / "parts").iterdir())) <= 1  # of who was killed
    again = run(items, task, actors=1)  # what failed is tried again, and nothing else
    assert (again.before, again.done, again.failed) == (len(items) - 1, 0, 1)
    lines = (tmp_path / "out" / "_trellic" / "manifest.jsonl").read_text().splitlines()[1:]
    names = [json.loads(line)["name"] for line in lines]
    assert len(names) == len(set(names)) == len(items) - 1
    with pytest.raises(BadParameter, match="other settings"):
        Manifest(Task("encode", str(tmp_path / "out"), model=str(tiny_path), quality=9), items)
    back = Task("decode", str(tmp_path / "back"), model=str(tiny_path))
    decoded = run(find(str(tmp_path / "out"), "decode"), back, actors=1)
    assert decoded.done == len(items) - 1
    assert (tmp_path / "back" / "a" / "0.png.tlc.png").is_file()


@pytest.mark.slow("a run is killed, and another one goes on")
@pytest.mark.filterwarnings("default")
def test_the_driver_is_killed(cluster, tiny_path, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(150):
        (photos / f"{number}.png").write_bytes(picture_file(number))
    command = [
        sys.executable, "-m", "trellic", "batch", "encode", str(photos), str(out), "--json",
        "--model", str(tiny_path), "--trellis", "0", "--actors", "1", "--batch-size", "2",
        "--address", cluster.get_runtime_context().gcs_address,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        while len(made := list(out.glob("*.tlc"))) < 3:
            assert first.poll() is None, first.communicate()
            time.sleep(0.01)
        first.kill()
    before = {path: path.stat() for path in made}
    second = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    report = json.loads(second.stdout)
    assert report["before"] >= len(made)
    assert report["done"] > 0, "all was done before the run was killed"
    assert report["before"] + report["done"] == len(list(out.glob("*.tlc"))) == 150
    for path, state in before.items():  # written once
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    lines = (out / "_trellic" / "manifest.jsonl").read_text().splitlines()[1:]
    assert len({json.loads(line)["name"] for line in lines}) == len(lines) == 150
