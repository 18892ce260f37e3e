"""GET /i: options, signatures, sources, negotiation, caching."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.server
import io
import os
import threading
import time
from base64 import urlsafe_b64encode

import numpy as np
import pytest
from PIL import Image
from tests.serve.conftest import opened
from tests.serve.test_coding import problem

from trellic.errors import BadParameter
from trellic_serve import Settings, addresses, delivery, formats, signing, sources
from trellic_serve.errors import Forbidden, NotAcceptable, NotFound

TLC, AVIF, WEBP = "image/x-trellic", "image/avif", "image/webp"
STATUS = {  # of a web server's paths
    "/photo.png": 200,
    "/odd%20%3Fa%23b%25+(1),%C3%A9%0A.png": 200,
    "/odd%0A": 200,
    "/away.png": 302,
}


@pytest.mark.parametrize(
    ("accept", "opaque", "alpha"),
    [
        (None, "jpeg", "png"),
        ("*/*", "jpeg", "png"),
        ("image/avif,image/webp,*/*;q=0.8", "avif", "avif"),
        ("image/webp,*/*", "webp", "webp"),
        (f"{TLC},image/avif", "tlc", "tlc"),
        (f"{TLC};q=0.5,image/webp", "webp", "webp"),
        ("image/avif;q=0,*/*", "jpeg", "png"),
        ("image/jpeg", "jpeg", "jpeg"),
        ("image/png", "png", "png"),
        ("IMAGE/WebP ; Q=1", "webp", "webp"),
        ("image/avif;q=much,image/*", "jpeg", "png"),
        ("image/avif;q=0.1,image/png;q=1.0", "png", "png"),
        ("image/avif;q=0.5,image/webp;q=0.9,image/jpeg;q=0.2", "webp", "webp"),
        ("image/avif;q=0.5,*/*", "jpeg", "png"),
        ("image/jpeg,image/avif;q=0.1", "jpeg", "avif"),
        ("image/jpeg;q=0.3,image/png;q=0.2", "jpeg", "png"),
        ("image/webp,image/avif", "avif", "avif"),
    ],
)
def test_negotiation(accept, opaque, alpha):
    found = formats.negotiate(accept)
    assert [kind.name for kind in found] == [opaque, alpha]


def test_a_client_that_takes_no_picture():
    with pytest.raises(NotAcceptable):
        formats.negotiate("text/html")


def test_formats_by_accept(client, photo, tiny):
    answer = client.get("/i/_/_/a/photo.png", headers={"Accept": TLC})
    assert answer.headers["content-type"] == TLC
    assert answer.content == tiny.encode(opened(photo))
    assert answer.headers["vary"] == "Accept"
    for accept, name in ((AVIF, "AVIF"), (WEBP, "WEBP"), ("*/*", "JPEG")):
        answer = client.get("/i/_/w:20/a/photo.png", headers={"Accept": accept})
        assert opened(answer.content).format == name
        assert opened(answer.content).size == (20, 14)
    assert opened(client.get("/i/_/_/a/alpha.png").content).mode == "RGBA"
    problem(client.get("/i/_/_/a/photo.png", headers={"Accept": "text/html"}), 406, "NotAcceptable")


def test_alpha_becomes_white_where_the_url_or_the_client_takes_jpeg_alone(client, source):
    clear = np.zeros((8, 8, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(clear).save(file, "PNG")
    (source / "a" / "clear.png").write_bytes(file.getvalue())
    for url, accept in (("/i/_/f:jpeg/a/clear.png", "*/*"), ("/i/_/_/a/clear.png", "image/jpeg")):
        image = opened(client.get(url, headers={"Accept": accept}).content)
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert np.asarray(image).min() >= 254


def test_a_tlc_source_is_sent_as_it_is_or_decoded(client, stream, tiny):
    answer = client.get("/i/_/_/a/photo.tlc", headers={"Accept": TLC})
    assert answer.content == stream
    answer = client.get("/i/_/f:png,d:quality/a/photo.tlc")
    np.testing.assert_array_equal(np.asarray(opened(answer.content)), tiny.decode(stream))
    answer = client.get("/i/_/f:png,r:8:4:30:20/a/photo.tlc")
    assert opened(answer.content).size == (30, 20)
    answer = client.get("/i/_/f:png,r:8:4:30:20/a/photo.png")
    assert opened(answer.content).size == (30, 20)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=10-", slice(10, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=5-999999999", slice(5, None)),
        ("bytes=-999999999", slice(0, None)),
        ("bytes=3-3", slice(3, 4)),
    ],
)
def test_parts_of_a_stored_file(client, stream, asked, expected):
    url = "/i/_/_/a/photo.tlc"
    answer = client.get(url, headers={"Accept": TLC, "Range": asked})
    begin, end, _ = expected.indices(len(stream))
    assert (answer.status_code, answer.content) == (206, stream[expected])
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(stream)}"
    assert answer.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize(
    "asked", ["bytes=9-3", "bytes=0-1,4-5", "lines=0-1", "bytes=-", "bytes=x-"]
)
def test_other_parts_are_the_whole(client, stream, asked):
    answer = client.get("/i/_/_/a/photo.tlc", headers={"Accept": TLC, "Range": asked})
    assert (answer.status_code, answer.content) == (200, stream)
    assert answer.headers["accept-ranges"] == "bytes"


def test_parts_of_the_file_that_the_client_knows(client, stream):
    url, begin = "/i/_/_/a/photo.tlc", {"Accept": TLC, "Range": "bytes=0-9"}
    etag = client.get(url, headers=begin).headers["etag"]
    assert client.get(url, headers=begin | {"If-Range": etag}).status_code == 206
    assert client.get(url, headers=begin | {"If-Range": '"older"'}).content == stream


def test_no_parts_behind_the_end_or_of_what_is_made(client, stream):
    for asked in (f"bytes={len(stream)}-", "bytes=-0"):
        answer = client.get("/i/_/_/a/photo.tlc", headers={"Accept": TLC, "Range": asked})
        problem(answer, 416, "BadRange")
        assert answer.headers["content-range"] == f"bytes */{len(stream)}"
    answer = client.get("/i/_/_/a/photo.png", headers={"Accept": TLC, "Range": "bytes=0-9"})
    assert answer.status_code == 200
    assert len(answer.content) > 10
    assert "accept-ranges" not in answer.headers


def test_the_beginning_of_a_progressive_file_is_a_picture(client, source, tiny):
    data = tiny.encode(np.zeros((64, 64, 3), np.uint8), progressive=True)
    (source / "a" / "layers.tlc").write_bytes(data)
    begin = {"Accept": TLC, "Range": f"bytes=0-{len(data) - 2}"}
    answer = client.get("/i/_/_/a/layers.tlc", headers=begin)
    assert answer.status_code == 206
    assert next(iter(tiny.decode_progressive([answer.content]))).shape == (64, 64, 3)


def test_quality_is_that_of_the_format(client):
    sizes = [len(client.get(f"/i/_/f:webp,q:{q}/a/photo.png").content) for q in (5, 60, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize(
    "options",
    [
        "w:0", "w:99999", "w:x", "w", "x:1", "w:1,w:2", "q:0", "q:nan", "f:exe", "r:1:2:3",
        "t:5", "exp:never", "", "w:" + "9" * 5000,
    ],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(BadParameter):
        delivery.parse(options)


def test_unknown_and_repeated_options_are_told_as_those_of_a_query():
    with pytest.raises(BadParameter, match=r"option 'x'; expected one of w, h, q, f, d, r, t"):
        delivery.parse("x:1")
    with pytest.raises(BadParameter, match="option 'w' given twice; expected one value"):
        delivery.parse("w:1,w:2")
    with pytest.raises(BadParameter, match="option 'w:0'; expected a width in its range"):
        delivery.parse("w:0")


def test_etag_and_cache(client):
    first = client.get("/i/_/w:9/a/photo.png")
    assert first.headers["cache-control"] == "public, max-age=86400"
    etag = first.headers["etag"]
    again = client.get("/i/_/w:9/a/photo.png", headers={"If-None-Match": f'"x", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    for url, accept in (("w:8/a/photo.png", "*/*"), ("w:9/a/photo.png", WEBP)):
        other = client.get(f"/i/_/{url}", headers={"If-None-Match": etag, "Accept": accept})
        assert other.status_code == 200
        assert other.headers["etag"] != etag


def test_head_is_get_without_the_body(client):
    for url, accept in (("w:9/a/photo.png", WEBP), ("_/a/photo.tlc", TLC), ("_/a/none.png", WEBP)):
        asked = {"Accept": accept, "X-Request-ID": "same"}
        get, head = (
            client.request(method, f"/i/_/{url}", headers=asked) for method in ("GET", "HEAD")
        )
        assert head.status_code == get.status_code
        volatile = {"server-timing"}
        assert {k: v for k, v in head.headers.items() if k not in volatile} == {
            k: v for k, v in get.headers.items() if k not in volatile
        }
        assert int(head.headers["content-length"]) == len(get.content) > 0
        assert head.content == b""
    url, etag = "/i/_/_/a/photo.tlc", client.head("/i/_/_/a/photo.tlc").headers["etag"]
    assert client.head(url, headers={"If-None-Match": etag}).status_code == 304
    part = client.head(url, headers={"Accept": TLC, "Range": "bytes=0-9"})
    assert (part.status_code, part.headers["accept-ranges"]) == (200, "bytes")


def test_head_sends_no_body_even_where_the_server_would(client):
    """Servers drop such a body; those that do not must not get one."""
    sent = []

    async def ask():
        async def receive():  # the client stays, and says nothing more
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        path = "/i/_/_/a/none.png"
        scope = {"type": "http", "method": "HEAD", "path": path, "raw_path": path.encode()}
        await client.app(scope | {"headers": [], "query_string": b""}, receive, send)

    client.portal.call(ask)
    assert [message["status"] for message in sent if "status" in message] == [404]
    assert b"".join(message.get("body", b"") for message in sent) == b""


def test_urls_that_expire(client):
    soon = int(time.time()) + 100
    answer = client.get(f"/i/_/exp:{soon}/a/photo.png")
    assert 90 <= int(answer.headers["cache-control"].rpartition("=")[2]) <= 100
    problem(client.get("/i/_/exp:5/a/photo.png"), 403, "Forbidden")


# ---- signatures ----


def test_signatures_are_imgproxys():
    """As its documentation computes them: HMAC-SHA256 of salt and path, in base64url."""
    pair = signing.Pair(b"secret", b"hello")
    digest = hmac.new(b"secret", b"hello/w:300/photo.png", hashlib.sha256).digest()
    expected = urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert signing.sign(pair, "/w:300/photo.png") == expected


def test_signed_urls_and_rotation(start, source, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# old\naaaa bbbb\n")
    old, new = signing.Pair(b"\xaa\xaa", b"\xbb\xbb"), signing.Pair(b"\xcc", b"\xdd")
    path = "/w:9,f:png/a/photo.png"
    with start(source=str(source), signing_keys=keys) as client:

        def status(pair, of=path, asked=path):
            return client.get(f"/i/{signing.sign(pair, of)}{asked}").status_code

        assert status(old) == 200
        assert status(new) == 403
        assert status(old, asked=path.replace("9", "8")) == 403
        assert status(old, of="/_/a/%70hoto.png", asked="/_/a/%70hoto.png") == 200
        problem(client.get(f"/i/_{path}"), 403, "Forbidden")
        problem(client.get(f"/i/unsafe{path}"), 403, "Forbidden")
        keys.write_text("aaaa bbbb\ncc dd\n")  # both sign now
        assert (status(old), status(new)) == (200, 200)
        keys.write_text("cc dd # the old one is gone\n")
        assert (status(old), status(new)) == (403, 200)
        keys.write_text("broken\n")  # the last ones stay
        assert status(new) == 200


def test_no_signature_only_by_choice(start, source):
    with start(source=str(source)) as client:
        problem(client.get("/i/_/_/a/photo.png"), 403, "Forbidden")


@pytest.mark.parametrize("text", ["", "# nothing\n", "aa", "aa bb cc", "xx yy"])
def test_bad_files_of_keys(text):
    with pytest.raises(BadParameter):
        signing.parse(text)


# ---- sources ----


def test_paths_stay_in_the_folder(client, source, tmp_path):
    (tmp_path / "outside.png").write_bytes((source / "a" / "photo.png").read_bytes())
    link = source / "a" / "link.png"
    link.symlink_to(tmp_path / "outside.png")
    pipe = source / "a" / "pipe.png"
    os.mkfifo(pipe)
    problem(client.get("/i/_/_/a/link.png"), 403, "Forbidden")
    for path in ("a/pipe.png", "a", "a/none.png", "a/photo.png/x", "a/%ff.png", "n" * 5000):
        problem(client.get(f"/i/_/_/{path}"), 404, "NotFound")
    for path in ("a/%2e%2e/%2e%2e/x", "a//photo.png", "%2fetc/passwd", "a/%00", "a/..%5cx"):
        problem(client.get(f"/i/_/_/{path}"), 403, "Forbidden")
    problem(client.get("/i/_/_/a/no.png"), 415, "NotAPicture")


def test_sources_are_bounded(start, source, photo):
    with start(source=str(source), allow_unsigned=True, max_bytes=len(photo) - 1) as client:
        problem(client.get("/i/_/_/a/photo.png"), 413, "TooLarge")


def test_names_with_line_breaks(client, source, photo):
    (source / "a" / "line\nbreak.png").write_bytes(photo)
    assert client.get("/i/_/f:png/a/line%0Abreak.png").status_code == 200
    for path in ("a/no%0Aline.png", "a/photo.png%0A"):
        assert problem(client.get(f"/i/_/_/{path}"), 404, "NotFound")["seen"] == "no such source"


def test_no_source_no_route(start):
    with start(allow_unsigned=True) as client:
        problem(client.get("/i/_/_/a.png"), 404, "NotFound")
    with pytest.raises(NotFound):
        sources.open_source(Settings(source="/nowhere/at/all"))


def test_a_source_of_fsspec(start, photo):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/photo.png", photo)
    with start(source="memory://bucket/", allow_unsigned=True) as client:
        assert opened(client.get("/i/_/f:png/photo.png").content).size == (56, 40)
        problem(client.get("/i/_/f:png/none.png"), 404, "NotFound")


@pytest.fixture(scope="module")
def web(photo):
    """A web server on the loopback address; ``/away`` leads to a private address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(STATUS.get(self.path, 404))
            if self.path == "/away.png":
                self.send_header("Location", "http://10.0.0.1/photo.png")
            self.end_headers()
            if STATUS.get(self.path) == 200:
                self.wfile.write(photo)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_sources_by_url(start, web):
    pytest.importorskip("aiohttp")
    with start(source=web, allow_unsigned=True, allow_loopback=True) as client:
        assert opened(client.get("/i/_/f:png/photo.png").content).size == (56, 40)
        problem(client.get("/i/_/_/none.png"), 404, "NotFound")
        problem(client.get("/i/_/_/away.png"), 403, "Forbidden")
    with start(source=web, allow_unsigned=True, allow_private=True) as client:
        problem(client.get("/i/_/_/photo.png"), 403, "Forbidden")
    with start(source=web.replace("127.0.0.1", "localhost"), allow_unsigned=True) as client:
        problem(client.get("/i/_/_/photo.png"), 403, "Forbidden")
    with start(source="http://127.0.0.1:1/", allow_unsigned=True, allow_loopback=True) as client:
        problem(client.get("/i/_/_/photo.png"), 502, "SourceFailed")


@pytest.mark.parametrize("up", ["%25252e%25252e", ".%09.", ".%0a.", ".%0d."])
def test_paths_stay_below_a_url(start, web, up):
    """Clients of HTTP drop tabs and line breaks, and read %2e as a dot.

    The client of tests decodes a path once more than servers do.
    """
    pytest.importorskip("aiohttp")
    with start(source=f"{web}deep/", allow_unsigned=True, allow_loopback=True) as client:
        problem(client.get(f"/i/_/_/{up}/photo.png"), 404, "NotFound")


def test_what_a_url_sets_apart_is_part_of_a_name(start, web):
    pytest.importorskip("aiohttp")
    with start(source=web, allow_unsigned=True, allow_loopback=True) as client:
        for name in ("odd%20%3Fa%23b%25+(1),%C3%A9%0A.png", "odd%0a"):
            assert client.get(f"/i/_/f:png/{name}").status_code == 200


@pytest.mark.parametrize(
    ("address", "private", "loopback", "allowed"),
    [
        ("93.184.216.34", False, False, True),
        ("10.1.2.3", False, True, False),
        ("10.1.2.3", True, False, True),
        ("192.168.0.1", False, False, False),
        ("127.0.0.1", True, False, False),
        ("127.9.9.9", False, True, True),
        ("::1", False, False, False),
        ("::ffff:127.0.0.1", True, False, False),
        ("169.254.169.254", True, True, False),
        ("fe80::1%eth0", True, True, False),
        ("0.0.0.0", True, True, False),
        ("100.64.0.1", False, False, False),
        ("fd00::1", False, False, False),
    ],
)
def test_addresses(address, private, loopback, allowed):
    if allowed:
        addresses.check(address, private=private, loopback=loopback)
    else:
        with pytest.raises(Forbidden):
            addresses.check(address, private=private, loopback=loopback)
