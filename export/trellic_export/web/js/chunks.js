/**
 * Chunks beside the latents: a lossless alpha plane, and metadata.
 *
 * Specification: docs/format.md, section 4.
 */

import { CorruptStream } from './errors.js';

const MAX_METADATA = 1 << 24; // bytes, inflated
const ADLER_BYTES = 4;
const ADLER_MODULUS = 65521;
const ADLER_RUN = 5552; // bytes whose sums stay below 2^32

/**
 * Return the content of a metadata chunk.
 *
 * @param {Uint8Array} stored
 * @param {string} name
 * @returns {Promise<Uint8Array>}
 * @throws {CorruptStream} when it is not one complete zlib stream of 1 byte to 16 MiB
 */
export async function readMetadata(stored, name) {
  const content = await inflate(stored, MAX_METADATA, name);
  if (!content.length) throw new CorruptStream(`the ${name} chunk inflates to 0 bytes`);
  return content;
}

/**
 * Return an alpha plane, one byte a pixel.
 *
 * @param {Uint8Array} stored
 * @param {number} height
 * @param {number} width
 * @returns {Promise<Uint8Array>}
 * @throws {CorruptStream} when the chunk does not inflate to exactly that, or is opaque everywhere
 */
export async function readAlpha(stored, height, width) {
  const expected = 1 + height * width;
  const content = await inflate(stored, expected, 'alpha');
  if (content.length !== expected) {
    throw new CorruptStream(`the alpha chunk inflates to ${content.length} bytes`, {
      expected: `${expected}`,
    });
  }
  const filter = content[0];
  if (filter > 3) throw new CorruptStream(`the alpha chunk has the unknown filter ${filter}`);
  const plane = content.subarray(1);
  if (filter & 1) addLeft(plane, width);
  if (filter & 2) addUp(plane, width);
  if (plane.every((value) => value === 255)) {
    throw new CorruptStream('the alpha chunk is opaque everywhere and should not be there');
  }
  return plane;
}

/**
 * @param {Uint8Array} plane
 * @param {number} width
 */
function addLeft(plane, width) {
  for (let row = 0; row < plane.length; row += width) {
    for (let i = row + 1; i < row + width; i++) plane[i] += plane[i - 1];
  }
}

/**
 * @param {Uint8Array} plane
 * @param {number} width
 */
function addUp(plane, width) {
  for (let i = width; i < plane.length; i++) plane[i] += plane[i - width];
}

/**
 * Inflate one complete zlib stream; what goes beyond the limit is given up at once.
 *
 * @param {Uint8Array} stored
 * @param {number} limit
 * @param {string} name
 * @returns {Promise<Uint8Array>}
 */
export async function inflate(stored, limit, name) {
  const source = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (stored)]).stream();
  const reader = source.pipeThrough(new DecompressionStream('deflate')).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      const why = error.message || error;
      throw new CorruptStream(`the ${name} chunk does not inflate (${why})`);
    });
    if (done) break;
    length += value.length;
    if (length > limit) {
      await reader.cancel().catch(() => {}); // it is being given up
      throw new CorruptStream(`the ${name} chunk inflates to more than ${limit} bytes`, {
        expected: `at most ${limit}`,
      });
    }
    parts.push(value);
  }
  const content = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    content.set(part, at);
    at += part.length;
  }
  // Not every engine minds bytes after the end of a zlib stream.
  const end = new DataView(stored.buffer, stored.byteOffset, stored.length);
  const there = stored.length >= ADLER_BYTES && end.getUint32(stored.length - ADLER_BYTES);
  if (there !== adler32(content)) {
    throw new CorruptStream(`the ${name} chunk is not exactly one zlib stream`);
  }
  return content;
}

/**
 * Adler-32, the check of zlib streams.
 *
 * @param {Uint8Array} data
 * @returns {number} 0 to 2^32 - 1
 */
export function adler32(data) {
  let a = 1;
  let b = 0;
  for (let start = 0; start < data.length; start += ADLER_RUN) {
    const end = Math.min(data.length, start + ADLER_RUN);
    for (let i = start; i < end; i++) {
      a += data[i];
      b += a;
    }
    a %= ADLER_MODULUS;
    b %= ADLER_MODULUS;
  }
  return b * 65536 + a;
}
