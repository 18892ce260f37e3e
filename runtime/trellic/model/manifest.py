"""``manifest.json`` of a bundle."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trellic.errors import BadBundle
from trellic.model.channels import Layout
from trellic.model.decoders import NAME_PATTERN, DecoderInfo, Graph, check_decoders

BUNDLE_VERSION = 1
MAX_MANIFEST = 1 << 22  # bytes: names of 65,536 labels fit


class Search(BaseModel):
    """Encoder's defaults of one quantizer: its Lagrangian, in integer cost a 1/64 bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    lam: int = Field(ge=0, le=1 << 12)


class Manifest(BaseModel):
    """``manifest.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bundle_version: int
    name: str = Field(pattern=NAME_PATTERN)
    stream_id: str = Field(pattern=r"^[0-9a-f]{8}$")
    licence: str
    description: str
    layout: Layout
    encoder: Graph
    hyper_encoder: Graph
    decoders: dict[Annotated[str, Field(pattern=NAME_PATTERN)], DecoderInfo]
    exact: dict[str, Graph]
    probes: dict[str, str]
    search: dict[str, Search]
    sha256: dict[str, str]
    made_with: dict[str, str]
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _decoders_fit(self) -> Manifest:
        check_decoders(self.decoders, self.layout)
        return self


def parse(data: bytes | None, name: str) -> Manifest:
    """Read a manifest; its content is not verified.

    Parameters
    ----------
    data : bytes of ``manifest.json``; None if there is none
    name : of the bundle, for messages

    Raises
    ------
    BadBundle
        When it is damaged, missing, or of another version.
    """
    try:
        if data is None or len(data) > MAX_MANIFEST:
            raise ValueError("there is none" if data is None else f"{len(data)} bytes")
        raw = json.loads(data)
        version = raw.get("bundle_version") if isinstance(raw, dict) else None
        if version != BUNDLE_VERSION:
            raise BadBundle(f"{name} has version {version!r}", expected=str(BUNDLE_VERSION))
        return Manifest.model_validate(raw)
    except (ValueError, RecursionError, ValidationError) as error:
        what = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        raise BadBundle(f"{name} has no valid manifest ({what})") from error
