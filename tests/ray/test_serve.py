"""The service on Ray Serve: its answers, and a second replica when calls wait."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.ray.test_batch import picture_file

from trellic.images import from_bytes


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]


@pytest.mark.slow("Ray Serve starts, and two replicas load a model each")
@pytest.mark.filterwarnings("default")
def test_replicas_follow_the_queue(cluster, tiny, tiny_path):
    pytest.importorskip("fastapi", reason="NOT CHECKED: no trellic[serve]")
    from ray import serve

    from trellic_serve import Settings
    from trellic_serve.on_ray import deploy

    settings = Settings(models=(str(tiny_path),), device="cpu", queue=32)
    quick = {"upscale_delay_s": 0.5, "metrics_interval_s": 0.2, "look_back_period_s": 0.5}
    url = f"http://127.0.0.1:{(port := free_port())}/encode?quality=60"
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deploy(settings, replicas=(1, 2), ongoing=1, cpus=0.5, **quick))

    def ask(photo: bytes) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(url, photo), timeout=120) as answer:
            return answer.read()

    def running() -> int:
        (deployment,) = serve.status().applications["default"].deployments.values()
        return deployment.replica_states.get("RUNNING", 0)

    photo = picture_file(1, 600)
    stream = tiny.encode_picture(from_bytes(photo), quality=60).data
    assert ask(photo) == stream
    with pytest.raises(urllib.error.HTTPError, match="415"):
        ask(b"no picture")
    until, most = time.monotonic() + 120, running()
    assert most == 1
    with ThreadPoolExecutor(8) as clients:
        while most < 2 and time.monotonic() < until:
            answers = clients.map(ask, [photo] * 16)
            most = max(most, running())
            assert set(answers) == {stream}
    assert max(most, running()) == 2
    serve.shutdown()


def test_arguments_of_serve_run():
    pytest.importorskip("fastapi", reason="NOT CHECKED: no trellic[serve]")
    pytest.importorskip("ray.serve", reason="NOT CHECKED: no ray (trellic[ray])")
    from pydantic import ValidationError
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as build

    from trellic_serve.on_ray import Arguments, application

    given = {"workers": "2", "max_replicas": "3", "allow_unsigned": "true"}
    made = build(application, given)._bound_deployment  # Ray shows it in no other way
    assert (made.name, made.max_ongoing_requests) == ("trellic", 2 + 4 * 2)
    assert made.ray_actor_options["num_cpus"] == 2
    with pytest.raises(ValidationError):
        Arguments(max_replica=3)
