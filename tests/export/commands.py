"""What tests of commands that train on pictures share."""

from __future__ import annotations

import numpy as np
from PIL import Image
from tests.data.make_dither import scene
from typer.testing import CliRunner


def fold(folder, count, size=(200, 210), shift=31):
    """A folder of pictures, each shifted against the one before."""
    for i in range(count):
        Image.fromarray(np.roll(scene(*size), i * shift, 1)).save(folder / f"{i}.png")
    return folder


def run_app(app, *words, code=0):
    """Run a command, which ends with this exit code."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, (done.output, done.exception)
    return done
