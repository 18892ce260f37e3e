/**
 * The integer tables of a model: frequencies for the coder, centroids for the reconstruction.
 *
 * Specification: docs/format.md, sections 7.0, 8 and 9.1.
 */

import { BadBundle } from './errors.js';

const TOTAL = 1 << 15;
const CLASSES = 3;
const STORED_BUCKETS = 8;
const MAX_HALF_WIDTH = 1023;
const MAX_STEP = 255;
export const BUCKET_SHIFT = 7; // a symbol is looked for from the one of the top 8 bits of its slot

/**
 * Frequency tables laid out for the coder: all arrays are flat, symbol after symbol.
 *
 * Symbol `i` of table `t` is at `start[t] + i`; index k is `zero[t] + k`, an escape is the last.
 */
export class FrequencyTables {
  /**
   * @param {Uint16Array} halfWidth of each table, class-major
   * @param {Uint16Array} freqs table after table
   * @param {number} scales
   * @throws {BadBundle} when they break a rule of the tables
   */
  constructor(halfWidth, freqs, scales) {
    this.scales = scales;
    this.halfWidth = halfWidth;
    this.freqs = freqs;
    this.zero = new Int32Array(halfWidth.length);
    this.cumulative = new Uint16Array(freqs.length);
    /** First symbol of each bucket of slots, `t << 8 | slot >> 7`. */
    this.first = new Int32Array(halfWidth.length << 8);
    let at = 0;
    halfWidth.forEach((width, table) => {
      const end = at + 2 * width + 2;
      if (width > MAX_HALF_WIDTH || end > freqs.length) {
        throw new BadBundle('the frequency tables do not fit their half widths');
      }
      this.zero[table] = at + width;
      this.#lay(table, at, end);
      at = end;
    });
    if (at !== freqs.length) {
      throw new BadBundle('the frequency tables do not fit their half widths');
    }
  }

  /**
   * @param {number} table
   * @param {number} start
   * @param {number} end
   */
  #lay(table, start, end) {
    let total = 0;
    let bucket = 0;
    for (let i = start; i < end; i++) {
      this.cumulative[i] = total;
      total += this.freqs[i];
      if (this.freqs[i] < 1 || total > TOTAL) break;
      for (; bucket << BUCKET_SHIFT < total; bucket++) this.first[(table << 8) | bucket] = i;
    }
    if (total !== TOTAL) throw new BadBundle(`table ${table} sums to ${total}`, { expected: `${TOTAL}` });
  }
}

/**
 * @typedef {object} Tables
 * @property {FrequencyTables} plain of the classes 0 to 2
 * @property {FrequencyTables | null} dithered of the classes 0 to 18, which still lattices need too;
 *   null in a model without them
 * @property {Int16Array} off centroid offsets, (3, scales, 4)
 * @property {number} step D, in 1/32
 */

/**
 * @param {import('./model.js').Arrays} arrays
 * @param {number} scales
 * @returns {Tables}
 * @throws {BadBundle}
 */
export function readTables(arrays, scales) {
  const halfWidth = arrays.take('tables.half_width', '<u2', [CLASSES, scales]);
  const freqs = arrays.take('tables.freqs', '<u2');
  const off = arrays.take('tables.off', '<i2', [CLASSES, scales, 4]);
  const step = arrays.take('tables.trellis_step', '<u2', [1])[0];
  const precision = arrays.take('tables.precision', '<u2', [1])[0];
  const offsets = off.every((value) => Math.abs(value) <= MAX_STEP);
  if (precision !== 15 || step < 1 || step > MAX_STEP || !offsets) {
    throw new BadBundle('the tables have a precision, step or offset outside its range');
  }
  return {
    plain: new FrequencyTables(halfWidth, freqs, scales),
    dithered: arrays.has('dither.half_width') ? dithered(arrays, halfWidth, freqs, scales) : null,
    off,
    step,
  };
}

/**
 * All 19 classes of a dithered stream: buckets 8 to 15 mirror 7 to 0.
 *
 * @param {import('./model.js').Arrays} arrays
 * @param {Uint16Array} halfWidth
 * @param {Uint16Array} freqs
 * @param {number} scales
 */
function dithered(arrays, halfWidth, freqs, scales) {
  const stored = arrays.take('dither.half_width', '<u2', [STORED_BUCKETS, scales]);
  const storedFreqs = arrays.take('dither.freqs', '<u2');
  const starts = [];
  let at = 0;
  for (const width of stored) {
    starts.push(at);
    at += 2 * width + 2;
  }
  const widths = [...halfWidth, ...stored];
  const all = [freqs, storedFreqs];
  for (let bucket = STORED_BUCKETS - 1; bucket >= 0; bucket--) {
    for (let i = bucket * scales; i < (bucket + 1) * scales; i++) {
      const table = storedFreqs.slice(starts[i], starts[i] + 2 * stored[i] + 2);
      table.subarray(0, -1).reverse(); // the escape stays last
      widths.push(stored[i]);
      all.push(table);
    }
  }
  const joined = new Uint16Array(all.reduce((sum, part) => sum + part.length, 0));
  let end = 0;
  for (const part of all) {
    joined.set(part, end);
    end += part.length;
  }
  return new FrequencyTables(Uint16Array.from(widths), joined, scales);
}
