"""How much of each picture of a folder looks drawn: what decides whether patches are tried.

::

    python -m benchmarks.drawn --images DIR [--images DIR ...]

A line a picture: the share of its blocks that are flat and have a sharp edge, and the share of
those that may become patches; a picture with too few of the former counts as a photo.
"""

import argparse
from pathlib import Path

from benchmarks.measure import find_images, read_pixels
from trellic.images.drawn import DRAWN, drawn_blocks, features
from trellic.limits import PATCH_SIDE


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, action="append", required=True)
    for folder in parser.parse_args().images:
        for path in find_images(folder):
            pixels = read_pixels(path)
            flat, sharp = features(pixels, PATCH_SIDE)
            share, found = (flat & sharp).mean(), drawn_blocks(pixels, PATCH_SIDE).mean()
            told = (
                f"{found:.0%} may be patches"
                if found
                else f"it counts as a photo (least share {DRAWN:.0%})"
            )
            print(f"{folder.name} {path.name}: {share:.1%} flat with a sharp edge, {told}")


if __name__ == "__main__":
    main()
