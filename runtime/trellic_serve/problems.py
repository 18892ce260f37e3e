"""Errors as clients see them: a status, and a JSON body without paths or traces."""

from __future__ import annotations

from typing import Any, Final

from trellic import errors
from trellic.images import describe
from trellic.images.sniff import picture_format
from trellic_serve.errors import BadRange, Busy, MethodNotAllowed, ServiceError

# The first line that fits counts. All other errors are faults of the service, without details.
_STATUS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.ImageTooLarge, 413),
    (errors.NotATrellicFile, 415),
    (errors.StreamError, 422),
    (errors.TargetUnreachable, 422),
    (errors.BadParameter, 400),
    (errors.Stopped, 503),
    (errors.MissingExtra, 501),
    (MemoryError, 503),
)
# The remedies of the library are for its command line.
_REMEDIES: Final[dict[str, str]] = {
    "ImageTooLarge": "send a smaller picture",
    "UnknownModel": "ask the operator of this service to install its model",
    "DeadlineExceeded": "send a smaller picture, or try again when the service is less busy",
    "MissingExtra": "ask the operator of this service to install it",
}


class NotAPicture(errors.BadImage):
    """The bytes are not a picture in a known format."""


class DamagedPicture(errors.BadImage):
    """The bytes are a picture that cannot be decoded."""


def of_picture(error: errors.BadImage, data: bytes) -> errors.BadImage:
    """Distinguish bytes that are not a picture from a damaged or unsupported picture."""
    if picture_format(data) is None:
        return NotAPicture(describe(data), expected="a PNG, JPEG, WebP, AVIF, TIFF or the like")
    return DamagedPicture(error.seen, expected=error.expected, remedy=error.remedy)


def status_of(error: BaseException) -> int:
    """Return the status of an answer; 500 for unexpected errors."""
    if isinstance(error, ServiceError):
        return error.status
    if isinstance(error, NotAPicture):
        return 415
    if isinstance(error, errors.BadImage):
        return 422
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def body_of(error: BaseException, request_id: str) -> dict[str, Any]:
    """Return the body of an answer.

    Parameters
    ----------
    error : what went wrong
    request_id : also in the service's log
    """
    kind, status = type(error).__name__, status_of(error)
    if status == 500:
        words = {
            "kind": "InternalError",
            "seen": "a fault of the service, which its log tells more of",
            "expected": "",
            "remedy": "report it with the request_id",
        }
    elif isinstance(error, errors.TrellicError):
        remedy = _REMEDIES.get(kind, error.remedy)
        words = {"kind": kind, "seen": error.seen, "expected": error.expected, "remedy": remedy}
    else:
        words = {
            "kind": kind,
            "seen": "more memory than there is",
            "expected": "",
            "remedy": "send a smaller picture, or try again later",
        }
    return words | {"request_id": request_id}


def headers_of(error: BaseException) -> dict[str, str]:
    """Return the headers that belong to an error."""
    if isinstance(error, Busy):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, BadRange):
        return {"Content-Range": f"bytes */{error.size}"}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.methods}
    status = status_of(error)
    if status == 503:
        return {"Retry-After": "5"}
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}
