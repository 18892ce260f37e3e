"""How codecs are called in plots, pictures and tables."""

from collections.abc import Mapping

LABELS = {
    "trellic": "Trellic",
    "jpeg": "JPEG (mozjpeg)",
    "jpegli": "JPEG (jpegli)",
    "webp": "WebP",
    "avif": "AVIF (aom)",
    "jxl": "JPEG XL",
    "heic": "HEIC (x265)",
    "jp2": "JPEG 2000",
}


def label(spec: str) -> str:
    """Return a spec's label, with its options behind.

    Examples
    --------
    >>> label("avif:speed=3:tune=psnr")
    'AVIF (aom), speed 3, tune psnr'
    """
    name, *options = spec.split(":")
    return ", ".join([LABELS.get(name, name), *(option.replace("=", " ") for option in options)])


# Settings that a reader must know to judge a codec's row, in this order.
TOLD = ("model", "decoder", "trellis", "speed", "tune", "effort", "method", "subsampling")


def full_label(spec: str, settings: Mapping[str, str | int | float]) -> str:
    """Return a codec's label with its tuning, whether or not the spec names it.

    Examples
    --------
    >>> full_label("avif:speed=3", {"speed": 3, "tune": "default", "subsampling": "4:4:4"})
    'AVIF (aom), speed 3, tune default, 4:4:4'
    """
    name = spec.partition(":")[0]
    told = [f"{key} {settings[key]}" for key in TOLD if key in settings]
    return ", ".join([LABELS.get(name, name), *told]).replace("subsampling ", "")
