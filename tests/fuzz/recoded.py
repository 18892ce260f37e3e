"""Streams whose header and symbols are hostile, but whose lanes are coded as an encoder would.

A mutation of a coded lane garbles every symbol behind it, and its end state is then wrong nearly
always. Here the bytes decide the symbols themselves, and rANS codes them, so decoders go all the
way: contexts of absurd latents, escapes, every number of states and lanes, several slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trellic import bitstream, entropy
from trellic.bitstream import Chunks, Header, Stream
from trellic.codec import Codec
from trellic.geometry import Plane, Rectangle
from trellic.latents.order import grid_of, in_file_order
from trellic.latents.predictor import Predictor, SliceContext
from trellic.latents.quantizer import Noise, book_of, lattice_of
from trellic.limits import MAX_INDEX
from trellic.model.channels import Layout
from trellic.model.quality import Level
from trellic.quantize import dither_cpu as dithering
from trellic.quantize.cpu import reconstruct
from trellic.quantize.trellis import STATES, next_state
from trellic.support.numba import njit

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]

HEAD = 8  # bytes that decide the header
SLICE_SIDE = 16  # blocks: the smallest, so that small pictures have several slices
WIDE = 260  # pixels more of pictures with several slices
STILL, DITHERED = 240, 248  # the first kinds of streams with a still lattice, and with noise
FAR = 232  # bytes from here on are symbols that need escapes


@dataclass(frozen=True)
class Recoded:
    """A stream, and the latents that every decoder must find in it: int32, in 1/32 step."""

    data: bytes
    v32: Int32


class Symbols:
    """An endless row of symbols, small ones mostly, out of few bytes."""

    def __init__(self, data: bytes) -> None:
        small = np.frombuffer(data or b"\0", np.uint8).astype(np.int32)
        far = (small - FAR + 1) ** 3 * np.where(small & 1, -4, 4)
        self._row = np.where(small >= FAR, np.clip(far, -MAX_INDEX, MAX_INDEX), small % 7 - 3)
        self._at = 0

    def take(self, count: int) -> Int32:
        """Return the next symbols."""
        at = (self._at + np.arange(count)) % len(self._row)
        self._at += count
        return self._row[at].astype(np.int32)


def header_of(head: bytes, codec: Codec) -> Header:
    """Return a header of a small picture that any eight bytes decide."""
    manifest = codec.bundle.manifest
    wide, high, quality, low, kind, lanes, more, _ = head.ljust(HEAD, b"\0")[:HEAD]
    trellis, tables = (0, *STATES)[kind % 8], codec.bundle.tables.dither is not None
    dithered, still = kind >= DITHERED and tables, STILL <= kind < DITHERED and tables
    sized = Header(
        width=1 + wide % 48 + (WIDE if more % 16 == 7 else 0),
        height=1 + high % 48,
        quality16=16 + (quality * 256 + low) % 1585,
        trellis=0 if dithered or still else trellis,
        steps=len(manifest.layout.steps),
        stream_id=bytes.fromhex(manifest.stream_id),
        lanes=(1, 1) if more % 16 == 7 else (1,),
        grey=more % 4 == 2,
        slice_side=SLICE_SIDE,
        dither=lanes * 0x01010101 if dithered else None,
        still=still,
    )
    count = sized.slices
    return Header(**vars(sized) | {"lanes": (1 << lanes % 8, 1 << lanes // 8 % 8)[:count]})


def recoded(data: bytes, codec: Codec) -> Recoded:
    """Return a valid stream of a model, of which `data` decides size, options and symbols."""
    header, symbols = header_of(data[:HEAD], codec), Symbols(data[HEAD:])
    layout, tables = codec.bundle.manifest.layout, codec.bundle.tables
    dithered = header.dither is not None
    level = codec.bundle.levels.at(header.quality16, header.trellis, dithered=dithered)
    plane = layout.plane(header.width, header.height)
    predictor = codec._encoding.latents().predictor
    z, first = _hyper(symbols, layout, plane, level)
    v32 = np.empty((layout.latents, *plane.latents), np.int32)
    slices = []
    for i, part in enumerate(grid_of(plane, header.slice_side * plane.block)):
        key = dithering.slice_key(header.dither, i) if dithered else None
        context = predictor.start(z, part, plane, level, key)
        coded = [first] if i == 0 else []
        steps = range(len(predictor.steps))
        coded += [_step(k, context, predictor, symbols, header, codec) for k in steps]
        slices.append(entropy.encode(coded, book_of(tables, lattice_of(header)), header.lanes[i]))
        v32[_window(part)] = context.v32
    alpha = None
    if len(data) > HEAD and data[-1] % 5 == 4:
        alpha = symbols.take(header.width * header.height).astype(np.uint8)
        alpha = alpha.reshape(header.height, header.width)
    segments = in_file_order(slices, len(predictor.steps))
    return Recoded(bitstream.write(Stream(header, segments, Chunks(alpha))), v32)


def _window(part: Rectangle) -> tuple[slice, ...]:
    return (slice(None), *part.index())


def _hyper(
    symbols: Symbols, layout: Layout, plane: Plane, level: Level
) -> tuple[npt.NDArray[np.int64], entropy.Segment]:
    """Return hyper-latents, and their segment."""
    count = int(np.prod(plane.hyper))
    k = symbols.take(layout.hyper * count)
    z = (k + np.repeat(level.hyper_mean, count)).astype(np.int64)
    table = np.repeat(level.hyper_index, count).astype(np.uint16)
    return z.reshape(layout.hyper, *plane.hyper), entropy.Segment(k, table)


def _step(
    k: int,
    context: SliceContext,
    predictor: Predictor,
    symbols: Symbols,
    header: Header,
    codec: Codec,
) -> entropy.Segment:
    """Take the symbols of a step of a slice, and fill them into its context."""
    step = predictor.steps[k]
    position, mean32, index = predictor.predict(k, context)
    noise = context.noise(step, position)
    if header.still:  # as the specification has it: noise that leads from means to whole steps
        noise = (2 * ((mean32 + 16) % 32 - 16)).astype(np.int8)
    chosen = symbols.take(len(position))
    lanes = header.lanes[_number_of(context.part)]
    cls = _classes(chosen, lanes, header.trellis, noise)
    if noise is None:
        recon32 = reconstruct(chosen, cls, index, codec.bundle.tables)
    else:
        recon32 = dithering.reconstruct(chosen, noise)
    context.add(step, position, recon32)
    table = cls.astype(np.uint16) * predictor.layout.scales + index
    return entropy.Segment(chosen, table)


def _number_of(part: Rectangle) -> int:
    return int(part.left > 0)  # slices lie in one row


def _classes(k: Int32, lanes: int, states: int, noise: Noise | None) -> Uint8:
    """Return the classes that a decoder will find: each lane walks its own trellis."""
    if noise is not None:
        return dithering.classes(noise)
    cls = np.zeros(len(k), np.uint8)
    if states:
        _walk(k, np.zeros(lanes, np.uint8), next_state(states), cls)
    return cls


@njit
def _walk(k: Int32, state: Uint8, moves: Uint8, cls: Uint8) -> None:
    """Fill in the classes of symbols that are dealt to lanes in turn."""
    for i in range(len(k)):
        lane = i % len(state)
        cls[i] = 1 + (state[lane] & 1)
        state[lane] = moves[state[lane], k[i] & 1]
