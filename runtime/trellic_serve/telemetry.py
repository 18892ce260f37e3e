"""Facts in the spans that FastAPI makes if OpenTelemetry's package is installed.

The operator chooses where spans go, with FastAPI's own settings or with a tracer provider that is
set up before `create_app`.
"""

from __future__ import annotations

from collections.abc import Mapping


def note(request_id: str = "", stages: Mapping[str, float] | None = None) -> None:
    """Add facts to the span of the request that is being answered.

    Parameters
    ----------
    request_id : also in the log
    stages : seconds by name
    """
    try:
        from opentelemetry.trace.propagation import get_current_span
    except ImportError:
        return
    span = get_current_span()
    if request_id:
        span.set_attribute("trellic.request_id", request_id)
    for name, seconds in (stages or {}).items():
        span.add_event(f"trellic.{name}", {"seconds": seconds})
