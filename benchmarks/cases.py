"""Cases from bug reports of other image tools: what is expected, and whether it holds.

::

    python -m benchmarks.cases --cases DIR [--only 02,07]

``DIR`` has a folder for each case, named after its number, with its input files. Every check needs
these and the installed package alone; those of the place where a command runs start processes of
their own. The exit code is 1 if a check fails, and 2 if a folder has no check.
"""

import argparse
import io
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

import trellic
import trellic.pillow
from benchmarks._machine import REPOSITORY
from trellic import images
from trellic.errors import BadImage
from trellic.images import Picture

GPS = 0x8825
Check = Callable[[Path], str]


class Case(NamedTuple):
    """What is expected of a folder, and what finds out."""

    expected: str
    check: Check


CASES: dict[str, Case] = {}


class Failed(Exception):
    """A check measured something else than is expected."""


class NotRun(Exception):
    """A check needs something that this machine does not have."""


def case(number: str, expected: str) -> Callable[[Check], Check]:
    """Register the check of a folder."""

    def register(check: Check) -> Check:
        CASES[number] = Case(expected, check)
        return check

    return register


def require(holds: object, measured: str) -> str:
    """Return what was measured if it is as it should be."""
    if not holds:
        raise Failed(measured)
    return measured


# ---- helpers ----


def read(path: Path) -> tuple[Picture, list[str]]:
    """Read a picture and the warnings that it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = images.read(path)
    return picture, [str(warning.message) for warning in caught]


def refusal(path: Path) -> str:
    """Return the error for a file, or an empty string if it is read."""
    try:
        read(path)
    except BadImage as error:
        return str(error)
    return ""


def saved(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    """Save an image and open it again."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def through(picture: Picture, suffix: str) -> Image.Image:
    """Encode and decode a picture, and open it as a file of another format."""
    codec = trellic.Codec.load("photo", device="cpu")
    decoded = codec.decode_picture(codec.encode_picture(picture).data)
    return Image.open(io.BytesIO(images.to_bytes(decoded, suffix)))


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``$T`` is the command line of Trellic and ``$IN`` the case.

    It sees nothing of this process's environment but the search paths, and what is given.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    path = os.pathsep.join(str(REPOSITORY / name) for name in ("runtime", "export", "training"))
    own = {"T": f"{sys.executable} -m trellic", "IN": str(folder), "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as place:
        return subprocess.run(
            ["bash", "-c", command],
            env=kept | own | environment,
            cwd=place,
            capture_output=True,
            check=False,
        )


def is_stream(data: bytes) -> bool:
    """Tell whether bytes are a file that Trellic decodes."""
    return data[:3] == b"TLC" and trellic.decode(data).ndim >= 2


# ---- pixels ----


@case("01", "nothing in the home but our own cache, no name looked up")
def telemetry(folder: Path) -> str:
    """Encode with an empty home, and watch sockets where strace is installed."""
    with tempfile.TemporaryDirectory() as home:
        watch = f"strace -f -e trace=connect -o {home}/trace " if shutil.which("strace") else ""
        code = "import trellic, numpy as np, time; trellic.encode(np.zeros((64, 64, 3), np.uint8))"
        run(f"{watch}{sys.executable} -c '{code}; time.sleep(25)'", folder, HOME=home)
        traced = Path(home, "trace")
        calls = traced.read_text() if traced.exists() else ""
        found = [str(p.relative_to(home)) for p in Path(home).rglob("*") if p.is_file()]
    foreign = [name for name in found if "trellic" not in name and name != "trace"]
    looked_up = calls.count("htons(53)") + calls.count("htons(443)")
    watched = f"{looked_up} look-ups" if watch else "sockets not watched: no strace"
    return require(not foreign and not looked_up, f"foreign files {foreign}, {watched}")


@case("02", "right pixels or one clear refusal")
def planar(folder: Path) -> str:
    """16-bit RGB in separate planes."""
    return _right_or_refused(folder / "planar16.tif", lambda: None)


@case("03", "right pixels or one clear refusal")
def jpeg_2000(folder: Path) -> str:
    """16-bit JPEG 2000 in colour, with white in the middle."""
    path = folder / "white16.jp2"
    if said := refusal(path):
        return require("damaged" not in said, said)
    return require((read(path)[0].pixels[12, 12] == 255).all(), "white is white")


@case("04", "right pixels or one clear refusal")
def min_is_white(folder: Path) -> str:
    """16-bit grey of which 0 is white: Pillow gives the stored values."""
    path = folder / "miniswhite16.tif"
    stored = np.array(Image.open(path)).astype(int)
    return _right_or_refused(path, lambda: np.floor((65535 - stored) / 257 + 0.5))


def _right_or_refused(path: Path, truth: Callable[[], Any]) -> str:
    if said := refusal(path):
        return require("damaged" not in said, said)
    right, pixels = truth(), read(path)[0].pixels
    if right is None:
        raise Failed("read, and there is no other reader here to compare with")
    return require((pixels == right).all(), f"differs by up to {np.abs(pixels - right).max()}")


@case("05", "tag 274 of TIFF counts, XMP does not")
def stale_xmp(folder: Path) -> str:
    """A TIFF file stored upright whose XMP still asks for a turn."""
    picture, _ = read(folder / "upright.tif")
    size = picture.width, picture.height
    return require(size == Image.open(folder / "upright.tif").size, f"{size}")


@case("07", "alpha as in the 8-bit twin")
def low_bit_transparency(folder: Path) -> str:
    """Grey PNG of 1, 2, 4 and 8 bits with a transparent value."""
    names = sorted(folder.glob("grey*.png"))
    alphas = {path.stem: read(path)[0].alpha for path in names}
    shares = {
        name: 0.0 if alpha is None else float((alpha == 0).mean()) for name, alpha in alphas.items()
    }
    told = ", ".join(f"{name} {share:.0%} clear" for name, share in shares.items())
    return require(min(shares.values()) > 0.2, told)


@case("08", "read as Pillow reads it")
def exif_header(folder: Path) -> str:
    """EXIF in PNG with the heading of JPEG."""
    path = folder / "png-exif-header.png"
    picture, _ = read(path)
    size = ImageOps.exif_transpose(Image.open(path)).size
    kept = picture.exif is not None and (picture.width, picture.height) == size
    return require(kept, f"{picture.width}x{picture.height}, EXIF {picture.exif is not None}")


@case("09", "what PNG gives: pixels as they are, orientation from getexif() as it is now")
def rotated_by_hand(folder: Path) -> str:
    """A program turns a photo itself, or deletes the tag."""
    photo = folder / "phone.jpg"
    fixed = Image.open(photo).transpose(Image.Transpose.ROTATE_270)
    png, ours = (ImageOps.exif_transpose(saved(fixed, kind)).size for kind in ("PNG", "TLC"))
    image = Image.open(photo)
    del image.getexif()[274]
    size = trellic.decode(trellic.encode(image)).shape[1::-1]
    told = f"PNG {png}, TLC {ours}; tag deleted: {size} of {image.size}"
    return require(png == ours and size == image.size, told)


@case("10", "dropped, GPS too")
def none_drops(folder: Path) -> str:
    """``exif=None`` and ``icc_profile=None``, and GPS deleted by a program."""
    path = folder / "gps.jpg"
    one = saved(Image.open(path), "TLC", exif=None, icc_profile=None)
    image = Image.open(path)
    del image.getexif()[GPS]
    other = saved(image, "TLC")
    left = [
        bool(one.info.get("icc_profile")),
        *(bool(im.getexif().get_ifd(GPS)) for im in (one, other)),
    ]
    return require(not any(left), "profile {}, GPS {}, GPS deleted {}".format(*left))


@case("11", "a profile made of the numbers, or one warning; PQ and HLG warned of")
def colour_numbers(folder: Path) -> str:
    """cICP, gAMA, cHRM and nclx."""
    told, good = [], True
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.avif")]):
        picture, said = read(path)
        hdr = path.name.startswith("pq")
        good &= any("PQ" in text for text in said) if hdr else bool(picture.icc) != bool(said)
        told.append(f"{path.name} {'profile' if picture.icc else said}")
    return require(good and told, ", ".join(told))


@case("16", "kept: a marker holds 65,533 bytes")
def long_exif(folder: Path) -> str:
    """65,500 bytes of EXIF, to JPEG."""
    path = folder / "exif65500.jpg"
    before = len(Image.open(path).info["exif"])
    after = len(through(read(path)[0], ".jpg").info.get("exif", b""))
    return require(after == before, f"{before} -> {after} bytes")


@case("19", "says that the layout is not read; 'damaged' of no whole file")
def not_damaged(folder: Path) -> str:
    """Whole files that are not read, and a closed image."""
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".tif", ".jpg")]
    said = [refusal(path) for path in paths]
    with Image.open(folder / "whole.png") as image:
        pass
    try:
        images.from_any(image)
    except BadImage as error:
        said.append(str(error))
    return require(
        len(said) == len(paths) + 1 and not any("damaged" in text for text in said),
        " | ".join(text.split(";")[0] for text in said),
    )


@case("20", "warned of, as docs/pictures.md promises")
def lost_depth(folder: Path) -> str:
    """10 and 16 bits in AVIF, PNG and PPM."""
    paths = [p for p in sorted(folder.iterdir()) if p.suffix in (".ppm", ".avif", ".png")]
    told = {path.name: read(path)[1] for path in paths}
    good = all(len(said) == 1 and "-bit" in said[0] for said in told.values())
    return require(told and good, str(told))


@case("21", "255 stays 255 in a white background, at quality 60")
def white_background(folder: Path) -> str:
    """A product on white."""
    array = np.asarray(Image.open(folder / "product.png").convert("RGB"))
    white = np.ones(array.shape[:2], bool)
    white[48:144, 48:144] = False
    decoded = trellic.decode(trellic.encode(array, quality=60))[white]
    off = (decoded != 255).any(axis=-1).mean()
    return require(off == 0, f"{off:.2%} of the background is not 255, least {decoded.min()}")


@case("22", "kept")
def resolution(folder: Path) -> str:
    """300 dpi in PNG, JPEG and TIFF, to each of them."""
    found = {}
    for path in sorted(folder.glob("300dpi.*")):
        picture, _ = read(path)
        for suffix in (".png", ".jpg", ".tif"):
            found[path.suffix + suffix] = through(picture, suffix).info.get("dpi", (0, 0))
    good = found and all(np.allclose(np.array(d, float), 300, atol=0.01) for d in found.values())
    return require(good, ", ".join(f"{k} {float(v[0]):.3f}" for k, v in found.items()))


@case("23", "one warning")
def gain_map(folder: Path) -> str:
    """Ultra HDR."""
    said = read(folder / "ultrahdr.jpg")[1]
    return require(len(said) == 1 and "gain map" in said[0], str(said))


@case("25", "the old file is whole, or the claim is limited; append_images is warned of")
def failed_save(folder: Path) -> str:
    """Pillow empties a file before it asks for its content: docs/pictures.md has to say so."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "keep.tlc")
        image = Image.new("RGB", (64, 64), "teal")
        image.save(path)
        whole = path.read_bytes()
        try:
            image.save(path, quality=101)
        except ValueError:
            kept = path.read_bytes() == whole
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image.save(path, save_all=True, append_images=[image])
    page = (REPOSITORY / "docs" / "pictures.md").read_text(encoding="utf-8")
    limited = "a save that fails loses the old one" in " ".join(page.split())
    told = f"old file kept: {kept}, claim limited: {limited}, warnings: {len(caught)}"
    return require((kept or limited) and len(caught) == 1, told)


@case("26", "filled, so that edges cost nothing")
def clear_colours(folder: Path) -> str:
    """The same photo, cut out by a soft circle, with other colours under alpha 0."""
    photo = np.asarray(Image.open(folder / "photo.png").convert("RGB"))
    mask = Image.new("L", (1024, 1024))
    ImageDraw.Draw(mask).ellipse((100, 100, 924, 924), fill=255)
    alpha = np.asarray(mask.resize(photo.shape[1::-1], Image.Resampling.LANCZOS))
    sizes = []
    for under in (photo, np.zeros_like(photo), np.full_like(photo, 255)):
        pixels = np.where(alpha[..., None] > 0, photo, under)
        data = trellic.encode(np.dstack([pixels, alpha]), quality=60)
        sizes.append(len(data))
        if (trellic.decode(data)[..., 3] != alpha).any():
            raise Failed("alpha differs")
    return require(len(set(sizes)) == 1, f"{sizes} bytes over the photo, black and white")


# ---- places ----


@case("12", "written; - is standard input and output")
def pipes(folder: Path) -> str:
    """/dev/stdout, process substitution and ``-``."""
    with tempfile.TemporaryDirectory() as place:
        out = f"{place}/out"
        results = {
            "/dev/stdout": run("$T encode $IN/in.png /dev/stdout | cat", folder).stdout,
            "-": run(f"cd {place}; $T encode - - < $IN/in.png", folder).stdout,
        }
        run(f"$T encode $IN/in.png >(cat > {out}); sleep 1", folder)
        results[">(...)"] = Path(out).read_bytes() if Path(out).exists() else b""
    good = {name: is_stream(data) if data else False for name, data in results.items()}
    return require(all(good.values()), str(good))


@case("14", "the file is made, exit code 0")
def closed_streams(folder: Path) -> str:
    """Closed standard error, closed standard output."""
    told = {}
    with tempfile.TemporaryDirectory() as place:
        for name, closed in (("stderr", "2>&-"), ("stdout", ">&-")):
            target = Path(place, f"{name}.tlc")
            code = run(f"$T encode $IN/in.png {target} {closed}", folder).returncode
            told[name] = (code, target.exists())
    return require(all(result == (0, True) for result in told.values()), f"{told}")


@case("15", "compiled once a machine where any folder is writable; else a true message")
def read_only_package(folder: Path) -> str:
    """The package on a read-only mount, and no home; needs root."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise NotRun("needs root and unshare")
    mounts = " && ".join(
        f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
        for place in (sys.prefix, REPOSITORY)
    )
    with tempfile.TemporaryDirectory() as place:
        seconds, said = [], b""
        for _ in range(2):
            start = time.perf_counter()
            inner = f"{mounts} && $T encode $IN/in.png {place}/out.tlc"
            done = run(f"unshare -m bash -c '{inner}'", folder, HOME="/proc")
            seconds.append(time.perf_counter() - start)
            said = done.stderr
            if done.returncode:
                raise Failed(said.decode(errors="replace")[-200:])
    kept = seconds[1] < 0.6 * seconds[0] or seconds[0] < 10
    told = f"{seconds[0]:.0f} s, then {seconds[1]:.0f} s; said: {said.decode(errors='replace')!r}"
    true = b"kernel" in said and b"later ones start at once" not in said
    return require(kept or true, told)


@case("17", "loads the same bundle again in the other process")
def pickled_codec(folder: Path) -> str:
    """A Codec through pickle, after use."""
    codec = trellic.Codec.load("photo", device="cpu")
    array = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    before = codec.encode(array)
    try:
        again = pickle.loads(pickle.dumps(codec))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise Failed(str(error)) from error
    return require(again.encode(array) == before, "the same stream")


def main() -> int:
    """Run the checks of all folders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--only", default="", help="numbers, with commas between")
    arguments = parser.parse_args()
    only = set(filter(None, arguments.only.split(",")))
    code = 0
    for folder in sorted(path for path in arguments.cases.iterdir() if path.is_dir()):
        number = folder.name.partition("-")[0]
        if only and number not in only:
            continue
        if number not in CASES:
            print(f"?     {folder.name}: no check")
            code = 2
            continue
        expected, check = CASES[number]
        try:
            outcome, measured = "ok", check(folder)
        except NotRun as error:
            outcome, measured = "-", f"not run: {error}"
        except Exception as error:
            outcome, measured = "FAIL", f"{type(error).__name__}: {error}"
            code = code or 1
        print(f"{outcome:5} {folder.name}\n      expected: {expected}\n      measured: {measured}")
    return code


if __name__ == "__main__":
    sys.exit(main())
