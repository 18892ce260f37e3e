"""Trellic in data tools: one module for each tool, which imports that tool.

=====================  ============================================================
`trellic_data.torch`   a data set and a collate function for `torch.utils.data`
``.webdataset``        a handler of ``.tlc`` members of tar shards
``.huggingface``       folders of ``.tlc`` files as data sets of Hugging Face
``.zarr``              a codec for zarr v3, by its name ``trellic``
``.numcodecs``         the same for numcodecs and zarr v2
``.imageio``           a plugin of imageio
=====================  ============================================================

`trellic` never imports this package.
"""
