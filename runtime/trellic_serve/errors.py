"""The service's own errors, each with the status that the client sees."""

from __future__ import annotations

from typing import ClassVar

from trellic.errors import TrellicError


class ServiceError(TrellicError):
    """Base of the errors of the service itself.

    Attributes
    ----------
    status : of the answer
    """

    status: ClassVar[int] = 400


class BadRequest(ServiceError):
    """The service does not understand the request."""


class Unauthorized(ServiceError):
    """There is no API key, or a wrong one."""

    status = 401


class Forbidden(ServiceError):
    """The signature of a URL is missing or wrong, it has expired, or its source may not be read."""

    status = 403


class NotFound(ServiceError):
    """No such source, or no such route."""

    status = 404


class MethodNotAllowed(ServiceError):
    """The route exists, but not for this method.

    Parameters
    ----------
    seen : str
    methods : that the route has
    """

    status = 405

    def __init__(self, seen: str, methods: str) -> None:
        super().__init__(seen, expected=methods, remedy="see /openapi.json")
        self.methods = methods


class NotAcceptable(ServiceError):
    """The client accepts no format that the picture can be sent in."""

    status = 406


class TooSlow(ServiceError):
    """The request did not arrive in time."""

    status = 408


class TooLarge(ServiceError):
    """The request, or the source that it names, has too many bytes."""

    status = 413


class Busy(ServiceError):
    """The queue is full.

    Parameters
    ----------
    seen : str
    retry_after : seconds to wait before another try
    """

    status = 429

    def __init__(self, seen: str, retry_after: int) -> None:
        super().__init__(seen, remedy=f"try again in {retry_after} s")
        self.retry_after = retry_after


class BadRange(ServiceError):
    """The client asks for a part of a file behind its end.

    Parameters
    ----------
    seen : str
    size : of the file, in bytes
    """

    status = 416

    def __init__(self, seen: str, size: int) -> None:
        super().__init__(seen, expected=f"one below {size}, the size of the file")
        self.size = size


class SourceFailed(ServiceError):
    """The place that sources come from does not answer as it should."""

    status = 502


class NotReady(ServiceError):
    """Engines are not warm yet, or the service is about to stop."""

    status = 503
