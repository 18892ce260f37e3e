"""Two clips, rendered from a photo: a camera that pans and zooms, and things that move and fade."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import map_coordinates

Pixels = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 352, 288
FRAMES = 33
SPEED = 0.8  # pixels a frame
ZOOM = 0.002  # of the size, a frame
STILL = 12  # frames before anything moves
NOISE = 1.0  # levels of a camera's noise


def pan(photo: Pixels, frames: int = FRAMES) -> list[Pixels]:
    """Return a view that moves over a photo and zooms into it, by parts of pixels."""
    made = []
    for i in range(frames):
        zoom = 1 - ZOOM * i
        rows = 20 + SPEED * i / 2 + np.arange(HEIGHT) * zoom
        columns = 20 + SPEED * i + np.arange(WIDTH) * zoom
        place = np.meshgrid(rows, columns, indexing="ij")
        view = [map_coordinates(photo[..., c], place, order=1, mode="mirror") for c in range(3)]
        made.append(np.stack(view, axis=2))
    return made


def scene(photo: Pixels, frames: int = FRAMES, seed: int = 1) -> list[Pixels]:
    """Return a still view with a camera's noise, in which a small picture moves, later, and fades.

    Nothing moves in the first frames; then the piece moves by two pixels a frame and light fades.
    """
    rng = np.random.default_rng(seed)
    back = photo[:HEIGHT, :WIDTH].astype(np.float32)
    piece = np.asarray(Image.fromarray(photo).resize((96, 64)), np.float32)
    made = []
    for i in range(frames):
        moved = max(0, i - STILL)
        view = back * (1 - 0.01 * moved)
        left = 20 + 2 * moved
        view[100:164, left : left + 96] = piece
        view = view + rng.normal(0, NOISE, view.shape)
        made.append(np.clip(np.rint(view), 0, 255).astype(np.uint8))
    return made


CLIPS = {"pan": pan, "scene": scene}
