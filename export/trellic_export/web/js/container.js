/**
 * Whole streams: where everything lies, and reading with every check.
 *
 * Specification: docs/format.md, sections 2, 3, 5 and 6.
 */

import { readAlpha, readMetadata } from './chunks.js';
import { CorruptStream, ImageTooLarge, TruncatedStream } from './errors.js';
import { CRC16_BYTES, CRC32_BYTES, Cursor, bitsAt, crc16, crc32, littleEndian } from './fields.js';
import { checkHeader, readFront, segmentIndex } from './header.js';
import { readPatches } from './patches.js';

/** @typedef {import('./header.js').Header} Header */

/**
 * @typedef {{offset: number, length: number}} Span of bytes of a file
 *
 * @typedef {object} Contents
 * @property {Header} header
 * @property {Record<string, Span>} chunks
 * @property {Span[]} segments
 * @property {number} size bytes of the whole file; of a one-slice file, which does not tell, of `size`
 *
 * @typedef {object} Stream
 * @property {Header} header
 * @property {(Uint8Array | null)[]} segments null where one was not asked for
 * @property {Uint8Array | null} alpha one byte a pixel
 * @property {Uint8Array | null} icc the profile as a zlib stream, whose content has been checked
 * @property {import('./patches.js').Patches | null} patches
 */

const LANE_BITS = 4;
const WIDTH_BITS = 5;
const MAX_LOG2_LANES = 10;
const DAMAGED = 'the file is damaged; fetch it again';

/**
 * Read the head of a stream, check it, and say where everything lies.
 *
 * @param {Uint8Array} data the file, or as much of its beginning as there is
 * @param {number} [size] of the whole file
 * @returns {Contents}
 * @throws {import('./errors.js').StreamError}
 */
export function readContents(data, size = data.length) {
  const cursor = new Cursor(data);
  const header = readFront(cursor);
  const { log2Lanes, words } = readTable(cursor, header);
  const head = cursor.at + 2 * words[0];
  cursor.take(head - cursor.at, 'hyper-latents');
  if (littleEndian(cursor.take(CRC16_BYTES, 'head check')) !== crc16(data.subarray(0, head))) {
    throw new CorruptStream('the checksum of the header and the hyper-latents does not match', {
      remedy: DAMAGED,
    });
  }
  const most = log2Lanes.reduce((a, b) => Math.max(a, b));
  if (most > MAX_LOG2_LANES) {
    throw new CorruptStream(`a slice of 2**${most} lanes`, { expected: `to ${1 << MAX_LOG2_LANES}` });
  }
  header.lanes = log2Lanes.map((log2) => 1 << log2);
  checkHeader(header);
  if (header.bare && words.some((length) => length > 0)) {
    throw new CorruptStream('the file has patches alone, and segments that are not empty');
  }
  return places(header, words, head, size);
}

/**
 * Read a whole stream and check all of it.
 *
 * @param {Uint8Array} data
 * @param {number} maxPixels larger pictures are refused before memory is taken for them
 * @returns {Promise<Stream>}
 * @throws {import('./errors.js').StreamError}
 */
export async function read(data, maxPixels) {
  const contents = readContents(data);
  checkPixels(contents.header, maxPixels);
  if (data.length < contents.size) {
    throw new TruncatedStream(`the stream ends after ${data.length} bytes`, {
      expected: `${contents.size} bytes`,
      remedy: 'fetch the file again',
    });
  }
  if (data.length > contents.size) {
    throw new CorruptStream(`${data.length - contents.size} bytes follow the end of the stream`, {
      expected: `${contents.size} bytes in all`,
    });
  }
  const segments = contents.segments.map((_, i) => segmentOf(data, contents, i));
  const body = data.length - CRC32_BYTES;
  if (crc32(data.subarray(0, body)) !== littleEndian(data.subarray(body))) {
    throw new CorruptStream('the checksum of the file does not match', {
      remedy: 'the file is cut short or damaged; fetch it again',
    });
  }
  if (segments[segments.length - 1].length % 2) {
    throw new CorruptStream('the last segment has an odd number of bytes');
  }
  if (contents.header.bare && segments[segments.length - 1].length) {
    throw new CorruptStream('the file has patches alone, and a last segment that is not empty');
  }
  return { header: contents.header, segments, ...(await chunksOf(data, contents)) };
}

/**
 * Read what decodes the first passes of some slices: nothing else is looked at.
 *
 * @param {Uint8Array} data all bytes of the file, or at least those that are needed
 * @param {number} maxPixels
 * @param {number} passes how many, the first ones; context steps where there are no layers
 * @param {(slice: number) => boolean} wanted which slices
 * @returns {Promise<Stream>}
 * @throws {import('./errors.js').StreamError} also when a needed part is damaged or missing
 */
export async function readSlices(data, maxPixels, passes, wanted) {
  const contents = readContents(data);
  const { header } = contents;
  if (header.slices === 1 && passes >= header.passes) return read(data, maxPixels);
  checkPixels(header, maxPixels);
  /** @type {(Uint8Array | null)[]} */
  const segments = new Array(header.segments).fill(null);
  segments[0] = segmentOf(data, contents, 0);
  for (let slice = 0; slice < header.slices; slice++) {
    for (let pass = 0; wanted(slice) && pass < Math.min(passes, header.passes); pass++) {
      const i = segmentIndex(header, pass, slice);
      segments[i] = segmentOf(data, contents, i);
    }
  }
  return { header, segments, ...(await chunksOf(data, contents)) };
}

/**
 * Refuse a picture with too many pixels.
 *
 * @param {Header} header
 * @param {number} maxPixels
 * @throws {ImageTooLarge}
 */
export function checkPixels(header, maxPixels) {
  if (header.width * header.height > maxPixels) {
    throw new ImageTooLarge(`the picture has ${header.width} x ${header.height} pixels`, {
      expected: `at most ${maxPixels} pixels`,
      remedy: 'raise the limit with maxPixels if you trust the file',
    });
  }
}

/**
 * Return how many of the file's first bytes decode the first passes of every slice.
 *
 * @param {Contents} contents
 * @param {number} passes fewer than there are
 * @returns {number}
 */
export function bytesForPasses(contents, passes) {
  const last = contents.segments[passes * contents.header.slices];
  return last.offset + last.length + CRC16_BYTES;
}

/**
 * @param {Cursor} cursor
 * @param {Header} header
 */
function readTable(cursor, header) {
  const { slices } = header;
  const listed = header.segments - (slices === 1 ? 1 : 0);
  const before = LANE_BITS * (slices - 1) + WIDTH_BITS;
  const start = cursor.at;
  let bytes = cursor.take(Math.ceil(before / 8), 'segment table');
  const width = bitsAt(bytes, before - WIDTH_BITS, WIDTH_BITS);
  if (width === 0) throw new CorruptStream('the segment table has entries of 0 bits');
  cursor.at = start;
  const end = before + listed * width;
  bytes = cursor.take(Math.ceil(end / 8), 'segment table');
  const words = Float64Array.from({ length: listed }, (_, i) =>
    bitsAt(bytes, before + i * width, width),
  );
  const most = words.reduce((a, b) => Math.max(a, b));
  const bits = most ? 32 - Math.clz32(most) : 1;
  if (bitsAt(bytes, end, 8 * bytes.length - end) || width !== bits) {
    throw new CorruptStream('the segment table is not in its shortest form');
  }
  const log2Lanes = Uint16Array.from({ length: slices }, (_, i) =>
    i ? bitsAt(bytes, LANE_BITS * (i - 1), LANE_BITS) : header.lanes[0],
  );
  return { log2Lanes, words };
}

/**
 * Lay chunks and segments behind the head, whose check begins at offset `head`.
 *
 * @param {Header} header
 * @param {Float64Array} words listed lengths
 * @param {number} head
 * @param {number} size
 * @returns {Contents}
 */
function places(header, words, head, size) {
  let at = head + CRC16_BYTES;
  /** @type {Record<string, Span>} */
  const chunks = {};
  for (const [name, length] of Object.entries(header.chunks)) {
    chunks[name] = { offset: at, length };
    at += length + CRC16_BYTES;
  }
  const segments = [{ offset: head - 2 * words[0], length: 2 * words[0] }];
  for (let i = 1; i < words.length; i++) {
    segments.push({ offset: at, length: 2 * words[i] });
    at += 2 * words[i] + CRC16_BYTES;
  }
  if (header.slices === 1) {
    const length = Math.max(0, size - CRC32_BYTES - at);
    segments.push({ offset: at, length });
    at += length;
  }
  return { header, chunks, segments, size: at + CRC32_BYTES };
}

/**
 * @param {Uint8Array} data
 * @param {Contents} contents
 * @param {number} i
 */
function segmentOf(data, contents, i) {
  const { slices, segments } = contents.header;
  const own = i > 0 && i < segments - (slices === 1 ? 1 : 0);
  return own ? checked(data, contents.segments[i], `segment ${i}`) : view(data, contents.segments[i]);
}

/**
 * @param {Uint8Array} data
 * @param {Contents} contents
 */
async function chunksOf(data, contents) {
  const { width, height } = contents.header;
  /** @type {Record<string, Uint8Array>} */
  const stored = {};
  for (const [name, span] of Object.entries(contents.chunks)) {
    stored[name] = checked(data, span, `the ${name} chunk`);
  }
  const alpha = stored.alpha ? await readAlpha(stored.alpha, height, width) : null;
  for (const name of ['icc', 'exif', 'xmp']) {
    if (stored[name]) await readMetadata(stored[name], name);
  }
  const patches = stored.patches ? await readPatches(stored.patches, contents.header) : null;
  return { alpha, icc: stored.icc ?? null, patches };
}

/**
 * @param {Uint8Array} data
 * @param {Span} span
 */
function view(data, { offset, length }) {
  return data.subarray(offset, offset + length);
}

/**
 * Check the CRC-16 behind a part.
 *
 * @param {Uint8Array} data
 * @param {Span} span
 * @param {string} what
 */
function checked(data, span, what) {
  const end = span.offset + span.length;
  if (end + CRC16_BYTES > data.length) {
    throw new TruncatedStream(`the stream ends after ${data.length} bytes, inside ${what}`);
  }
  const part = view(data, span);
  if (littleEndian(data.subarray(end, end + CRC16_BYTES)) !== crc16(part)) {
    throw new CorruptStream(`the checksum of ${what} does not match`, { remedy: DAMAGED });
  }
  return part;
}
