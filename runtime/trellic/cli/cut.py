"""``trellic cut``: shortens a .tlc file."""

from __future__ import annotations

from trellic import bitstream
from trellic.cli.decode import read_stream
from trellic.cli.paths import TLC, is_stdout, plan
from trellic.cli.report import Report
from trellic.cli.tree import expand


def run(source: str, output: str, max_bytes: int | None, layers: int | None, as_json: bool) -> None:
    """Cut a file; see ``trellic cut --help``.

    Raises
    ------
    typer.BadParameter
        If ``output`` makes no sense: exit code 2.
    typer.Exit
        With code 1 if the file cannot be cut.
    """
    (job,) = plan(expand([source], False, [TLC]), output, TLC)
    with (
        Report("Cutting", [source], as_json=as_json, aside=is_stdout(job.target)) as report,
        report.file(source),
    ):
        data = read_stream(source)
        shorter = bitstream.cut(data, max_bytes=max_bytes, layers=layers)
        job.write(shorter.data)
        report.result(
            f"{source} -> {job.target}: {len(data)} to {len(shorter.data)} bytes, "
            f"{shorter.passes} of {shorter.before} passes",
            {
                "input": source,
                "output": job.target,
                "bytes": len(shorter.data),
                "passes": shorter.passes,
                "before": shorter.before,
            },
        )
