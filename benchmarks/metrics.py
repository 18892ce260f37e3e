"""Distortion of 8-bit pictures: PSNR and MS-SSIM are those of `trellic compare`."""

from trellic.cli.metrics import SCALE_WEIGHTS, Floats, Pixels, ms_ssim, psnr

__all__ = ["SCALE_WEIGHTS", "Floats", "Pixels", "ms_ssim", "psnr"]
