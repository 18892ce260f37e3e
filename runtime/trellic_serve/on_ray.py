"""The service as a deployment of Ray Serve; the number of replicas follows its queue.

::

    serve run trellic_serve.on_ray:application max_replicas=8 source=s3://bucket/photos/

Ray's proxies take the requests; each replica is the application of `trellic_serve.app` in a process
of its own.
"""

# No postponed annotations here: Ray reads that of `application` to know what to make of arguments.
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

from trellic.constants import DEFAULT_MODEL
from trellic_serve.app import create_app
from trellic_serve.settings import Settings


def deploy(
    settings: Settings,
    *,
    replicas: tuple[int, int] = (1, 8),
    ongoing: float = 0.0,
    cpus: float = 0.0,
    **autoscaling: Any,
) -> serve.Application:
    """Return the service for `ray.serve.run`.

    Parameters
    ----------
    settings : of each replica. ``workers`` 0 means one here, since a machine holds many replicas.
        Ray manages connections, their timeouts, and stopping
    replicas : least and most
    ongoing : calls of a replica, with waiting ones, that adding and removing replicas aims at; 0
        for two per worker
    cpus : number that a replica asks Ray for; 0 for its workers and their threads
    autoscaling : more of Ray's ``AutoscalingConfig``, such as ``upscale_delay_s``
    """
    workers = settings.workers or 1
    settings = replace(settings, workers=workers, warm_first=True)

    def build() -> FastAPI:
        return create_app(settings)  # a replica that lacks a model does not start

    deployment = serve.deployment(
        name="trellic",
        max_ongoing_requests=workers + settings.queue_for(workers),
        graceful_shutdown_timeout_s=settings.stop_timeout,
        ray_actor_options={"num_cpus": cpus or workers * max(1, settings.threads)},
        autoscaling_config={
            "min_replicas": replicas[0],
            "max_replicas": replicas[1],
            "target_ongoing_requests": ongoing or 2.0 * workers,
            **autoscaling,
        },
    )
    return deployment(serve.ingress(build)()).bind()


class Arguments(BaseModel, extra="forbid"):
    """Arguments of ``serve run``, as NAME=VALUE, with the names of `Settings` and `deploy`."""

    model: str = DEFAULT_MODEL
    adapter: str | None = None
    workers: int = 1
    threads: int = 1
    source: str | None = None
    allow_unsigned: bool = False
    signing_keys: str | None = None
    api_keys: str | None = None
    min_replicas: int = 1
    max_replicas: int = 8
    ongoing: float = 0.0


def application(arguments: Arguments) -> serve.Application:
    """Build the deployment for ``serve run`` and for files of ``serve deploy``."""
    given = arguments.model_dump(
        exclude={"model", "adapter", "min_replicas", "max_replicas", "ongoing"}
    )
    files = {name: given[name] and Path(given[name]) for name in ("signing_keys", "api_keys")}
    adapters = (arguments.adapter,) if arguments.adapter else ()
    settings = Settings(models=(arguments.model,), adapters=adapters, **given | files)
    replicas = (arguments.min_replicas, arguments.max_replicas)
    return deploy(settings, replicas=replicas, ongoing=arguments.ongoing)
