"""How codecs are called in plots and pictures."""

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
