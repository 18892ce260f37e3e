"""``trellic info``: what a .tlc file holds."""

from __future__ import annotations

from trellic import bitstream
from trellic.bitstream.header import MAX_SIDE
from trellic.cli.decode import read_stream
from trellic.cli.report import Report


def run(file: str, as_json: bool) -> None:
    """Check a file and describe it; see ``trellic info --help``.

    Raises
    ------
    typer.Exit
        With code 1 if the file is damaged or cannot be read.
    """
    with Report("Reading", [file], as_json=as_json) as report, report.file(file):
        data = read_stream(file)
        bitstream.read(data, MAX_SIDE**2)  # no pixel is decoded
        fields = {"input": file} | _fields(data)
        report.result("", fields) if as_json else _print(fields)


def _fields(data: bytes) -> dict[str, object]:
    """Describe a whole stream; sizes in bytes."""
    layout = bitstream.read_layout(data)
    header = layout.header
    stream_id = header.stream_id.hex()
    return {
        "width": header.width,
        "height": header.height,
        "channels": ("grey" if header.grey else "RGB") + " alpha" * ("alpha" in layout.chunks),
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "quality": header.quality,
        "trellis": header.trellis,
        "lanes": header.lanes[0],
        "slices": header.slices,
        "steps": header.steps,
        "model": _model(stream_id),
        "stream_id": stream_id,
        "parts": _parts(layout, len(data)),
    }


def _parts(layout: bitstream.Layout, size: int) -> dict[str, int]:
    """Count the bytes of each part; what is left over are lengths and checks."""
    header = layout.header
    steps = [
        sum(
            layout.segment(header.segment_index(step, slice_)).length
            for slice_ in range(header.slices)
        )
        for step in range(header.steps)
    ]
    parts = {"hyper-latents": layout.segment(0).length}
    parts |= {f"step {step}": length for step, length in enumerate(steps)}
    parts |= {name: span.length for name, span in layout.chunks.items()}
    return {"header and checks": size - sum(parts.values())} | parts


def _model(stream_id: str) -> str | None:
    """Name of the installed model that decodes the stream, if there is one."""
    from trellic import bundle

    for _, manifest in bundle.installed():
        if manifest.stream_id == stream_id:
            return manifest.name
    return None


def _print(fields: dict[str, object]) -> None:
    parts = fields.pop("parts")
    fields["bpp"] = f"{fields['bpp']:.4f}"
    fields["model"] = fields["model"] or "not installed"
    for name, value in fields.items():
        print(f"{name.replace('_', ' '):<12}{value}")
    if isinstance(parts, dict):
        print("parts       " + ", ".join(f"{name} {length}" for name, length in parts.items()))
