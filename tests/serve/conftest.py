"""A service with the tiny model, in this process; its requests and answers."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

import anyio._core._fileio  # noqa: F401  # deep in a request, Python 3.11's ast.parse fails at it
from starlette.testclient import TestClient
from tests.runtime.family import make_family

from trellic_serve import Settings, create_app


def picture_file(height: int = 40, width: int = 56, kind: str = "PNG", channels: int = 3) -> bytes:
    """A smooth picture with some noise, as a file."""
    rng = np.random.default_rng(height * width)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, channels))
    pixels = (ramp + rng.uniform(0, 40, ramp.shape)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    """A picture file, decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that another thread does."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def photo() -> bytes:
    return picture_file()


@pytest.fixture(scope="session")
def stream(tiny, photo) -> bytes:
    return tiny.encode(opened(photo))


@pytest.fixture(scope="session")
def source(tmp_path_factory, photo, stream) -> Path:
    """A folder of sources."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "a").mkdir()
    (folder / "a" / "photo.png").write_bytes(photo)
    (folder / "a" / "alpha.png").write_bytes(picture_file(channels=4))
    (folder / "a" / "photo.tlc").write_bytes(stream)
    (folder / "a" / "no.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def family_path(tiny_path, tmp_path_factory) -> Path:
    """The tiny bundle with more decoders."""
    return make_family(tiny_path, tmp_path_factory.mktemp("family") / "family.zip")


@pytest.fixture(scope="session")
def start(tiny_path):
    """Start a service with other settings: ``with start(queue=1) as client``."""

    def make(wait: bool = True, **changes) -> TestClient:
        settings = Settings(
            **{"models": (str(tiny_path),), "device": "cpu", "workers": 2} | changes
        )
        app = create_app(settings)

        class Client(TestClient):
            def __enter__(self):
                super().__enter__()
                if wait:
                    wait_until(lambda: app.state.service.started or app.state.service.failed)
                return self

        return Client(app, raise_server_exceptions=False)

    return make


@pytest.fixture(scope="session")
def client(start, source) -> Iterator[TestClient]:
    with start(source=str(source), allow_unsigned=True, max_pixels=2**20) as client:
        yield client
