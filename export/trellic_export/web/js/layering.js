/**
 * How the passes of a stream with layers are arranged, and how many of them a file still has.
 *
 * Specification: docs/format.md, sections 3 and 8.2.
 */

import { CorruptStream, UnsupportedVersion } from './errors.js';
import { littleEndian } from './fields.js';

/**
 * @typedef {object} Layering
 * @property {number[]} below qualities of the layers below the last one, in sixteenths, rising
 * @property {number} parts into how many each context step is split
 * @property {number} kept passes that the file has
 */

const MIN_QUALITY16 = 16;

/**
 * Passes of a whole stream, before it was cut.
 *
 * @param {Layering} layering
 * @param {number} steps
 * @returns {number}
 */
export function passesOf({ below, parts }, steps) {
  return (1 + below.length) * steps * parts;
}

/**
 * Read the layering of a header's extension.
 *
 * @param {import('./fields.js').Cursor} cursor
 * @returns {Layering}
 * @throws {import('./errors.js').StreamError}
 */
export function readLayering(cursor) {
  const [first, kept] = cursor.take(2, 'layers');
  if (first >> 4) {
    const unknown = ((first >> 4) << 4).toString(16);
    throw new UnsupportedVersion(`layers with the unknown bits 0x${unknown}`, {
      remedy: 'update Trellic',
    });
  }
  const below = Array.from({ length: first & 3 }, () => littleEndian(cursor.take(2, 'layers')));
  if (below.some((quality, i) => quality < MIN_QUALITY16 || quality <= (below[i - 1] ?? 0))) {
    throw new CorruptStream(`the header names layers of qualities ${below} (in sixteenths)`, {
      expected: `rising from ${MIN_QUALITY16}`,
    });
  }
  return { below, parts: 1 << ((first >> 2) & 3), kept: 1 + kept };
}

/**
 * Check a layering against the rest of its header.
 *
 * @param {import('./header.js').Header} header
 * @throws {CorruptStream}
 */
export function checkLayering({ layering, quality16, steps, dither }) {
  if (!layering) return;
  const { below, kept } = layering;
  const best = below[below.length - 1] ?? 0;
  if (best >= quality16) {
    throw new CorruptStream(`the header names a layer of quality ${best} (in sixteenths)`, {
      expected: `below ${quality16}, that of the last`,
    });
  }
  if (kept > passesOf(layering, steps)) {
    throw new CorruptStream(`the header names ${kept} passes`, {
      expected: `1 to ${passesOf(layering, steps)}`,
    });
  }
  if (dither !== null) {
    throw new CorruptStream('the header names layers with dither', { expected: 'one of the two' });
  }
}
