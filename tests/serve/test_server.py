"""``trellic serve`` as a process: sockets, slow clients, signals, and one service after another."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.serve.conftest import picture_file

from trellic_serve import cli, server
from trellic_serve.errors import NotFound

ROOT = Path(__file__).parents[2]


class Process:
    """A service of its own process, on a socket that is ours, too."""

    def __init__(self, tiny_path: Path, place: socket.socket, *options: str) -> None:
        self.port = place.getsockname()[1]
        paths = [ROOT / name for name in ("runtime", "export", "training")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "trellic", "serve", "--model", str(tiny_path),
                "--device", "cpu", "--workers", "2", "--fd", str(place.fileno()),
                "--allow-anonymous", *options,
            ],
            pass_fds=[place.fileno()],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def wait_for(self, word: str, seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while not any(word in line for line in self.lines):
            assert time.monotonic() < until, self.lines
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, *, asked: bool = False) -> int:
        """Ask it to stop, unless it was asked, and return its exit code."""
        if not asked:
            self.ask_to_stop()
        code = self.process.wait(120)
        self._reader.join()
        self.process.stderr.close()
        return code


def post(port: int, body: bytes, path: str = "/encode") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=240)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def closed_within(place: socket.socket, seconds: float) -> bytes:
    """What comes until the other side closes."""
    place.settimeout(seconds)
    found = b""
    try:
        while part := place.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.long
@pytest.mark.slow("a process imports, loads its model, serves slow clients, and stops")
def test_a_service_and_its_slow_clients(tiny_path, tiny):
    body = tiny.encode(np.zeros((1600, 1600, 3), np.uint8), trellis=0)
    place = server.listen("127.0.0.1", 0, 0.5)
    service = Process(tiny_path, place, "--read-timeout", "1", "--write-timeout", "1")
    try:
        service.wait_for('"ready"')
        assert post(service.port, picture_file())[0] == 200
        address = ("127.0.0.1", service.port)
        with socket.create_connection(address) as idle:  # sends no head
            assert closed_within(idle, 60) == b""
        with socket.create_connection(address) as slow:  # begins a second head, and no more
            slow.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /")
            assert closed_within(slow, 60).count(b"HTTP/1.1") == 1
        with socket.create_connection(address) as slow:  # sends no whole body
            slow.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
            assert b" 408 " in closed_within(slow, 60)
        with socket.socket() as slow:  # takes nothing of a large answer
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(address)
            head = f"POST /decode?format=png HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            slow.sendall(head.encode() + b"\r\n\r\n" + body)
            service.wait_for('"route": "/decode"')
        assert post(service.port, b"x")[0] == 415  # and it goes on
        with socket.create_connection(address) as late:  # asks when the service has begun to stop
            time.sleep(0.2)
            service.ask_to_stop()
            time.sleep(0.4)
            late.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = closed_within(late, 60)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b"connection: close" in answer.lower()
        assert service.end(asked=True) == 0
    finally:
        place.close()
        service.process.kill()
    text = "".join(service.lines)
    assert "serving on http://127.0.0.1:" in text
    lines = [json.loads(line) for line in service.lines if line.startswith("{")]
    assert not [line for line in lines if line["level"] in ("error", "critical")], text


@pytest.mark.slow("two processes, one after the other, on one socket")
def test_no_request_is_lost_when_a_service_is_replaced(tiny_path):
    place = server.listen("127.0.0.1", 0, 5)
    old = Process(tiny_path, place, "--linger", "0.3")
    new, answers, stop = None, [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(post(old.port, picture_file()))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    try:
        old.wait_for('"ready"')
        for asker in askers:
            asker.start()
        new = Process(tiny_path, place)
        new.wait_for('"ready"')
        assert old.end() == 0
        before = len(answers)
        while len(answers) < before + 10:
            time.sleep(0.01)
        stop.set()
        for asker in askers:
            asker.join()
        assert new.end() == 0
    finally:
        stop.set()
        place.close()
        for one in filter(None, (old, new)):
            one.process.kill()
    assert {status for status, _ in answers} == {200}
    assert len({body for _, body in answers}) == 1


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        cli.main(["--port", "0", "--source", str(tmp_path / "none")])


@pytest.mark.parametrize("option", ["--model", "--source", "--web"])
def test_what_cannot_be_used_is_one_line_before_it_listens(trellic, monkeypatch, tmp_path, option):
    monkeypatch.setattr(server, "listen", lambda *_: pytest.fail("it listens"))
    found = trellic("serve", "--port", 0, option, tmp_path / "nosuch")
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert found.err.startswith("error: ")
    assert "nosuch" in found.err


def test_sizes_are_taken_as_encode_takes_them(trellic, monkeypatch, tiny_path):
    seen = []

    def run(app, place, log_level):
        seen.append(app.state.service.settings)
        return 0

    monkeypatch.setattr(server, "run", run)
    command = ("serve", "--port", 0, "--model", tiny_path, "--device", "cpu")
    for options in ((), ("--max-memory", "1.5GiB", "--max-bytes", "64M"), ("--max-memory", 10**9)):
        assert trellic(*command, *options).code == 0
    assert [one.max_memory for one in seen] == [2 * 10**9, 3 * 2**29, 10**9]
    assert [one.max_bytes for one in seen] == [2**25, 64 * 10**6, 2**25]
    found = trellic(*command, "--max-memory", "much")
    assert (found.code, "is not a size such as 2G" in found.err) == (2, True)


def test_strangers_need_keys(trellic):
    found = trellic("serve", "--host", "0.0.0.0", "--port", "0")
    assert found.code == 1
    assert found.err.startswith("error: no API keys")
    assert trellic("serve", "--port", "x").code == 2
    assert "--allow-anonymous" in trellic("serve", "--help").out


def test_a_place_that_is_taken(trellic):
    with server.listen("127.0.0.1", 0, 1) as place:
        found = trellic("serve", "--port", place.getsockname()[1])
    assert (found.code, found.err.count("\n")) == (1, 1)
    found = trellic("serve", "--fd", 999, "--allow-anonymous")
    assert found.err.startswith("error: descriptor 999")
