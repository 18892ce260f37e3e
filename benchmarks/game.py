"""Frames of one game, SuperTuxKart, to train slim models on and to test them.

::

    apt-get install supertuxkart xvfb
    python -m benchmarks.game FRAMES

The game drives by itself in a virtual display and is drawn in software, so no GPU is needed. Frames
are 1280 x 720, lossless WebP, in three folders: ``train``; ``known``, of other races on the same
tracks; ``new``, of tracks that are not in ``train``. The game's pictures are under CC BY-SA 3.0 and
similar licences, so none are in the repository. Races are driven in real time, so a second run
gives other frames.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageGrab
from rich.progress import track

WIDTH, HEIGHT = 1280, 720
DISPLAY = ":97"
GAME = "/usr/games/supertuxkart"
CONFIG = """<?xml version="1.0"?>
<stkconfig version="8">
  <Video max_fps="30" show_fps="false" enable_dynamic_lights="false" render_driver="gl"
    enable_texture_compression="false" max_texture_size="512" />
  <GFX particles-effecs="2" geometry_level="0" anisotropic="0" shadows_resolution="0" />
</stkconfig>
"""
TRACKS = ("lighthouse", "hacienda", "snowmountain", "zengarden", "volcano_island", "scotland")
NEW_TRACKS = ("cornfield_crossing", "abyss")
MOVED = 4.0  # mean difference in levels of two frames of a race; waiting screens stand still
LOADING = 90.0  # seconds for a track to load, at most


def record(folder: Path, name: str, seed: int, count: int, gap: float) -> None:
    """Keep frames of one race.

    Parameters
    ----------
    folder : to write to
    name : of the track
    seed : of the game
    count : number of frames
    gap : seconds between them
    """
    with tempfile.TemporaryDirectory() as home, _racing(name, seed, Path(home)):
        before, moving, deadline = _frame(), 0, time.monotonic() + LOADING
        while moving < 3:
            if time.monotonic() > deadline:
                raise RuntimeError(f"track {name!r} did not start within {LOADING:g} seconds")
            time.sleep(1)
            now = _frame()
            moving, before = moving + 1 if _moved(before, now) else 0, now
        kept = 0
        while kept < count:
            time.sleep(gap)
            now = _frame()
            if _moved(before, now) or time.monotonic() > deadline + 10 * count * gap:
                Image.fromarray(now).save(folder / f"{name}-{seed}-{kept:03d}.webp", lossless=True)
                kept, before = kept + 1, now


def _frame() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(ImageGrab.grab(xdisplay=DISPLAY).convert("RGB"))


def _moved(
    before: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    now: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> bool:
    return float(np.abs(now[::4, ::4].astype(int) - before[::4, ::4]).mean()) > MOVED


@contextmanager
def _racing(name: str, seed: int, home: Path) -> Iterator[None]:
    """Let the game drive a race, with settings of its own."""
    config = home / "config" / "supertuxkart" / "config-0.10"
    config.mkdir(parents=True)
    (config / "config.xml").write_text(CONFIG)
    own = {f"XDG_{part.upper()}_HOME": str(home / part) for part in ("config", "data", "cache")}
    display = {"DISPLAY": DISPLAY, "LIBGL_ALWAYS_SOFTWARE": "1"}
    command = [GAME, f"--screensize={WIDTH}x{HEIGHT}", f"--track={name}", "--profile-time=900"]
    command += ["--numkarts=5", f"--seed={seed}", "--no-sound", "--disable-addon-tracks"]
    with _running(command, {**os.environ, **own, **display}):
        yield


@contextmanager
def _running(command: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--count", type=int, default=40, help="frames of a track for training")
    parser.add_argument("--test-count", type=int, default=3, help="frames of a track for tests")
    parser.add_argument("--gap", type=float, default=1.5, help="seconds between frames")
    asked = parser.parse_args()
    races = [("train", name, 1, asked.count) for name in TRACKS]
    races += [("known", name, 2, asked.test_count) for name in TRACKS]
    races += [("new", name, 3, 2 * asked.test_count) for name in NEW_TRACKS]
    screen = ["Xvfb", DISPLAY, "-screen", "0", f"{WIDTH}x{HEIGHT}x24"]
    with _running(screen, os.environ):
        time.sleep(1)
        for kind, name, seed, count in track(races, "driving"):
            (asked.out / kind).mkdir(parents=True, exist_ok=True)
            record(asked.out / kind, name, seed, count, asked.gap if kind == "train" else 4.0)


if __name__ == "__main__":
    main()
