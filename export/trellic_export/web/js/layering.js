/**
 * How the passes of a stream with layers are arranged, and how many of them a file still has.
 *
 * Specification: docs/format.md, sections 3, 8.2 and 8.4.
 */

import { CorruptStream, UnsupportedVersion } from './errors.js';
import { littleEndian } from './fields.js';

/**
 * @typedef {object} Layering
 * @property {number[]} below qualities of the layers below the last one, in sixteenths, rising
 * @property {number} parts into how many each context step is split
 * @property {number} kept passes that the file has
 * @property {boolean} intervals layers narrow the intervals that latents lie in; above the lowest,
 *   they go through the steps twice
 */

const MIN_QUALITY16 = 16;
const MAX_PASSES = 256;
const INTERVALS_BIT = 1 << 4;
const KNOWN_BITS = 5;
const TOLD = 0.75; // of the way from the quality that is reached to the last one

/**
 * How often the first layers of a stream go through the context steps.
 *
 * @param {Layering} layering
 * @param {number} [layers] all if left out
 * @returns {number}
 */
export function turnsOf({ below, intervals }, layers = 1 + below.length) {
  return intervals ? Math.max(2 * layers - 1, 0) : layers;
}

/**
 * Passes of the first layers of a whole stream, before it was cut.
 *
 * @param {Layering} layering
 * @param {number} steps
 * @param {number} [layers] all if left out
 * @returns {number}
 */
export function passesOf(layering, steps, layers) {
  return turnsOf(layering, layers) * steps * layering.parts;
}

/**
 * The layer of a pass; both count from 0.
 *
 * @param {Layering} layering
 * @param {number} steps
 * @param {number} pass
 * @returns {number}
 */
export function layerOf({ parts, intervals }, steps, pass) {
  const turn = Math.floor(pass / (steps * parts));
  return intervals ? (turn + 1) >> 1 : turn;
}

/**
 * The quality that a decoder is told of the first passes of a file with intervals.
 *
 * All latents are those of the last layer's g_a, however coarse. So what suits them lies between
 * the quality that is reached and the last one.
 *
 * @param {Layering} layering
 * @param {{quality16: number, steps: number}} header of the stream
 * @param {number} passes
 * @returns {number}
 */
export function toldQuality(layering, { quality16, steps }, passes) {
  const qualities16 = [...layering.below, quality16];
  const layer = layerOf(layering, steps, passes - 1);
  const [begin, end] = [layer, layer + 1].map((layers) => passesOf(layering, steps, layers));
  const below = qualities16[Math.max(layer - 1, 0)];
  const now = below + ((passes - begin) / (end - begin)) * (qualities16[layer] - below);
  return (now + TOLD * (quality16 - now)) / 16;
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
  if (first >> KNOWN_BITS) {
    const unknown = ((first >> KNOWN_BITS) << KNOWN_BITS).toString(16);
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
  const intervals = Boolean(first & INTERVALS_BIT);
  return { below, parts: 1 << ((first >> 2) & 3), kept: 1 + kept, intervals };
}

/**
 * Check a layering against the rest of its header.
 *
 * @param {import('./header.js').Header} header
 * @throws {CorruptStream}
 */
export function checkLayering({ layering, quality16, steps, dither, trellisCode }) {
  if (!layering) return;
  const { below, kept, intervals } = layering;
  const best = below[below.length - 1] ?? 0;
  if (best >= quality16) {
    throw new CorruptStream(`the header names a layer of quality ${best} (in sixteenths)`, {
      expected: `below ${quality16}, that of the last`,
    });
  }
  const passes = passesOf(layering, steps);
  if (passes > MAX_PASSES) {
    throw new CorruptStream(`the header names layers of ${passes} passes`, {
      expected: `at most ${MAX_PASSES}`,
    });
  }
  if (kept > passes) {
    throw new CorruptStream(`the header names ${kept} passes`, { expected: `1 to ${passes}` });
  }
  if (dither !== null) {
    throw new CorruptStream('the header names layers with dither', { expected: 'one of the two' });
  }
  if (intervals && trellisCode) {
    throw new CorruptStream(
      `the header names a trellis of ${2 << trellisCode} states with intervals`,
      { expected: 'none' },
    );
  }
}
