"""A model for web pages: a folder with all that shows ``.tlc`` pictures in a browser.

::

    bundle -> integers.bin   integer networks, tables, levels, array after array
              model.json     where each array is, probes, decoders, SHA-256 of every file
              decoders/*.bin weights of decoders in float16; model.json has their operations
              kernels.wasm   convolutions, written by `kernels` here
    js/*      copied: the decoder, its worker, what replaces images, a service worker
              package.json   so that `npm pack` makes a package of it

`export_web` writes it. The decoder itself is plain JavaScript, in ``js`` beside this file.
"""

from trellic_export.web.folder import WebOptions, export_web

__all__ = ["WebOptions", "export_web"]
