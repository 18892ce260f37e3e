"""onnxruntime-gpu cut to what one GPU runs of it: from 250 MB to about 21 MB.

Its CUDA provider holds machine code for many GPUs and kernels of language models. All code that is
not for the wanted GPU, and all kernels by names that no convolution needs, become zeros, which an
archive packs to nothing. The headers stay: the loader steps over entries that it has no use for.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

SM = 90
MAGIC = 0xBA55ED50  # of a fat binary
ZSTANDARD = b"\x28\xb5\x2f\xfd"
UNUSED_KERNELS = re.compile(
    rb"[Mm]oe|flash|attention|fpA_intB|FpAIntB|cutlass|bert|[Nn]bits|matmul_[48]bits|llm|[Tt]op[Kk]|roi"
)
UNUSED_FILES = re.compile(
    r"onnxruntime/(transformers|tools|quantization|datasets)/|ThirdParty|libonnxruntime\.so"
    r"|providers_tensorrt"
)


def section(data: bytearray, wanted: bytes) -> tuple[int, int]:
    """Return where a section of an ELF file of 64 bits begins, and its size.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, number, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(number)]
    texts = headers[names][4]
    for name, _, _, _, at, length in headers:
        if bytes(data[texts + name : data.index(0, texts + name)]) == wanted:
            return at, length
    raise ValueError(f"no section {wanted.decode()}")


def entries(data: bytearray) -> Iterator[tuple[int, int, int, int, int]]:
    """Return offset, header's size, size, compressed size and GPU of each entry of code."""
    at, size = section(data, b".nv_fatbin")
    end = at + size
    while at < end:
        magic, _, header, length = struct.unpack_from("<IHHQ", data, at)
        if magic != MAGIC:
            raise ValueError(f"no fat binary at {at}: {magic:#x}")
        entry, stop = at + header, at + header + length
        while entry < stop:
            _, _, own, content = struct.unpack_from("<HHIQ", data, entry)
            (packed,) = struct.unpack_from("<I", data, entry + 16)
            (arch,) = struct.unpack_from("<I", data, entry + 28)
            yield entry, own, content, packed, arch
            entry += own + content
        at = stop


def decompressed(code: bytes) -> bytes:
    """Return machine code as it is before it is packed."""
    if not code.startswith(ZSTANDARD):
        return code
    import zstandard  # only here: the day itself needs none

    return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(code))


def prune(data: bytearray) -> int:
    """Overwrite code that is not needed with zeros; return the bytes of code that stay."""
    kept = 0
    for at, header, size, packed, arch in entries(data):
        drop = arch != SM
        if not drop:
            code = decompressed(bytes(data[at + header : at + header + packed]))
            names = set(re.findall(rb"\.text\.([A-Za-z0-9_$]+)", code))
            drop = bool(UNUSED_KERNELS.search(b" ".join(names)))
        if drop:
            data[at + header : at + header + size] = bytes(size)
        else:
            kept += size
    return kept


def prune_wheel(wheel: Path, out: Path) -> None:
    """Write the files of a wheel that are needed, its CUDA provider pruned, as ``.tar.xz``."""
    with zipfile.ZipFile(wheel) as files, tarfile.open(out, "w:xz", preset=6) as archive:
        for one in files.infolist():
            if one.is_dir() or UNUSED_FILES.search(one.filename):
                continue
            data = bytearray(files.read(one))
            if one.filename.endswith("providers_cuda.so"):
                print(f"{wheel.name}: {prune(data) >> 10} KiB of code for sm_{SM} kept")
            entry = tarfile.TarInfo(one.filename)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(bytes(data)))
