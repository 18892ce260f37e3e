"""The queue, deadlines and cancelling; batches; probes, keys, metrics, logs, spans."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.serve.conftest import opened, picture_file, wait_until
from tests.serve.test_coding import problem

import trellic
from trellic.errors import BadParameter, Cancelled, CorruptStream, DeadlineExceeded, EngineError
from trellic.support import bounds
from trellic_serve import codecs, logs, pool
from trellic_serve.batcher import Batcher
from trellic_serve.errors import Busy
from trellic_serve.pool import Gone, Pool

# ---- the pool ----


def test_no_more_than_fit_are_admitted():
    async def run():
        calls = Pool(1, 1, 5.0)
        go = threading.Event()

        async def one():
            async with calls.admit() as ticket:
                return await calls.run(ticket, go.wait)

        tasks = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert (calls.admitted, calls.waiting) == (2, 1)
        with pytest.raises(Busy) as busy:
            async with calls.admit():
                pass
        assert busy.value.retry_after >= 1
        go.set()
        assert await asyncio.gather(*tasks) == [True, True]
        assert (calls.admitted, calls.waiting) == (0, 0)
        async with calls.admit():  # there is room again
            pass
        calls.close()

    asyncio.run(run())


def slow(until: threading.Event, ended: list[BaseException]) -> None:
    """Work that asks, as the codec does, whether it may go on."""
    while not until.is_set():
        time.sleep(0.002)
        try:
            bounds.check()
        except BaseException as error:
            ended.append(error)
            raise


def test_a_call_ends_at_its_deadline():
    async def run():
        calls, ended = Pool(1, 1, 0.05), []
        with pytest.raises(DeadlineExceeded):
            async with calls.admit() as ticket:
                await calls.run(ticket, lambda: slow(threading.Event(), ended))
        assert isinstance(ended[0], DeadlineExceeded)
        calls.close()

    asyncio.run(run())


def test_waiting_counts_and_what_is_late_does_not_start():
    async def run():
        calls = Pool(1, 1, 0.02)
        async with calls.admit() as ticket:
            await asyncio.sleep(0.05)
            with pytest.raises(DeadlineExceeded):
                await calls.run(ticket, lambda: pytest.fail("it ran"))
        calls.close()

    asyncio.run(run())


def test_work_that_does_not_notice_is_not_waited_for(monkeypatch):
    """Pillow, for one; its place stays taken until it ends."""
    monkeypatch.setattr(pool, "GRACE", 0.0)

    async def run():
        calls, end = Pool(1, 1, 0.05), threading.Event()
        with pytest.raises(DeadlineExceeded):
            async with calls.admit() as ticket:
                await calls.run(ticket, end.wait)
        assert calls.admitted == 1
        end.set()
        calls.close()
        assert calls.admitted == 0

    asyncio.run(run())


def test_a_client_that_goes_ends_its_call():
    async def run():
        calls, ended = Pool(1, 1, 30.0), []

        async def leave():
            await asyncio.sleep(0.02)

        with pytest.raises(Gone):
            async with calls.admit() as ticket:
                await calls.run(ticket, lambda: slow(threading.Event(), ended), leave())
        calls.close()
        assert isinstance(ended[0], Cancelled)
        assert calls.admitted == 0

    asyncio.run(run())


def test_busy_is_429(start, photo, monkeypatch):
    go, encode = threading.Event(), codecs.Coder.encode

    def held(self, picture, want):
        go.wait(30)
        return encode(self, picture, want)

    monkeypatch.setattr(codecs.Coder, "encode", held)
    with start(workers=1, queue=1) as client, ThreadPoolExecutor(2) as others:
        calls = client.app.state.service.pool
        answers = [others.submit(client.post, "/encode", content=photo) for _ in range(2)]
        wait_until(lambda: calls.admitted == 2)
        answer = client.post("/encode", content=photo)
        problem(answer, 429, "Busy")
        assert int(answer.headers["retry-after"]) >= 1
        text = client.get("/metrics").text
        assert "trellic_queue_share 1.0" in text
        assert "trellic_queue_waiting 1.0" in text
        go.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]


def test_a_late_answer_is_503(start, photo, monkeypatch):
    monkeypatch.setattr(codecs.Coder, "encode", lambda *_: slow(threading.Event(), []))
    with start(deadline=0.05) as client:
        answer = client.post("/encode", content=photo)
        problem(answer, 503, "DeadlineExceeded")
        assert "retry-after" in answer.headers


# ---- batches ----


def test_pictures_of_one_kind_go_together():
    seen, sizes = [], []

    def code(key, items):
        seen.append((key, sorted(items)))
        return [(key, item) for item in items]

    batcher = Batcher(code, 0.2, 8, sizes.append)
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(batcher, "ababab", range(6)))
    batcher.close()
    assert done == list(zip("ababab", range(6), strict=True))
    assert sum(sizes) == 6
    assert len(seen) < 6, "none went together"
    assert all(key == "ab"[item % 2] for key, items in seen for item in items)


def test_a_batch_has_no_more_than_fit():
    sizes = []
    batcher = Batcher(lambda key, items: items, 0.05, 2, sizes.append)
    with ThreadPoolExecutor(5) as threads:
        assert sorted(threads.map(batcher, "aaaaa", range(5))) == [*range(5)]
    batcher.close()
    assert max(sizes) <= 2


def test_one_bad_picture_does_not_fail_the_others():
    def code(key, items):
        if "bad" in items:
            raise CorruptStream("bad")
        return items

    batcher = Batcher(code, 0.2, 8)
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(batcher, "", item) for item in ("x", "bad", "y")]
        assert (jobs[0].result(), jobs[2].result()) == ("x", "y")
        with pytest.raises(CorruptStream):
            jobs[1].result()
    batcher.close()


def test_a_service_on_a_gpu_codes_in_batches(start, photo, stream, tiny, monkeypatch):
    """What a GPU's codec would be asked for; the codec itself runs on the CPU here."""
    monkeypatch.setattr(trellic.Codec, "device", property(lambda self: "cuda"))
    monkeypatch.setattr(trellic.Codec, "_batches_on_gpu", lambda self: False)
    with start(window=0.2) as client, ThreadPoolExecutor(4) as threads:
        coder = client.app.state.service.coder
        assert coder.gpu
        assert client.app.state.service.pool.workers == 2
        encoded = [threads.submit(client.post, "/encode", content=photo) for _ in range(2)]
        decoded = [threads.submit(client.post, "/decode", content=stream) for _ in range(2)]
        for answer in encoded:
            assert answer.result().content == tiny.encode(opened(photo))
        for answer in decoded:
            pixels = np.asarray(opened(answer.result().content))
            np.testing.assert_array_equal(pixels, tiny.decode(stream))
        alpha = tiny.encode(opened(picture_file(channels=4)))
        assert opened(client.post("/decode", content=alpha).content).mode == "RGBA"
        text = client.get("/metrics").text
    assert "trellic_batch_pictures_count" in text
    assert "trellic_batch_pictures_sum 5.0" in text


# ---- probes, keys ----


def test_probes(start, monkeypatch):
    go, load = threading.Event(), codecs.Coder.load

    def held(self):
        go.wait(30)
        load(self)

    monkeypatch.setattr(codecs.Coder, "load", held)
    with start(wait=False) as client:

        def states():
            return [client.get(f"/health/{n}").status_code for n in ("live", "startup", "ready")]

        assert states() == [200, 503, 503]
        problem(client.post("/encode", content=b"x"), 503, "NotReady")
        go.set()
        wait_until(lambda: states() == [200, 200, 200])
        client.app.state.service.stop()
        assert states() == [200, 200, 503]
        assert client.get("/health/live").headers["connection"] == "close"


def test_a_model_that_does_not_load_is_told(start, monkeypatch):
    def broken(self, **options):
        raise EngineError("a graph that does not run")

    monkeypatch.setattr(trellic.Codec, "warm_up", broken)
    with start() as client:
        assert client.app.state.service.failed is not None
        assert client.get("/health/startup").status_code == 503


def test_api_keys(start, tmp_path, photo, source):
    keys = tmp_path / "keys"
    keys.write_text("# who\nalice 0123456789abcdef\n")
    with start(api_keys=keys, source=str(source), allow_unsigned=True) as client:
        for head in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            for route in ("/encode", "/decode", "/info", "/compare"):
                answer = client.post(route, content=photo, headers=head)
                problem(answer, 401, "Unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        problem(client.get("/metrics"), 401, "Unauthorized")
        assert client.head("/metrics").status_code == 401
        head = {"Authorization": "Bearer 0123456789abcdef"}
        assert client.post("/encode", content=photo, headers=head).status_code == 200
        for path in ("/", "/health/live", "/health/ready", "/i/_/_/a/photo.png"):
            assert client.get(path).status_code == 200
        keys.write_text("bob fedcba9876543210\n")
        assert client.post("/encode", content=photo, headers=head).status_code == 401


@pytest.mark.parametrize("text", ["", "alice\n", "alice short\n", "a b c\n"])
def test_bad_files_of_api_keys(start, tmp_path, text):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(BadParameter):
        start(api_keys=tmp_path / "keys")


@pytest.mark.parametrize("change", [{"max_bytes": 0}, {"deadline": float("nan")}, {"batch": 0},
                                    {"models": ()}, {"workers": -1}])  # fmt: skip
def test_bad_settings(start, change):
    with pytest.raises(BadParameter):
        start(**change)


# ---- what operators see ----


def test_metrics_by_stage(client, photo, stream):
    client.post("/encode", content=photo)
    client.post("/decode", content=stream)
    client.post("/encode", content=b"none")
    text = client.get("/metrics").text
    for line in (
        'trellic_requests_total{route="/encode",status="200"}',
        'trellic_requests_total{route="/encode",status="415"}',
        'trellic_errors_total{kind="NotAPicture"}',
        'trellic_stage_seconds_count{stage="g_a"}',
        'trellic_stage_seconds_count{stage="g_s"}',
        'trellic_stage_seconds_count{stage="wait"}',
        'trellic_bytes_total{direction="in"}',
        "trellic_ready 1.0",
    ):
        assert line in text, line


def test_a_request_has_an_id_and_a_line(client, photo, caplog):
    caplog.set_level(logging.INFO, "trellic_serve")
    head = {"X-Request-ID": "mine-1"}
    assert client.post("/encode", content=photo, headers=head).headers["x-request-id"] == "mine-1"
    made = client.get("/health/live", headers={"X-Request-ID": "x" * 65}).headers["x-request-id"]
    assert len(made) == 32
    (record,) = (one for one in caplog.records if one.getMessage() == "request")
    fields = json.loads(logs.JsonFormatter().format(record))
    assert fields["request_id"] == "mine-1"
    assert (fields["route"], fields["status"], fields["bytes_in"]) == ("/encode", 200, len(photo))
    assert fields["level"] == "info"


def test_a_trace_is_one_line():
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as error:
        found = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "", 0, "x", (), found)
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    assert "two\nlines" in json.loads(text)["trace"]


def test_spans(client, photo):
    trace = pytest.importorskip("opentelemetry.trace")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    simple = pytest.importorskip("opentelemetry.sdk.trace.export")
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(simple.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.post("/encode", content=photo, headers={"traceparent": parent})
    spans = exporter.get_finished_spans()
    (span,) = (span for span in spans if span.name == "POST /encode")
    assert span.attributes["http.response.status_code"] == 200
    assert len(span.attributes["trellic.request_id"]) == 32
    assert f"{span.context.trace_id:032x}" == parent[3:35]
    events = {event.name for one in spans for event in one.events}
    assert {"trellic.g_a", "trellic.search"} <= events
