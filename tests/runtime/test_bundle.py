"""Bundles: what is checked when one is opened, and where one is looked for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellic.codec import Codec
from trellic.errors import BadBundle, TrellicError, UnknownModel
from trellic.model import archive, bundle
from trellic.model.bundle import Bundle
from trellic.model.channels import Layout

PIXELS = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def files(tiny_path):
    """Members of the tiny bundle."""
    with zipfile.ZipFile(tiny_path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def empty_world(monkeypatch, tmp_path):
    """No model is installed but those of ``TRELLIC_MODELS``, the user, and the package."""
    monkeypatch.delenv(bundle.MODELS_VARIABLE, raising=False)
    monkeypatch.setattr(bundle, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "package" / "model" / "bundle.py"))
    return tmp_path


def write(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def resigned(files, *, arrays=None, **fields) -> dict[str, bytes]:
    """The files with other arrays and manifest fields, and hashes and stream id to match."""
    files = dict(files)
    manifest = json.loads(files["manifest.json"]) | fields
    if arrays is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        files["normative.npz"] = buffer.getvalue()
        layout = Layout.model_validate(manifest["layout"])
        manifest["stream_id"] = bundle.stream_id(arrays, layout)
    names = set(files) - {"manifest.json"}
    manifest["sha256"] = {name: hashlib.sha256(files[name]).hexdigest() for name in names}
    files["manifest.json"] = json.dumps(manifest).encode()
    return files


def arrays_of(files) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(files["normative.npz"])) as archive:
        return dict(archive)


def with_arrays(files, **changes) -> dict[str, bytes]:
    return resigned(files, arrays=arrays_of(files) | changes)


# ---- opening one ----


def test_the_tiny_bundle_opens(tiny_path):
    opened = Bundle(tiny_path)
    assert opened.manifest.name == "tiny"
    assert opened.manifest.stream_id == "4dd6cdd4"
    assert list(opened.networks) == ["h_s", "context_0", "context_1", "context_2"]
    assert opened.tables.scales == opened.manifest.layout.scales == 48
    assert bundle.read_manifest(tiny_path) == opened.manifest
    for graph in (opened.manifest.encoder, *opened.manifest.exact.values()):
        assert len(opened.graph(graph)) > 1000


def test_the_shipped_integers_are_little_endian_everywhere(files):
    arrays = arrays_of(files)
    layout = Layout.model_validate(json.loads(files["manifest.json"])["layout"])
    swapped = {k: v.astype(v.dtype.newbyteorder(">")) for k, v in arrays.items()}
    assert bundle.stream_id(swapped, layout) == bundle.stream_id(arrays, layout) == "4dd6cdd4"


def test_the_stream_id_by_hand(files):
    """Section 7.1 of the format."""
    layout = json.loads(files["manifest.json"])["layout"]
    assert list(layout) == ["groups", "hyper", "scales", "skip_index"]
    total = hashlib.sha256(b"tlc 1 " + json.dumps(layout, separators=(",", ":")).encode())
    arrays = arrays_of(files)
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape};".encode() + array.tobytes())
    assert total.hexdigest()[:8] == "4dd6cdd4"


def test_a_bundle_may_be_packed_anew(tmp_path, files):
    assert Bundle(write(tmp_path / "a.zip", resigned(files))).manifest.stream_id == "4dd6cdd4"


def test_every_altered_member_is_found(tmp_path, files):
    for name, data in files.items():
        if name == "manifest.json":
            continue
        changed = files | {name: data[:-1] + bytes([data[-1] ^ 1])}
        with pytest.raises(BadBundle, match=f"{name} of bundle .* altered; install it again"):
            Bundle(write(tmp_path / "a.zip", changed))
        missing = {k: v for k, v in files.items() if k != name}
        with pytest.raises(BadBundle, match=f"{name} of bundle .* missing"):
            Bundle(write(tmp_path / "a.zip", missing))


def test_a_wrong_stream_id_is_found(tmp_path, files):
    with pytest.raises(BadBundle, match="says stream id 00000000 but its integers give 4dd6cdd4"):
        Bundle(write(tmp_path / "a.zip", resigned(files, stream_id="00000000")))


def test_other_integers_are_another_stream_id(tmp_path, files):
    offset = arrays_of(files)["levels.level_offset"] + np.int16(1)
    other = Bundle(write(tmp_path / "a.zip", with_arrays(files, **{"levels.level_offset": offset})))
    assert other.manifest.stream_id != "4dd6cdd4"


def test_another_layout_is_another_stream_id(files):
    manifest = json.loads(files["manifest.json"])
    layout = Layout.model_validate(manifest["layout"] | {"skip_index": 3})
    assert bundle.stream_id(arrays_of(files), layout) != "4dd6cdd4"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_versions_are_refused(tmp_path, files, version):
    with pytest.raises(BadBundle, match=f"version {version!r}; expected 1"):
        Bundle(write(tmp_path / "a.zip", resigned(files, bundle_version=version)))


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"bundle_version": 1}', b"[" * 100_000],
    ids=lambda m: repr(m[:30]),
)
def test_damaged_manifests_are_refused(tmp_path, files, manifest):
    path = write(tmp_path / "a.zip", files | {"manifest.json": manifest})
    for read in (Bundle, bundle.read_manifest):
        with pytest.raises(BadBundle):
            read(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "../../etc"},
        {"name": "Photo"},
        {"name": ""},
        {"stream_id": "4DD6CDD4"},
        {"surprise": 1},
        {"exact": {}},
        {"probes": {}},
        {"search": {}},
        {"encoder": {"file": "graphs/g_a.onnx", "kmac_per_pixel": -1}},
        {"encoder": {"file": "graphs/g_a.onnx", "kmac_per_pixel": 1, "halo": 10**9}},
    ],
    ids=str,
)
def test_bad_manifest_fields_are_refused(tmp_path, files, fields):
    with pytest.raises(BadBundle):
        Bundle(write(tmp_path / "a.zip", resigned(files, **fields)))


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [{"channels": 0, "steps": [0, 1]}],
        [{"channels": 24, "steps": [0, 2]}],
        [{"channels": 24, "steps": [1, 2]}],
        [{"channels": 24, "steps": [0, -1]}],
        [{"channels": 24, "steps": [0, 1, 2]}],
        [{"channels": 1, "steps": [2 * k, 2 * k + 1]} for k in range(5)],
        [{"channels": 24, "steps": [0, 1]}],
        [{"channels": 25, "steps": [0, 1]}, {"channels": 16, "steps": [1, 2]}],
    ],
    ids=str,
)
def test_layouts_that_make_no_sense_or_do_not_fit(tmp_path, files, groups):
    layout = json.loads(files["manifest.json"])["layout"] | {"groups": groups}
    arrays = arrays_of(files)
    try:
        changed = resigned(files, arrays=arrays, layout=layout)
    except ValueError:
        changed = resigned(files, layout=layout)
    with pytest.raises(BadBundle):
        Bundle(write(tmp_path / "a.zip", changed))


def test_integers_that_do_not_fit_the_layout(tmp_path, files):
    arrays = arrays_of(files)
    gain = arrays["levels.gain"]
    changes = [
        {
            "levels.gain": gain[:, 1:],
            "levels.scale_shift": gain[:, 1:],
            "levels.context_gain": arrays["levels.context_gain"][1:],
        },
        {"levels.hyper_index": np.full_like(arrays["levels.hyper_index"], 48)},
        {f"h_s.trunk.0.{k}": arrays[f"context_1.trunk.0.{k}"] for k in ("weight", "bias", "shift")},
        {f"context_0.head.0.{k}": arrays[f"context_1.head.0.{k}"] for k in ("weight", "bias")},
    ]
    for change in changes:
        with pytest.raises(BadBundle):
            Bundle(write(tmp_path / "a.zip", with_arrays(files, **change)))


def test_only_one_step_predicts_without_context(tmp_path, files):
    arrays = {k: v for k, v in arrays_of(files).items() if not k.startswith("context_")}
    three_steps = write(tmp_path / "a.zip", resigned(files, arrays=arrays))
    with pytest.raises(BadBundle, match="do not fit together"):
        Bundle(three_steps)
    layout = json.loads(files["manifest.json"])["layout"]
    channels = sum(group["channels"] for group in layout["groups"])
    layout["groups"] = [{"channels": channels, "steps": [0, 0]}]
    features = write(tmp_path / "b.zip", resigned(files, arrays=arrays, layout=layout))
    with pytest.raises(BadBundle, match="do not fit together"):
        Bundle(features)  # neither as many as there are latents, nor two lists of them
    last = max(k.rpartition(".")[0] for k in arrays if k.startswith("h_s.trunk."))
    for part, old in list(arrays.items()):
        if part.startswith(last) and not part.endswith((".kind", ".range")):
            arrays[part] = np.resize(old, (channels, *old.shape[1:]))
    alone = Bundle(write(tmp_path / "c.zip", resigned(files, arrays=arrays, layout=layout)))
    assert list(alone.networks) == alone.network_names == ["h_s"]


@pytest.mark.slow("a bundle without each of its arrays")
def test_missing_arrays_are_found(tmp_path, files):
    arrays = arrays_of(files)
    for name in sorted(arrays)[::3]:
        if name.endswith(".kind"):
            continue  # its network ends before that layer
        rest = {k: v for k, v in arrays.items() if k != name}
        with pytest.raises(BadBundle):
            Bundle(write(tmp_path / "a.zip", resigned(files, arrays=rest)))


def npy(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


HUGE = npy(np.zeros(1)).replace(b"(1,), }            ", b"(1125899906842,), }")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        npy(np.zeros(3)),
        npy(np.array([{}]), allow_pickle=True),
        npz(a=npy(np.array([{}]), allow_pickle=True)),
        npz(a=b"no array"),
        npz(a=HUGE),
        npz(),
    ],
    ids=["nothing", "a bit", "npy", "pickle", "pickle inside", "text inside", "huge", "no arrays"],
)
def test_damaged_integers_are_refused(tmp_path, files, data):
    assert b"1125899906842" in HUGE
    with pytest.raises(BadBundle):
        Bundle(write(tmp_path / "a.zip", resigned(files | {"normative.npz": data})))


def test_oversized_members_are_not_unpacked(tmp_path, files, monkeypatch):
    size = sum(map(len, files.values()))
    path = write(tmp_path / "a.zip", files | {"bomb": bytes(3_000_000)})
    monkeypatch.setattr(archive, "MAX_UNPACKED", size + 1000)
    with pytest.raises(BadBundle, match=f"has {size + 3_000_000} bytes once unpacked"):
        Bundle(path)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(size))
    assert len(buffer.getvalue()) < size / 10
    path = write(tmp_path / "b.zip", resigned(files | {"normative.npz": buffer.getvalue()}))
    with pytest.raises(BadBundle, match=f"{8 * size + 128} bytes once unpacked"):
        Bundle(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"Dear diary", b"TLC\x01"])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadBundle, match="cannot read bundle"):
        Bundle(tmp_path / "a.zip")


def test_folders_and_nothing_are_no_bundles(tmp_path):
    for path in (tmp_path, tmp_path / "gone.zip"):
        with pytest.raises(BadBundle, match="cannot read bundle"):
            Bundle(path)


@settings(max_examples=200)
@given(st.data())
def test_damage_anywhere_raises_only_our_errors(tiny_path, tmp_path_factory, data):
    raw = bytearray(tiny_path.read_bytes())
    if data.draw(st.booleans()):
        # the first bytes of a member, the directory at the end, and anywhere
        start = data.draw(st.sampled_from([0, len(raw) - 700, None]))
        for _ in range(data.draw(st.integers(1, 3))):
            area = (0, len(raw) - 1) if start is None else (start, start + 600)
            raw[data.draw(st.integers(*area))] = data.draw(st.integers(0, 255))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(raw)
    with contextlib.suppress(TrellicError):
        Bundle(path)


def test_graphs_that_no_hash_vouches_for_are_not_loaded(tmp_path, files):
    encoder = {"file": "graphs/other.onnx", "kmac_per_pixel": 1}
    opened = Bundle(write(tmp_path / "a.zip", resigned(files, encoder=encoder)))
    with pytest.raises(BadBundle, match=r"no checked file 'graphs/other\.onnx'"):
        opened.graph(opened.manifest.encoder)
    codec = Codec.load(str(tmp_path / "a.zip"), device="cpu", threads=1)
    with pytest.raises(BadBundle):
        codec.encode(PIXELS)


def test_graphs_that_are_no_graphs(tmp_path, files):
    path = write(tmp_path / "a.zip", resigned(files | {"graphs/g_a.onnx": b"no graph"}))
    with pytest.raises(BadBundle, match="a graph of the bundle"):
        Codec.load(str(path), device="cpu", threads=1).encode(PIXELS)


# ---- finding one ----


def test_a_path_is_taken_as_it_is(tiny_path, tmp_path, monkeypatch, empty_world):
    shutil.copy(tiny_path, tmp_path / "my.zip")
    monkeypatch.chdir(tmp_path)
    for name in ("my.zip", "./my.zip", str(tmp_path / "my.zip"), tmp_path / "my.zip"):
        assert bundle.find(name).samefile(tmp_path / "my.zip")
        assert Codec.load(name, device="cpu", threads=1).model == "tiny"
    for name in ("gone.zip", "./gone", str(tmp_path / "gone.zip"), tmp_path / "gone.zip"):
        with pytest.raises(UnknownModel, match="no bundle at"):
            bundle.find(name)


def test_the_environment_comes_before_the_user_and_the_package(files, monkeypatch, empty_world):
    places = [empty_world / name for name in ("one", "two", "user", "package/models")]
    monkeypatch.setenv(bundle.MODELS_VARIABLE, os.pathsep.join(["", *map(str, places[:2]), ""]))
    assert list(bundle.folders()) == places
    assert bundle.installed() == []
    with pytest.raises(UnknownModel, match="no model 'tiny'; installed models: none"):
        bundle.find("tiny")
    for place in reversed(places):
        # the name is in the manifest, not in the file's name
        write(place / "some file.zip", files)
        assert bundle.find("tiny") == place / "some file.zip"
        assert bundle.find_stream("4dd6cdd4") == place / "some file.zip"
    assert [path.parent for path, _ in bundle.installed()] == places
    with pytest.raises(UnknownModel, match=r"installed models: tiny$"):
        bundle.find("photo")
    with pytest.raises(UnknownModel, match=r"stream id 12345678.*trellic models add"):
        bundle.find_stream("12345678")


def test_within_a_folder_names_decide(files, empty_world):
    write(empty_world / "user" / "b.zip", files)
    write(empty_world / "user" / "a.zip", resigned(files, name="other"))
    (empty_world / "user" / "README.txt").write_text("no bundle")
    assert [m.name for _, m in bundle.installed()] == ["other", "tiny"]
    assert bundle.find("other").name == "a.zip"


def test_damaged_bundles_are_left_out(files, empty_world):
    (empty_world / "user").mkdir()
    (empty_world / "user" / "a.zip").write_bytes(b"PK\x03\x04")
    (empty_world / "user" / "folder.zip").mkdir()
    write(empty_world / "user" / "old.zip", resigned(files, bundle_version=0))
    write(empty_world / "user" / "z.zip", files)
    assert [path.name for path, _ in bundle.installed()] == ["z.zip"]


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert bundle.user_folder() == tmp_path / "trellic" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert bundle.user_folder() == Path.home() / ".local" / "share" / "trellic" / "models"
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Application Support" in bundle.user_folder().parts


def test_streams_of_another_installed_model_are_decoded(tiny, files, monkeypatch, empty_world):
    offset = arrays_of(files)["levels.level_offset"] + np.int16(200)
    other = resigned(with_arrays(files, **{"levels.level_offset": offset}), name="other")
    path = write(empty_world / "models" / "other.zip", other)
    codec = Codec.load(path, device="cpu", threads=1)
    data = codec.encode(PIXELS, quality=50)
    assert data != tiny.encode(PIXELS, quality=50)
    here = Codec.load(write(empty_world / "tiny.zip", files), device="cpu", threads=1)
    with pytest.raises(UnknownModel, match=codec.bundle.manifest.stream_id):
        here.decode(data)
    monkeypatch.setenv(bundle.MODELS_VARIABLE, str(path.parent))
    np.testing.assert_array_equal(here.decode(data), codec.decode(data))
    assert here._others[codec.bundle.manifest.stream_id, None].device == "cpu"


def test_a_stream_of_a_model_that_the_wheel_leaves_out_says_where_it_is(monkeypatch):
    monkeypatch.setattr(bundle, "folders", list)
    stream, _ = bundle.SHIPPED["photo-psnr"]
    with pytest.raises(UnknownModel, match="Trellic's own 'photo-psnr': get runtime/trellic/mod"):
        bundle.find_stream(stream)
