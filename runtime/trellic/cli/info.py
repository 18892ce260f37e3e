"""``trellic info``: the content of a .tlc file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trellic import bitstream
from trellic.bitstream.cut import layering_of, lengths_of
from trellic.bitstream.fields import CRC16_BYTES
from trellic.cli.decode import read_stream
from trellic.cli.decoders import describe, result
from trellic.cli.report import Report, one_line
from trellic.cli.stdout import printing
from trellic.constants import MAX_SIDE
from trellic.limits import PATCH_SIDE

if TYPE_CHECKING:
    from trellic.model.decoders import DecoderInfo
    from trellic.model.manifest import Manifest


def run(files: Sequence[str], as_json: bool) -> None:
    """Check files and describe them; see ``trellic info --help``.

    Raises
    ------
    typer.Exit
        With code 1 if one of them is damaged or cannot be read.
    """
    with Report("Reading", files, as_json=as_json) as report:
        described = 0
        for file in files:
            with report.file(file):
                data = read_stream(file)
                bitstream.read(data, MAX_SIDE**2)  # no pixel is decoded
                fields = {"input": file} | fields_of(data)
                if as_json:
                    report.result("", fields)
                else:
                    with printing():
                        print(end="\n" if described else "")
                        _print(fields)
                described += 1


def fields_of(data: bytes) -> dict[str, object]:
    """Describe a whole stream; sizes in bytes.

    Raises
    ------
    StreamError
        When it is damaged.
    """
    layout = bitstream.read_contents(data)
    header = layout.header
    stream_id, patches = header.stream_id.hex(), bitstream.patches_of(data)
    manifest = _manifest(stream_id)
    return {
        "width": header.width,
        "height": header.height,
        "channels": ("grey" if header.grey else "RGB") + " alpha" * ("alpha" in layout.chunks),
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "quality": header.quality,
        "trellis": header.trellis,
        "dither": header.dither,
        "steady": header.still,
        "lanes": header.lanes[0],
        "slices": header.slices,
        "steps": header.steps,
        "model": manifest and manifest.name,
        "stream_id": stream_id,
        "adapter": _adapter(header),
        "layers": layering_of(header).layers,
        "patches": None if patches is None else patches.blocks,
        "latents": not header.bare,
        "av1_patches": None if patches is None else patches.av1,
        "lengths": _lengths(data, header),
        "parts": _parts(layout, len(data)),
        "decoders": _decoders(layout, len(data), manifest),
    }


def _decoders(
    layout: bitstream.Contents, size: int, manifest: Manifest | None
) -> dict[str, dict[str, object]] | None:
    """Describe the decoders that the installed model has, and count the bytes that each reads."""
    if manifest is None:
        return None
    return {
        name: describe(info) | {"bytes": _read_by(info, layout, size, manifest)}
        for name, info in manifest.decoders.items()
    }


def _read_by(info: DecoderInfo, layout: bitstream.Contents, size: int, manifest: Manifest) -> int:
    steps = info.steps_in(manifest.layout)
    if layout.header.layering is not None or steps >= layout.header.steps:
        return size
    spans = layout.needed_for(range(layout.header.slices), steps)
    chunks = (span.length + CRC16_BYTES for span in layout.chunks.values())
    return sum(span.length for span in spans) + sum(chunks)


def _parts(layout: bitstream.Contents, size: int) -> dict[str, int]:
    """Count the bytes of each part; lengths and checks are the rest."""
    header = layout.header
    steps = [
        sum(
            layout.segment(header.segment_index(step, slice_)).length
            for slice_ in range(header.slices)
        )
        for step in range(header.passes)
    ]
    parts = {"hyper-latents": layout.segment(0).length}
    name = "step" if header.layering is None else "pass"
    parts |= {f"{name} {step}": length for step, length in enumerate(steps)}
    parts |= {name: span.length for name, span in layout.chunks.items()}
    return {"header and checks": size - sum(parts.values())} | parts


def _lengths(data: bytes, header: bitstream.Header) -> list[dict[str, object]] | None:
    """Describe each length of the file: its passes, and the quality of their layer."""
    if not header.cuttable:
        return None
    layering = layering_of(header)
    qualities16 = (*layering.below, header.quality16)
    return [
        {"passes": n, "bytes": size, "layer": layer + 1, "quality": qualities16[layer] / 16}
        for n, size in enumerate(lengths_of(data), 1)
        for layer in [layering.of(n - 1, header.steps)[0]]
    ]


def _manifest(stream_id: str) -> Manifest | None:
    """Return the manifest of the installed model that decodes the stream, if there is one."""
    from trellic.model import bundle

    for _, manifest in bundle.installed():
        if manifest.stream_id == stream_id:
            return manifest
    return None


def _adapter(header: bitstream.Header) -> dict[str, str | None] | None:
    """Return id and name of the adapter of a stream; the name is None if it is not installed."""
    if header.adapter is None:
        return None
    from trellic.model import adapters

    found = adapters.find_id(header.adapter, header.stream_id.hex())
    return {"id": header.adapter.hex(), "name": None if found is None else found.name}


def _print(fields: dict[str, object]) -> None:
    parts, decoders = fields.pop("parts"), fields.pop("decoders")
    lengths = fields.pop("lengths")
    fields["bpp"] = f"{fields['bpp']:.4f}"
    fields["model"] = fields["model"] or "not installed"
    fields["steady"] = "yes" if fields["steady"] else None
    still, latents = fields.pop("av1_patches"), fields.pop("latents")
    fields = {name: value for name, value in fields.items() if value is not None}
    if isinstance(blocks := fields.get("patches"), int):
        coded = f", {still} slice{'s' * (still != 1)} in AV1" if still else ""
        coded += "" if latents else ", no latents"
        fields["patches"] = f"{blocks} blocks of {PATCH_SIDE}x{PATCH_SIDE} pixels{coded}"
    if isinstance(adapter := fields.get("adapter"), dict):
        fields["adapter"] = f"{adapter['id']} ({adapter['name'] or 'not installed'})"
    for name, value in fields.items():
        print(one_line(f"{name.replace('_', ' '):<12}{value}"))
    if isinstance(parts, dict):
        print("parts       " + ", ".join(f"{name} {length}" for name, length in parts.items()))
    if isinstance(lengths, list):
        for of in lengths:
            line = f"{of['bytes']} bytes: {of['passes']} passes, layer {of['layer']}"
            print(f"length      {line} (quality {of['quality']:g})")
    if isinstance(decoders, dict):
        for name, of in decoders.items():
            line = (
                f"decoder     {name}: {of['purpose']} ({result(of)}, "
                f"{of['kmac_per_pixel']:.1f} kMAC/pixel, reads {of['bytes']} bytes)"
            )
            print(one_line(line))
