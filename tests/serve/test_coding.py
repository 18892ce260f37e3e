"""POST /encode, /decode and /info: what the library does, and its errors as answers."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from tests.data.make_adapter import ADAPTER, TINY
from tests.runtime.test_bare import smooth_screen
from tests.serve.conftest import opened, picture_file

import trellic
from trellic import bitstream, scored
from trellic.codec import Codec
from trellic.constants import DEFAULT_QUALITY
from trellic.errors import BadAdapter, MissingExtra, UnknownAdapter
from trellic_serve import codecs

PROBLEM = {"kind", "seen", "expected", "remedy", "request_id"}


def problem(answer, status: int, kind: str) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == PROBLEM
    assert body["kind"] == kind, body
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "/" not in body["seen"].replace("n/a", ""), "no path in it"
    assert "Traceback" not in answer.text
    return body


def test_encode_is_the_librarys(client, tiny, photo):
    answer = client.post("/encode?quality=40&trellis=8", content=photo)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/x-trellic"
    assert answer.content == tiny.encode(opened(photo), quality=40, trellis=8)
    assert answer.headers["x-trellic-quality"] == "40"
    assert answer.headers["x-trellic-model"] == "tiny"
    assert answer.headers["x-trellic-size"] == "56x40"
    stages = [part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert {"receive", "wait", "read", "g_a", "search"} <= set(stages)


def test_a_form_is_as_good_as_a_body(client, photo):
    body = client.post("/encode", content=photo)
    form = client.post("/encode", files={"file": ("a.png", photo)})
    assert form.status_code == 200, form.text
    assert form.content == body.content
    body = problem(client.post("/encode", files={"a": b"x", "b": b"y"}), 400, "BadRequest")
    assert (body["seen"], body["expected"]) == ("2 files in the form", "one")
    many = {str(number): b"x" for number in range(9)}
    body = problem(client.post("/encode", files=many), 400, "BadRequest")
    assert "or has over 8 parts" in body["seen"]
    head = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post("/encode", content=b"--y", headers=head), 400, "BadRequest")
    head = {"content-type": "multipart/form-data"}
    problem(client.post("/encode", content=b"--y", headers=head), 400, "BadRequest")


def test_decode_is_the_librarys(client, tiny, stream):
    answer = client.post("/decode", content=stream)
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(opened(answer.content)), tiny.decode(stream))


@pytest.mark.parametrize("kind", ["png", "jpeg", "jpg", "webp", "avif"])
def test_formats_sizes_and_regions(client, stream, kind):
    answer = client.post(f"/decode?format={kind}&quality=70&width=20&height=20", content=stream)
    assert answer.status_code == 200, answer.text
    image = opened(answer.content)
    assert image.size == (20, 14)
    assert answer.headers["content-type"] == f"image/{image.format.lower()}"
    answer = client.post(f"/decode?format={kind}&region=8,4,30,20", content=stream)
    assert opened(answer.content).size == (30, 20)


def test_each_route_names_the_formats_that_it_takes(client, stream):
    for name in ("gif", "tlc"):
        body = problem(client.post(f"/decode?format={name}", content=stream), 400, "BadParameter")
        expected = "one of avif, webp, jpeg, png"
        assert (body["seen"], body["expected"]) == (f"format '{name}'", expected)
    body = problem(client.get("/i/_/f:gif/a/photo.png"), 400, "BadParameter")
    assert body["expected"] == "one of tlc, avif, webp, jpeg, png"


@pytest.mark.parametrize("quality", ["", "&quality=70"])
def test_alpha_is_refused_in_jpeg(client, tiny, quality):
    data = tiny.encode(opened(picture_file(channels=4)))
    answer = client.post(f"/decode?format=jpeg{quality}", content=data)
    body = problem(answer, 422, "BadImage")
    assert body["seen"] == "a picture with transparency, which JPEG cannot hold"
    assert body["remedy"] == "ask for png"
    for kind in ("png", "webp", "avif"):
        answer = client.post(f"/decode?format={kind}{quality}", content=data)
        assert opened(answer.content).mode == "RGBA"


def test_a_small_picture_takes_the_small_decoder(start, family_path, tiny):
    data = tiny.encode(opened(picture_file(100, 150)))
    with start(models=(str(family_path),)) as client:
        small = client.app.state.service.coder.decode(data, box=(9, 9)).picture
        whole = client.app.state.service.coder.decode(data, box=(120, 120)).picture
        answer = client.post("/decode?width=9&height=9", content=data)
    assert small.width < whole.width == 150
    assert opened(answer.content).size == (9, 6)


def test_targets(client, photo, monkeypatch):
    whole = client.post("/encode?quality=90", content=photo).content
    answer = client.post(f"/encode?max_bytes={len(whole)}", content=photo)
    assert 0 < len(answer.content) <= len(whole)
    problem(client.post("/encode?max_bytes=3", content=photo), 422, "TargetUnreachable")
    problem(client.post("/encode?max_bytes=900&quality=3", content=photo), 400, "BadParameter")

    def measured(original, shown):
        return quality["now"] - 7.0  # this photo gets seven points less than the average

    quality, encode = {}, trellic.Codec.encode_picture

    def noted(self, picture, **options):
        quality["now"] = options["quality"]
        return encode(self, picture, **options)

    monkeypatch.setattr(scored, "ssimulacra2", measured)
    monkeypatch.setattr(trellic.Codec, "encode_picture", noted)
    answer = client.post("/encode?score=50", content=photo)
    assert answer.headers["x-trellic-quality"] == "57"
    problem(client.post("/encode?score=95", content=photo), 422, "TargetUnreachable")
    problem(client.post("/encode?score=50", content=picture_file(5, 5)), 400, "BadParameter")

    def missing(original, shown):
        raise MissingExtra.of("ssimulacra2", "score", "a score")

    monkeypatch.setattr(scored, "ssimulacra2", missing)
    problem(client.post("/encode?score=50", content=photo), 501, "MissingExtra")


def test_info(client, stream, photo):
    found = client.post("/info", content=stream).json()
    assert (found["format"], found["width"], found["height"]) == ("tlc", 56, 40)
    assert found["bytes"] == len(stream)
    found = client.post("/info", content=photo).json()
    assert found == {
        "format": "png",
        "width": 56,
        "height": 40,
        "bytes": len(photo),
        "bits": 8,
    }
    problem(client.post("/info", content=b"nothing"), 415, "NotAPicture")
    problem(client.post("/info", content=stream[:-1]), 422, "CorruptStream")


@pytest.mark.parametrize(
    ("route", "seen", "remedy"),
    [
        ("/encode?max-bytes=8000", "option 'max-bytes'", "did you mean 'max_bytes'?"),
        ("/encode?qualty=60", "option 'qualty'", "did you mean 'quality'?"),
        ("/encode?colour=x", "option 'colour'", ""),
        ("/encode?quality=60&quality=20", "option 'quality' given twice", ""),
        ("/decode?size=20x20", "option 'size'", ""),
        ("/decode?layers=1", "option 'layers'", ""),
        ("/decode?hight=20", "option 'hight'", "did you mean 'height'?"),
        ("/compare?qualit=50", "option 'qualit'", "did you mean 'quality'?"),
        ("/info?format=png", "option 'format'", ""),
    ],
)
def test_options_that_are_unknown_or_repeated(client, photo, stream, route, seen, remedy):
    data = stream if route.startswith("/decode") else photo
    body = problem(client.post(route, content=data), 400, "BadParameter")
    assert (body["seen"], body["remedy"]) == (seen, remedy)


def test_the_answer_to_an_unknown_option_lists_the_known_ones(client, stream):
    expected = "one of decoder, width, height, region, format, quality"
    assert client.post("/decode?q=9", content=stream).json()["expected"] == expected
    assert client.post("/info?q=9", content=stream).json()["expected"] == "none"


def test_options_in_a_form_are_refused(client, photo):
    file, field = ("file", ("a.png", photo)), ("quality", (None, "20"))
    for form in ([field, file], [file, field]):
        body = problem(client.post("/encode", files=form), 400, "BadRequest")
        assert body["seen"] == "field 'quality' of the form"
        assert body["remedy"] == "options stand in the query: ?NAME=VALUE"
    answer = client.post("/encode?quality=20", files={"file": ("a.png", photo)})
    assert answer.headers["x-trellic-quality"] == "20"


def bomb(width: int, height: int) -> bytes:
    """A PNG whose head promises many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"x"))


@pytest.mark.parametrize("route", ["/encode", "/compare", "/i/_/w:9/a/bomb.png"])
def test_pictures_above_the_limits_are_refused_by_their_header(start, source, route):
    """The sizes are allowed by default; what comes after the header cannot be decoded."""

    def answer(data: bytes, **limits: int):
        (source / "a" / "bomb.png").write_bytes(data)
        with start(source=str(source), allow_unsigned=True, **limits) as client:
            if route.startswith("/i"):
                return client.get(route)
            return client.post(route, content=data)

    body = problem(answer(bomb(16000, 16000)), 413, "ImageTooLarge")
    assert body["seen"] == "a picture of 16000x16000 = 256000000 pixels"
    most = 2**22 if route == "/compare" else 2**25
    assert body["expected"] == f"at most {most} pixels"
    assert body["remedy"] == "send a smaller picture"
    body = problem(answer(bomb(2000, 2000), max_memory=360_000_000), 413, "ImageTooLarge")
    assert body["seen"] == "reading a picture of 2000x2000 pixels takes up to 369 MB"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF"])
def test_no_pixel_of_a_refused_picture_is_decoded(start, monkeypatch, kind):
    data = picture_file(40, 56, kind)

    def load(image):
        raise AssertionError("it is decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with start(max_pixels=40 * 56 - 1) as client:
        for route in ("/encode", "/compare"):
            problem(client.post(route, content=data), 413, "ImageTooLarge")


@pytest.mark.parametrize(
    ("route", "make", "status", "kind"),
    [
        ("/encode", lambda photo, stream: b"", 400, "BadRequest"),
        ("/encode", lambda photo, stream: b"no picture", 415, "NotAPicture"),
        ("/encode", lambda photo, stream: stream, 415, "NotAPicture"),
        ("/encode", lambda photo, stream: photo[: len(photo) // 2], 422, "DamagedPicture"),
        ("/encode", lambda photo, stream: bomb(60000, 60000), 413, "ImageTooLarge"),
        ("/encode?model=other", lambda photo, stream: photo, 400, "BadParameter"),
        ("/encode?quality=nan", lambda photo, stream: photo, 400, "BadRequest"),
        ("/encode?trellis=7", lambda photo, stream: photo, 400, "BadParameter"),
        ("/decode", lambda photo, stream: photo, 415, "NotATrellicFile"),
        ("/decode", lambda photo, stream: stream[:20], 422, "TruncatedStream"),
        ("/decode", lambda photo, stream: stream[:-2] + b"zz", 422, "CorruptStream"),
        ("/decode?decoder=none", lambda photo, stream: stream, 400, "UnknownDecoder"),
        ("/decode?region=0,0,99,1", lambda photo, stream: stream, 400, "BadParameter"),
        ("/decode?region=zero", lambda photo, stream: stream, 400, "BadParameter"),
        ("/decode?format=tlc", lambda photo, stream: stream, 400, "BadParameter"),
        ("/decode?format=exe", lambda photo, stream: stream, 400, "BadParameter"),
        ("/decode?width=0", lambda photo, stream: stream, 400, "BadRequest"),
        ("/none", lambda photo, stream: stream, 404, "NotFound"),
    ],
)
def test_bad_input(client, photo, stream, route, make, status, kind):
    problem(client.post(route, content=make(photo, stream)), status, kind)


def test_a_stream_of_a_model_that_is_not_there(client, tiny, stream):
    header = bitstream.read_header(stream)
    foreign = stream.replace(header.stream_id, b"\xff\xff\xff\xff", 1)
    answer = client.post("/decode", content=foreign)
    assert answer.status_code == 422
    assert answer.json()["kind"] in ("UnknownModel", "CorruptStream")


def test_too_many_bytes(start, photo):
    with start(max_bytes=len(photo) - 1) as client:
        problem(client.post("/encode", content=photo), 413, "TooLarge")
        chunks = (photo[begin : begin + 100] for begin in range(0, len(photo), 100))
        problem(client.post("/encode", content=chunks), 413, "TooLarge")  # length not said before


def test_a_fault_of_ours_says_nothing(client, photo, monkeypatch, caplog):
    def broken(self, picture, want):
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(codecs.Coder, "encode", broken)
    body = problem(client.post("/encode", content=photo), 500, "InternalError")
    assert "secret" not in json.dumps(body)
    assert any("/secret/path" in str(record.exc_info) for record in caplog.records)

    def hungry(self, picture, want):
        raise MemoryError

    monkeypatch.setattr(codecs.Coder, "encode", hungry)
    answer = client.post("/encode", content=photo)
    problem(answer, 503, "MemoryError")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/encode", "POST"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/health/live", "GET, HEAD"),
        ("DELETE", "/i/_/_/a/photo.png", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
def test_wrong_method(client, method, path, allowed):
    answer = client.request(method, path)
    problem(answer, 405, "MethodNotAllowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/i/_/w:100", "/health/live/"])
def test_a_slash_more_or_less_is_another_path(client, path):
    problem(client.get(path, follow_redirects=False), 404, "NotFound")


def test_what_answers_get_answers_head(client):
    for path in ("/", "/health/live", "/health/startup", "/health/ready", "/openapi.json"):
        get, head = (client.request(method, path) for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    assert client.head("/metrics").status_code == 200
    assert set(client.get("/openapi.json").json()["paths"]["/health/live"]) == {"get"}


def test_openapi_describes_bodies_and_errors(client):
    found = client.get("/openapi.json").json()
    paths = {"/encode", "/decode", "/info", "/compare", "/i/{signature}/{options}/{path}"}
    assert paths <= set(found["paths"])
    encode = found["paths"]["/encode"]["post"]
    assert {"application/octet-stream", "multipart/form-data"} == set(
        encode["requestBody"]["content"]
    )
    assert {"400", "401", "408", "413", "415", "422", "429", "503"} <= set(encode["responses"])
    names = {parameter["name"] for parameter in encode["parameters"]}
    targets = {"quality", "score", "bpp", "max_bytes"}
    how = {"trellis", "model", "strip", "patches", "progressive", "steady", "refine", "adapter"}
    assert names == targets | how
    (quality,) = (one for one in encode["parameters"] if one["name"] == "quality")
    assert quality["description"] == f"{DEFAULT_QUALITY:g} by default"


def test_kinds_of_files(start, photo):
    with start(models=("photo",)) as client:
        made = {
            how: client.post(f"/encode?{how}&quality=70", content=photo)
            for how in ("progressive=true", "steady=true", "refine=true", "strip=true")
        }
        assert {answer.status_code for answer in made.values()} == {200}
        headers = {how: bitstream.read_header(answer.content) for how, answer in made.items()}
        assert headers["progressive=true"].layering is not None
        assert headers["steady=true"].still
        assert made["refine=true"].content != made["strip=true"].content
        both = client.post("/encode?steady=true&progressive=true", content=photo)
        problem(both, 400, "BadParameter")
        answer = client.post("/encode?steady=true&trellis=64", content=photo)
        body = problem(answer, 400, "BadParameter")
        assert (body["seen"], body["expected"]) == ("steady with trellis 64", "one of the two")
        assert client.post("/encode?patches=on", content=photo).status_code in (400, 422)
        screen = picture_file_of(smooth_screen())
        plain, patched = (
            client.post(f"/encode?patches={how}&quality=80", content=screen)
            for how in ("off", "auto")
        )
        assert bitstream.read_header(patched.content).bare
        assert len(patched.content) < len(plain.content)
        shown = client.post("/decode", content=patched.content)
        assert opened(shown.content).size == (300, 210)


def test_an_adapter_is_served_beside_its_model(start, tiny, photo):
    adapted = Codec.load(TINY, "cpu", adapter=ADAPTER)
    with start(adapters=(str(ADAPTER),)) as client:
        plain = client.post("/encode", content=photo)
        made = client.post("/encode?adapter=test", content=photo)
        assert plain.content == tiny.encode(opened(photo))
        assert made.content == adapted.encode(opened(photo))
        shown = client.post("/decode", content=made.content)  # it is not installed
        expected = adapted.decode(made.content)
        assert np.array_equal(np.asarray(opened(shown.content)), expected)
        assert not np.array_equal(expected, tiny.decode(plain.content))
        body = problem(client.post("/encode?adapter=aerial", content=photo), 400, "BadParameter")
        assert body["expected"] == "one of test"
    with start() as client:
        body = problem(client.post("/encode?adapter=test", content=photo), 400, "BadParameter")
        assert body["expected"] == "none: it has none here"


def test_an_adapter_of_no_model_of_the_service_is_refused(start):
    with pytest.raises(UnknownAdapter, match="no adapter 'aerial' of model"):
        start(adapters=("aerial",))
    with pytest.raises(BadAdapter):
        start(models=("photo",), adapters=(str(ADAPTER),))


def picture_file_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
