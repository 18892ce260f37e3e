/**
 * The header of a stream before its segment table.
 *
 * Specification: docs/format.md, sections 1 and 3.
 */

import { CorruptStream, NotATrellicFile, TruncatedStream, UnsupportedVersion } from './errors.js';
import { littleEndian } from './fields.js';
import { BLOCK } from './geometry.js';
import { checkLayering, readLayering } from './layering.js';

/** @typedef {import('./fields.js').Cursor} Cursor */

/**
 * @typedef {object} Header
 * @property {number} width pixels
 * @property {number} height
 * @property {number} quality16 quality in sixteenths
 * @property {number} trellisCode 0 is scalar, c a trellis of 2^(c + 1) states
 * @property {number} steps context steps
 * @property {string} streamId 8 hex digits
 * @property {Uint16Array} lanes of each slice
 * @property {boolean} grey
 * @property {number} sliceSide in blocks of 16 pixels
 * @property {number | null} dither seed
 * @property {boolean} still levels of latents do not move with the means
 * @property {boolean} bare there are no latents, and patches cover the picture
 * @property {import('./layering.js').Layering | null} layering
 * @property {number} passes over the picture: context steps, or what is kept of those of layers
 * @property {number} slices how many
 * @property {number} segments how many
 * @property {Record<string, number>} chunks stored bytes of each chunk there is
 * @property {string | null} adapter id of the adapter that the file was made with, in hex
 */

const SIGNATURE = [0x54, 0x4c, 0x43]; // TLC
const VERSION = 1;
const MAX_SIDE = 65535; // pixels
const [MIN_QUALITY16, MAX_QUALITY16] = [16, 1600];
const CHUNKS = ['alpha', 'icc', 'exif', 'xmp']; // in file order, which is that of their flags
const SLICE_SIDE_FLAG = 1 << 4;
const DITHER_FLAG = 1 << 5;
const LAYERS_FLAG = 1 << 6;
const MORE_FLAG = 1 << 7; // a second byte of flags follows
const [ADAPTER_FLAG, EMBEDDED_FLAG, PATCHES_FLAG] = [1 << 0, 1 << 1, 1 << 2]; // of the second byte
const STILL_FLAG = 1 << 3;
const BARE_FLAG = 1 << 4; // patches alone
const KNOWN_MORE = ADAPTER_FLAG | EMBEDDED_FLAG | PATCHES_FLAG | STILL_FLAG | BARE_FLAG;
const ADAPTER_ID_BYTES = 4;
const SIDE_MULTIPLE = 4; // blocks
const MIN_SLICE_SIDE = 16;
const DEFAULT_SLICE_SIDE = 64;

/**
 * Read the header's bytes up to the segment table; `lanes` has only slice 0 then, as log2.
 *
 * @param {Cursor} cursor
 * @returns {Header}
 * @throws {import('./errors.js').StreamError}
 */
export function readFront(cursor) {
  readSignature(cursor);
  const fields = littleEndian(cursor.take(3, 'header'));
  if (fields >> 23) {
    throw new UnsupportedVersion("the header's reserved bit is set", { remedy: 'update Trellic' });
  }
  const id = cursor.take(4, 'header');
  const width = 1 + cursor.varint(3, 'width of the picture');
  const height = 1 + cursor.varint(3, 'height of the picture');
  const extension = (fields >> 22) & 1 ? readExtension(cursor) : NO_EXTENSION;
  for (const [side, name] of /** @type {const} */ ([[width, 'width'], [height, 'height']])) {
    if (side > MAX_SIDE) {
      throw new CorruptStream(`the header names a ${name} in pixels of ${side}`, {
        expected: `1 to ${MAX_SIDE}`,
      });
    }
  }
  const blocks = extension.sliceSide * BLOCK;
  const slices = Math.ceil(width / blocks) * Math.ceil(height / blocks);
  const steps = 1 + ((fields >> 18) & 7);
  const passes = extension.layering?.kept ?? steps;
  return {
    width,
    height,
    quality16: fields & 0x7ff,
    trellisCode: (fields >> 11) & 7,
    steps,
    streamId: hex(id),
    lanes: Uint16Array.of((fields >> 14) & 15),
    grey: Boolean((fields >> 21) & 1),
    slices,
    passes,
    segments: 1 + passes * slices,
    ...extension,
  };
}

/**
 * Check what only a head whose checksum holds is blamed for.
 *
 * @param {Header} header
 * @throws {CorruptStream}
 */
export function checkHeader(header) {
  const { quality16, dither, trellisCode, still, layering } = header;
  if (quality16 < MIN_QUALITY16 || quality16 > MAX_QUALITY16) {
    throw new CorruptStream(`the header names a quality in sixteenths of ${quality16}`, {
      expected: `${MIN_QUALITY16} to ${MAX_QUALITY16}`,
    });
  }
  if (dither !== null && trellisCode) {
    throw new CorruptStream(`the header names a dither with ${2 << trellisCode} states`, {
      expected: 'trellis 0',
    });
  }
  checkLayering(header);
  if (still && (trellisCode || dither !== null || layering)) {
    throw new CorruptStream('the header names a still lattice with a trellis, dither or layers', {
      expected: 'trellis 0 alone',
    });
  }
  const { bare, steps, lanes, adapter } = header;
  const others = steps > 1 || lanes.some((n) => n > 1) || dither !== null || layering || still;
  if (bare && (others || adapter !== null)) {
    throw new CorruptStream('the header names patches alone with what concerns latents', {
      expected: '1 step, 1 lane a slice, no dither, layers, adapter and still lattice',
    });
  }
}

/**
 * Return the place in the file of the segment of a pass and slice, both from 0.
 *
 * @param {Header} header
 * @param {number} pass
 * @param {number} slice
 * @returns {number}
 */
export function segmentIndex(header, pass, slice) {
  return 1 + pass * header.slices + slice;
}

const NONE_MORE = { adapter: null, still: false, bare: false };
const NO_EXTENSION = {
  chunks: {},
  sliceSide: DEFAULT_SLICE_SIDE,
  dither: null,
  layering: null,
  ...NONE_MORE,
};

/** @param {Cursor} cursor */
function readSignature(cursor) {
  const { data } = cursor;
  const agree = SIGNATURE.slice(0, data.length).every((byte, i) => byte === data[i]);
  if (data.length && data.length <= SIGNATURE.length && agree) {
    throw new TruncatedStream(`the stream is ${data.length} bytes long`, { expected: 'a header' });
  }
  if (!data.length || !agree) {
    const seen = data.length ? `the data begins with ${shown(data)}` : 'the data is empty (0 bytes)';
    throw new NotATrellicFile(seen, { expected: "b'TLC', the signature of a .tlc file" });
  }
  cursor.take(SIGNATURE.length, 'signature');
  const version = cursor.byte('signature');
  if (version !== VERSION) {
    throw new UnsupportedVersion(`the stream is of format version ${version}`, {
      expected: `version ${VERSION}`,
      remedy: 'update Trellic',
    });
  }
}

/** @param {Uint8Array} data */
function shown(data) {
  const text = Array.from(data.subarray(0, SIGNATURE.length), (byte) =>
    byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`,
  );
  return `b'${text.join('')}'`;
}

/** @param {Cursor} cursor */
function readExtension(cursor) {
  const flags = cursor.byte('header extension');
  if (flags === 0) throw new CorruptStream('the header extension is empty');
  /** @type {Record<string, number>} */
  const chunks = {};
  CHUNKS.forEach((name, bit) => {
    if ((flags >> bit) & 1) chunks[name] = readLength(cursor, name);
  });
  let sliceSide = DEFAULT_SLICE_SIDE;
  if (flags & SLICE_SIDE_FLAG) {
    sliceSide = cursor.byte('slice side') * SIDE_MULTIPLE;
    if (sliceSide < MIN_SLICE_SIDE || sliceSide === DEFAULT_SLICE_SIDE) {
      throw new CorruptStream(`the header extension names a slice side of ${sliceSide} latents`);
    }
  }
  const dither = flags & DITHER_FLAG ? littleEndian(cursor.take(4, 'seed of dither')) : null;
  const layering = flags & LAYERS_FLAG ? readLayering(cursor) : null;
  const more = flags & MORE_FLAG ? readMore(cursor, chunks) : NONE_MORE;
  return { chunks, sliceSide, dither, layering, ...more };
}

/**
 * Read the second byte of flags, and what it announces; adds to the chunks.
 *
 * @param {Cursor} cursor
 * @param {Record<string, number>} chunks
 */
function readMore(cursor, chunks) {
  const flags = cursor.byte('header extension');
  if (flags & ~KNOWN_MORE) {
    const unknown = (flags & ~KNOWN_MORE).toString(16);
    throw new UnsupportedVersion(`the header extension has the unknown further flags 0x${unknown}`, {
      expected: `flags within 0x${KNOWN_MORE.toString(16)}`,
      remedy: 'update Trellic',
    });
  }
  if (flags === 0) {
    throw new CorruptStream('the header extension announces further flags and has none');
  }
  if (flags & EMBEDDED_FLAG && !(flags & ADAPTER_FLAG)) {
    throw new CorruptStream('the header extension holds an adapter but names no adapter');
  }
  const adapter = flags & ADAPTER_FLAG ? hex(cursor.take(ADAPTER_ID_BYTES, 'adapter id')) : null;
  if (flags & EMBEDDED_FLAG) chunks.adapter = readLength(cursor, 'adapter');
  if (flags & PATCHES_FLAG) chunks.patches = readLength(cursor, 'patches');
  else if (flags & BARE_FLAG) {
    throw new CorruptStream('the header extension announces neither latents nor patches');
  }
  return { adapter, still: Boolean(flags & STILL_FLAG), bare: Boolean(flags & BARE_FLAG) };
}

/**
 * @param {Cursor} cursor
 * @param {string} name
 */
function readLength(cursor, name) {
  const length = cursor.varint(4, `length of the ${name} chunk`);
  if (length === 0) throw new CorruptStream(`the ${name} chunk has no bytes`);
  return length;
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
