"""How the service behaves under load: throughput, latency, hostile requests, a restart, a soak.

::

    python -m benchmarks.serve [--soak 300] [--hostile 10000] [--seconds 20] [--workers 0]
    python -m benchmarks.serve --parts soak --soak 3600

Starts ``trellic serve`` as a process of its own on a loopback socket, and asks it from threads of
this one, which also calls the library itself, in turns with the service. With one or two cores
clients and service share them, at the service's expense. Writes
``benchmarks/results/serve.json``; exit code 1 when a request of the restart is lost, a hostile one
gets a 500, or memory grows by more than 5 % in the soak.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks._machine import REPOSITORY, describe
from benchmarks.load import (
    CLIENTS,
    LOAD,
    at_random,
    evenly,
    flood,
    ideal_ratio,
    in_turns,
    paced,
    percentiles,
)
from trellic import Codec
from trellic.images import from_bytes
from trellic.scored import ssimulacra2
from trellic.support.cores import usable_cores
from trellic_serve.formats import by_name, write

RESULT = REPOSITORY / "benchmarks" / "results" / "serve.json"
PHOTO = REPOSITORY / "samples" / "osprey.png"
PARTS = ("throughput", "formats", "hostile", "restart", "soak")
SIDE_BY_SIDE = {"tlc": "image/x-trellic", "avif": "image/avif", "webp": "image/webp"}


class Service:
    """``trellic serve``, on a socket that this process holds as well."""

    def __init__(self, place: socket.socket, workers: int, folder: Path) -> None:
        self.port = place.getsockname()[1]
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "trellic", "serve", "--fd", str(place.fileno()),
                "--allow-anonymous", "--source", str(folder), "--allow-unsigned",
                "--workers", str(workers), "--queue", "64", "--linger", "0.5",
                "--log-level", "error", "--device", "cpu",
            ],
            pass_fds=[place.fileno()],
        )  # fmt: skip
        while self.ask("GET", "/health/ready")[0] != 200:
            if self.process.poll() is not None:
                raise SystemExit("error: the service did not start")
            time.sleep(0.1)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Ask on a connection of its own; 0 is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def resident_mb(self) -> float:
        """Memory of the service's process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]
        return round(int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

    def end(self) -> int:
        """Stop it gracefully."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Hold a socket that services can accept from."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as place:
        yield place


def throughput(service: Service, workers: int, seconds: float) -> dict[str, object]:
    """Compare requests a second with the library's own calls, both with as many threads.

    Both read a PNG file before they encode, and write a JPEG file after they have decoded.
    """
    photo = PHOTO.read_bytes()
    codec = Codec.load("photo", "cpu", 1)
    codec.warm_up(trellis=32, decoder="quality")
    stream = codec.encode_picture(from_bytes(photo)).data
    result: dict[str, object] = {}
    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encode": (
            lambda: codec.encode_picture(from_bytes(photo)),
            lambda: service.ask("POST", "/encode", photo),
        ),
        "decode": (
            lambda: write(codec.decode_picture(stream), by_name("jpeg"), 90),
            lambda: service.ask("POST", "/decode?format=jpeg&quality=90", stream),
        ),
    }
    for name, (own, asked) in calls.items():
        library, served = in_turns(own, asked, workers, seconds)
        rate = LOAD * served
        result[name] = {
            "library_per_s": round(library, 3),
            "service_per_s": round(served, 3),
            "share": round(served / library, 3),
            "at_80_percent": percentiles(paced(asked, at_random(rate), seconds)),
            "at_80_percent_evenly": percentiles(paced(asked, evenly(rate), seconds)),
            "ideal_p99_over_p50": ideal_ratio(LOAD, workers),
        }
        print(name, result[name])
    return result


def beside(service: Service, seconds: float) -> dict[str, object]:
    """Compare formats that the same service sends of the same photo, at equal SSIMULACRA 2.

    Trellic at quality 60; the others at the lowest quality that scores as much.
    """
    codec, pixels = Codec.load("photo", "cpu", 1), from_bytes(PHOTO.read_bytes()).pixels
    result: dict[str, object] = {}
    wanted = 0.0

    def sent(mime: str, quality: int) -> bytes:
        path = f"/i/_/q:{quality}/{PHOTO.name}"
        return service.ask("GET", path, headers={"Accept": mime})[1]

    def score(name: str, data: bytes) -> float:
        shown = codec.decode(data) if name == "tlc" else from_bytes(data).pixels
        return ssimulacra2(pixels, shown)

    for name, mime in SIDE_BY_SIDE.items():
        low, high = (60, 60) if name == "tlc" else (20, 97)
        while low < high:
            middle = (low + high) // 2
            enough = score(name, sent(mime, middle)) >= wanted
            low, high = (low, middle) if enough else (middle + 1, high)
        data = sent(mime, high)
        reached = score(name, data)
        wanted = wanted or reached
        took = flood(partial(sent, mime, high), CLIENTS, seconds)
        result[name] = {
            "quality": high,
            "ssimulacra2": round(reached, 2),
            "per_s": round(len(took) / seconds, 3),
            "bytes": len(data),
        }
        print(name, result[name])
    return result


def hostile(service: Service, count: int) -> dict[str, object]:
    """Send what no friend would: cut, flipped, foreign bodies, odd options, wrong paths."""
    rng = random.Random(7)
    photo = PHOTO.read_bytes()[:4000]
    stream = service.ask("GET", "/i/_/w:64/osprey.png", headers={"Accept": "image/x-trellic"})[1]
    tiny = service.ask("GET", "/i/_/w:64,f:png/osprey.png")[1]
    values = ["", "0", "-1", "nan", "1e999", "9" * 400, "%00", "../..", "quality", "a:1", "\u00e9"]
    names = ["quality", "bpp", "bytes", "trellis", "model", "decoder", "region", "format", "width"]

    def body() -> bytes:
        data = bytearray(rng.choice([photo, stream, tiny, b"", b"x", rng.randbytes(200)]))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.4 else data)

    def query() -> str:
        chosen = rng.sample(names, rng.randrange(3))
        return "&".join(f"{name}={quote(rng.choice(values), safe='%')}" for name in chosen)

    def one(_: int) -> int:
        with lock:
            kind = rng.random()
            path = rng.choice(["/encode", "/decode", "/info"]) + "?" + query()
            content = body()
            odd = ["_", "..", "%2e%2e", "a", "%00", "w:5", "x" * 3000]
            parts = [rng.choice(odd) for _ in range(3)]
        if kind < 0.75:
            return service.ask("POST", path, content)[0]
        return service.ask("GET", "/i/" + "/".join(parts))[0]

    lock = threading.Lock()
    with ThreadPoolExecutor(CLIENTS) as threads:
        found = Counter(threads.map(one, range(count)))
    print("hostile", dict(found))
    return {"requests": count, "statuses": {str(key): found[key] for key in sorted(found)}}


def restart(first: Service, make: Callable[[], Service]) -> tuple[Service, dict[str, object]]:
    """Replace a service by another one under load; count the requests that were lost."""
    stop = threading.Event()
    answers: Counter[int] = Counter()
    stream = first.ask("GET", "/i/_/w:200/osprey.png", headers={"Accept": "image/x-trellic"})[1]

    def one() -> None:
        while not stop.is_set():
            answers[first.ask("POST", "/decode", stream)[0]] += 1

    askers = [threading.Thread(target=one) for _ in range(4)]
    for asker in askers:
        asker.start()
    time.sleep(2)
    second = make()
    code = first.end()
    time.sleep(2)
    stop.set()
    for asker in askers:
        asker.join()
    lost = sum(count for status, count in answers.items() if status != 200)
    result: dict[str, object] = {
        "requests": sum(answers.values()),
        "lost": lost,
        "exit_code": code,
    }
    print("restart", result)
    return second, result


def soak(service: Service, seconds: float) -> dict[str, object]:
    """Encode and decode pictures of many sizes for a while; note memory ten times.

    A machine that does other work may be too slow for a deadline: such answers (503) are counted.
    """
    seen, done, busy = [], 0, 0
    for _ in range(11):
        sides = iter(range(10**9))

        def call(sides: Iterator[int] = sides) -> None:
            nonlocal busy
            width = 100 + 37 * (next(sides) % 18)
            head = {"Accept": "image/x-trellic"}
            status, data = service.ask("GET", f"/i/_/w:{width}/osprey.png", headers=head)
            if status == 200:
                status, _ = service.ask("POST", "/decode", data)
            busy += status == 503
            if status not in (200, 503):
                raise SystemExit(f"error: a request of the soak got {status}")

        done += len(flood(call, 4, seconds / 11))
        seen.append(service.resident_mb())
        print("soak", seen[-1], "MB after", 2 * done, "requests", flush=True)
    return {"seconds": seconds, "requests": 2 * done, "busy": busy, "resident_mb": seen}


def measured(part: str, options: argparse.Namespace, workers: int) -> dict[str, object]:
    """Measure one part on a service of its own."""
    folder = PHOTO.parent
    with listening() as place:
        service = Service(place, workers, folder)
        if part == "throughput":
            found = throughput(service, workers, options.seconds)
        elif part == "formats":
            found = beside(service, options.seconds)
        elif part == "hostile":
            found = hostile(service, options.hostile)
        elif part == "restart":
            service, found = restart(service, lambda: Service(place, workers, folder))
        else:
            found = soak(service, options.soak)
        return {**found, "exit_code": service.end()}


def failed(part: str, found: dict[str, Any]) -> bool:
    """Whether what a part found is a fault of the service."""
    if part == "hostile":
        return any(int(status) in (0, 500) for status in found["statuses"])
    if part == "restart":
        return bool(found["lost"])
    if part == "soak":
        memory = found["resident_mb"]
        return bool(memory[-1] > 1.05 * memory[1])
    return False


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("--soak", type=float, default=300, help="seconds")
    parser.add_argument("--hostile", type=int, default=10_000, help="requests")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--workers", type=int, default=0, help="0: one a core")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="to measure")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    workers = options.workers or usable_cores()
    faults = False
    for part in options.parts:
        load = round(os.getloadavg()[0], 2)
        found = measured(part, options, workers)
        faults |= failed(part, found)
        record = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
        machine = describe(("numpy", "numba", "onnxruntime", "fastapi", "uvicorn"))
        record["picture"] = "768x512"
        around = {"machine": machine, "cores": usable_cores(), "load": load, "workers": workers}
        record[part] = {**found, **around}
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(faults)


if __name__ == "__main__":
    sys.exit(main())
