/**
 * A picture as a PNG file, whose pixels are stored and not compressed: made in no time.
 *
 * Browsers take it wherever they take an image, and manage the colours of its profile.
 */

import { adler32 } from './chunks.js';
import { crc32 } from './fields.js';

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const COLOUR_TYPES = { 1: 0, 3: 2 };
const WITH_ALPHA = 4;
const STORED = 65535; // bytes of a stored block, at most
const ZLIB_HEADER = [0x78, 0x01];
const PROFILE_NAME = 'icc';

/**
 * @param {import('./decoder.js').Picture} picture
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function toPng(picture) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, picture.width);
  view.setUint32(4, picture.height);
  header[8] = 8; // bits a sample
  header[9] = COLOUR_TYPES[picture.channels] + (picture.alpha ? WITH_ALPHA : 0);
  const rows = scanlines(picture);
  const chunks = [chunk('IHDR', [header])];
  if (picture.icc) {
    const name = new TextEncoder().encode(`${PROFILE_NAME}\0\0`); // the second 0: deflated
    chunks.push(chunk('iCCP', [name, picture.icc]));
  }
  chunks.push(chunk('IDAT', stored(rows)), chunk('IEND', []));
  return joined([Uint8Array.from(SIGNATURE), ...chunks]);
}

/**
 * Rows of samples, each behind its filter, which is none.
 *
 * @param {import('./decoder.js').Picture} picture
 * @returns {Uint8Array}
 */
function scanlines({ width, height, channels, pixels, alpha }) {
  const samples = channels + (alpha ? 1 : 0);
  const rows = new Uint8Array(height * (1 + width * samples));
  for (let y = 0; y < height; y++) {
    let to = y * (1 + width * samples) + 1;
    let from = y * width * channels;
    if (!alpha) {
      rows.set(pixels.subarray(from, from + width * channels), to);
      continue;
    }
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) rows[to++] = pixels[from++];
      rows[to++] = alpha[y * width + x];
    }
  }
  return rows;
}

/**
 * A zlib stream of stored blocks, in parts.
 *
 * @param {Uint8Array} data
 * @returns {Uint8Array[]}
 */
function stored(data) {
  /** @type {Uint8Array[]} */
  const parts = [Uint8Array.from(ZLIB_HEADER)];
  for (let start = 0; start < data.length; start += STORED) {
    const block = data.subarray(start, start + STORED);
    const last = start + STORED >= data.length;
    const size = block.length;
    parts.push(Uint8Array.of(last ? 1 : 0, size & 255, size >> 8, ~size & 255, (~size >> 8) & 255));
    parts.push(block);
  }
  parts.push(bigEndian(adler32(data)));
  return parts;
}

/**
 * @param {string} type
 * @param {Uint8Array[]} parts
 * @returns {Uint8Array}
 */
function chunk(type, parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const content = joined([bigEndian(length), new TextEncoder().encode(type), ...parts, bigEndian(0)]);
  const end = content.length - 4;
  content.set(bigEndian(crc32(content.subarray(4, end))), end);
  return content;
}

/** @param {number} value */
function bigEndian(value) {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

/**
 * @param {Uint8Array[]} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
