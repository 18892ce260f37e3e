"""``trellic decode --decoder class``: .tlc files to labels, without a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trellic import bitstream
from trellic.cli.decode import LARGE, Result, Setting, checked
from trellic.cli.engines import Engines
from trellic.cli.paths import read_parts
from trellic.cli.report import Report
from trellic.constants import DEFAULT_CLASSIFIER
from trellic.errors import BadParameter
from trellic.support.bounds import Limits, limited

SHOWN = 5  # labels a file


def run(
    inputs: Sequence[str],
    setting: Setting,
    result: Result,
    engines: Engines,
    limits: Limits,
    as_json: bool,
) -> None:
    """Print the labels of every input; see ``trellic decode --help``.

    Raises
    ------
    typer.Exit
        With code 1 if a file failed.
    """
    with Report("Decoding", inputs, as_json=as_json, large=LARGE) as report:
        for name in inputs:
            with report.file(name):
                if result.fit or result.suffix:
                    raise BadParameter(
                        f"decoder {setting.decoder!r} gives labels, and no picture",
                        remedy="leave out --size, --scale and --format",
                    )
                _classify(name, setting, engines, limits, report)


def _classify(
    name: str, setting: Setting, engines: Engines, limits: Limits, report: Report
) -> None:
    decoder = setting.decoder or DEFAULT_CLASSIFIER
    if setting.region or setting.best_effort:
        raise BadParameter(
            f"decoder {setting.decoder!r} gives labels of a whole picture",
            remedy="leave out --region and --best-effort",
        )
    data = checked(read_parts(name))
    header = bitstream.read_header(data)
    codec = engines.decoder(header.stream_id, decoder)
    start = time.perf_counter()
    with limited(limits):
        found = codec.classify(
            data,
            decoder=decoder,
            max_pixels=setting.max_pixels,
            max_memory=setting.max_memory,
        )
    seconds = time.perf_counter() - start
    best = found[:SHOWN]
    fields = {
        "input": name,
        "width": header.width,
        "height": header.height,
        "decoder": decoder,
        "labels": [{"label": label, "probability": chance} for label, chance in best],
        "seconds": seconds,
    }
    line = ", ".join(f"{label} {chance:.1%}" for label, chance in best)
    report.result(f"{name}: {line} (decoder {decoder}, {seconds:.2f} s)", fields)
