"""``trellic install-desktop``: let file managers, ``file`` and ``xdg-mime`` know .tlc files."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from trellic.cli.report import fail, one_line
from trellic.support.files import write_atomically

MIME_TYPE, SUFFIX = "image/x-trellic", ".tlc"
BEGIN, END = "# trellic: begin\n", "# trellic: end\n"
MAGIC = f"""\
0\tstring\tTLC
>3\tbyte\t<16\tTrellic image, format version %d
!:mime\t{MIME_TYPE}
!:ext\ttlc
"""
MIME_XML = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="{MIME_TYPE}">
    <comment>Trellic image</comment>
    <magic priority="60">
      <match type="string" offset="0" value="TLC">
        <match type="byte" offset="3" value="0" mask="0xf0"/>
      </match>
    </magic>
    <glob pattern="*{SUFFIX}"/>
  </mime-type>
</mime-info>
"""
THUMBNAILER = f"""\
[Thumbnailer Entry]
TryExec=%s
Exec=%s decode %%i %%o --format png --size %%sx%%s --limits service
MimeType={MIME_TYPE};
"""


def run(*, undo: bool, dry_run: bool) -> None:
    """Write the files for this user, or remove them; see ``trellic install-desktop --help``.

    Raises
    ------
    typer.Exit
        With code 1 if one cannot be written.
    """
    home = Path(os.path.expanduser("~"))
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    files = {
        data / "mime" / "packages" / "trellic.xml": MIME_XML,
        data / "thumbnailers" / "trellic.thumbnailer": _thumbnailer(),
    }
    try:
        for path, content in files.items():
            _say("remove" if undo else "write", path, dry_run)
            if not dry_run:
                _remove(path) if undo else _write(path, content)
        _edit_magic(home / ".magic", undo=undo, dry_run=dry_run)
        if not dry_run and (data / "mime").is_dir():
            _update(data / "mime")
    except OSError as error:
        raise fail(error) from error


def _thumbnailer() -> str:
    program = shutil.which("trellic")
    command = shlex.quote(program) if program else f"{shlex.quote(sys.executable)} -m trellic"
    return THUMBNAILER % (program or sys.executable, command)


def _edit_magic(path: Path, *, undo: bool, dry_run: bool) -> None:
    """Put our rule into the user's magic file, between two marks, or take it out."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    new = before + ("" if undo else BEGIN + MAGIC + END) + after
    if new == old:
        return
    _say("remove" if undo and not new else "change" if old else "write", path, dry_run)
    if dry_run:
        return
    _write(path, new) if new else _remove(path)


def _say(verb: str, path: Path, dry_run: bool) -> None:
    print(one_line(f"{'would ' * dry_run}{verb} {path}"))


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.encode())


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _update(folder: Path) -> None:
    """Rebuild the desktop's database of types, if its program is installed."""
    program = shutil.which("update-mime-database")
    if program is None:
        print("update-mime-database is not installed: the desktop learns of it when it is run")
        return
    done = subprocess.run([program, str(folder)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OSError(done.returncode, one_line(done.stderr.strip()) or "failed", program)
    print(one_line(f"run {program} {folder}"))
