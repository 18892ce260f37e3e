"""The exceptions of Trellic: one family, one kind per fault.

Every message says in one line what was seen, what was expected and what to do about it, because the
command line prints it unchanged after ``error: ``. This module imports nothing heavy.
"""

from __future__ import annotations


class TrellicError(Exception):
    """Base of every error that Trellic raises on purpose.

    Parameters
    ----------
    seen : str
        What was found, with the offending value in it.
    expected : str, optional
        What would have been right.
    remedy : str, optional
        What the user can do about it.

    Attributes
    ----------
    seen, expected, remedy : str
        The three parts; ``str(error)`` joins those that are not empty into one line.
    """

    def __init__(self, seen: str, *, expected: str = "", remedy: str = "") -> None:
        parts = [seen, f"expected {expected}" if expected else "", remedy]
        super().__init__(" ".join("; ".join(part for part in parts if part).split()))
        self.seen = seen
        self.expected = expected
        self.remedy = remedy


# ---- streams: bytes that come from outside ----


class StreamError(TrellicError):
    """Base of all that can be wrong with the bytes of a ``.tlc`` stream."""


class NotATrellicFile(StreamError):
    """The bytes do not begin with the signature of a ``.tlc`` file."""


class TruncatedStream(StreamError):
    """The stream ends before the bytes that its header promises."""


class CorruptStream(StreamError):
    """A checksum, a length, a rANS state or a reserved bit is wrong."""


class UnsupportedVersion(StreamError):
    """The stream was written in a format version or with a feature this release cannot read."""


class UnknownModel(StreamError):
    """No installed bundle has the requested stream id or model name."""


class ImageTooLarge(StreamError):
    """The picture has more pixels than the caller allows, or than the format can hold."""


# ---- what the caller passes ----


class BadImage(TrellicError):
    """A picture that cannot be read or coded: wrong file type, dtype, shape or colour space."""


class BadParameter(TrellicError, ValueError):
    """An argument is outside its range."""


class TargetUnreachable(TrellicError, ValueError):
    """No quality of the model meets the requested size."""


# ---- models and engines ----


class BadBundle(TrellicError):
    """A model bundle is damaged, incomplete, or of a version this release cannot use."""


class BadAdapter(TrellicError):
    """An adapter is damaged, or was made for another model or decoder."""


class UnknownAdapter(BadParameter):
    """No installed adapter of the model has that name."""


class UnknownDecoder(BadParameter):
    """The bundle has no decoder of that name."""


class EngineError(TrellicError):
    """An inference engine failed to load or run a graph, or its integers are not exact."""


class MissingExtra(TrellicError, ImportError):
    """A package of one of Trellic's extras is missing."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtra:
        """Make the usual error: ``purpose`` needs ``package`` from the extra ``extra``."""
        from trellic.support.installed import install_command

        return cls(
            f"{purpose} needs the package {package!r}, which is not installed",
            remedy=f"install it with: {install_command(extra)}",
        )


# ---- calls that were ended ----


class Stopped(TrellicError):
    """Base of errors that end a call before it is done."""


class DeadlineExceeded(Stopped):
    """The time limit of a call has passed."""


class Cancelled(Stopped):
    """The caller's hook said that the call should stop."""


class TrellicWarning(UserWarning):
    """Category of every warning that Trellic gives."""
