"""Folders of ``.tlc`` files as data sets of Hugging Face.

The ``Image`` feature of Hugging Face opens files with Pillow. Importing this module registers
Trellic's plugin there, and then the feature decodes ``.tlc`` bytes of any data set.
"""

from __future__ import annotations

import os
from pathlib import Path

import datasets

import trellic.pillow  # registers .tlc
from trellic.errors import BadParameter


def from_folder(folder: str | os.PathLike[str], *, decode: bool = True) -> datasets.Dataset:
    """Make a data set of a folder, as the loader ``imagefolder`` does for other pictures.

    Parameters
    ----------
    folder : with a folder for each class, or with files only
    decode : to PIL images when they are read; False gives path and bytes

    Returns
    -------
    data set with the column ``image`` and, where there are classes, ``label``

    Raises
    ------
    BadParameter
        When there are no ``.tlc`` files.
    """
    root = Path(folder)
    paths = sorted(root.rglob(f"*{trellic.pillow.SUFFIX}"))
    if not paths:
        raise BadParameter(
            f"no {trellic.pillow.SUFFIX} files in {str(root)!r}", expected="at least one"
        )
    columns: dict[str, list[str]] = {"image": [str(path) for path in paths]}
    features: dict[str, datasets.Image | datasets.ClassLabel] = {
        "image": datasets.Image(decode=decode)
    }
    if all(path.parent != root for path in paths):
        names = [path.relative_to(root).parts[0] for path in paths]
        columns["label"] = names
        features["label"] = datasets.ClassLabel(names=sorted(set(names)))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))
