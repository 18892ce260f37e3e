/**
 * The bytes of a stream as they arrive: refused early, and enough for a preview before all is there.
 */

import { bytesForPasses, checkPixels, readContents } from './container.js';
import { CorruptStream, TrellicError, TruncatedStream } from './errors.js';
import { Cursor } from './fields.js';
import { readFront } from './header.js';
import { passesOf, turnsOf } from './layering.js';

/** @typedef {import('./model.js').Layout} Layout */

const FIRST_ROOM = 1 << 16; // bytes
const MAX_LANES = 1024;
const OVERHEAD = 4096; // bytes of a header without its table, and of checks

/**
 * Say how many bytes a stream can have, at most: whatever is longer is no picture.
 *
 * @param {import('./header.js').Header} header
 * @param {Layout} layout
 * @returns {number}
 */
export function mostBytes(header, layout) {
  const hyperStride = layout.stride * layout.cell;
  const cells = Math.ceil(header.width / hyperStride) * Math.ceil(header.height / hyperStride);
  const symbols = cells * (layout.hyper + layout.latents * layout.cell ** 2);
  const chunks = Object.values(header.chunks).reduce((sum, length) => sum + length + 2, 0);
  // A symbol takes 6 bytes at most, as does each lane; a group 8, a place in the table 4.
  const segments = header.segments * (8 * Math.ceil(MAX_LANES / 32) + 6);
  // A turn codes a latent once at most.
  const turns = header.layering ? turnsOf(header.layering) : 1;
  return OVERHEAD + 6 * turns * symbols + 6 * MAX_LANES * header.slices + segments + chunks;
}

/**
 * Collect the bytes of a response.
 *
 * @param {Response} response
 * @param {object} limits
 * @param {number} limits.maxPixels
 * @param {Layout} limits.layout
 * @param {number} limits.steps context steps that a preview needs, of a stream without layers; of
 *   others it needs a layer; 0 for no preview
 * @param {(data: Uint8Array) => void} onPrefix told, once, of the first bytes when they suffice for
 *   the preview and are not all
 * @returns {Promise<Uint8Array>}
 * @throws {TrellicError} as soon as it is clear that it is no picture that may be decoded
 */
export async function collect(response, { maxPixels, layout, steps }, onPrefix) {
  if (!response.ok) throw new TrellicError(`the server answers with status ${response.status}`);
  if (!response.body) return new Uint8Array(await response.arrayBuffer());
  const reader = response.body.getReader();
  let data = new Uint8Array(FIRST_ROOM);
  let length = 0;
  let most = Infinity;
  let enough = Infinity;
  /** @type {((seen: Uint8Array) => void) | null} */
  let look = (seen) => {
    const header = readFront(new Cursor(seen));
    checkPixels(header, maxPixels);
    most = mostBytes(header, layout);
    const contents = readContents(seen, Infinity);
    const passes = header.layering ? passesOf(header.layering, header.steps, 1) : steps;
    if (steps > 0 && passes < header.passes) enough = bytesForPasses(contents, passes);
    look = null;
  };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return data.subarray(0, length);
      data = withRoom(data, length, value.length);
      data.set(value, length);
      length += value.length;
      const seen = data.subarray(0, length);
      if (look) unlessTruncated(() => look?.(seen));
      if (length > most) {
        throw new CorruptStream(`the stream has more than ${most} bytes`, {
          expected: 'no more than a picture of its size can take',
        });
      }
      if (length >= enough) {
        enough = Infinity;
        onPrefix(seen.slice());
      }
    }
  } catch (error) {
    reader.cancel().catch(() => {}); // nobody waits for the rest
    throw error;
  }
}

/** @param {() => void} look */
function unlessTruncated(look) {
  try {
    look();
  } catch (error) {
    if (!(error instanceof TruncatedStream)) throw error;
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {number} length
 * @param {number} more
 */
function withRoom(data, length, more) {
  if (length + more <= data.length) return data;
  const larger = new Uint8Array(Math.max(2 * data.length, length + more));
  larger.set(data.subarray(0, length));
  return larger;
}
