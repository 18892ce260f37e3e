/**
 * Intervals that layers narrow, and the law of latents within them, in integers.
 *
 * Specification: docs/format.md, section 8.4. Edges, means and values are in 1/32 step of a layer,
 * and below 2^21 in magnitude. Numbers are exact: below 2^53 throughout.
 */

import { law } from './law.js';
import { clamp } from './levels.js';
import { VARIANCE_LIMIT, indexOf, variances } from './refine.js';

const STEP32 = 32;
const ZONE32 = 23; // half of the dead zone around a mean
const SNAP32 = 13; // an edge of the zone's grid that is nearer to the interval's end is left out
/** Half of the interval of a latent that the lowest layer does not code. */
export const SKIPPED32 = 39;
const MOST_EDGES = 8; // of that grid, on each side of the mean
const MOST_PARTS = 2 * MOST_EDGES + 1;
/** Of a row of cumulative frequencies. */
export const COLUMNS = MOST_PARTS + 1;
const TOTAL = 1 << 15; // of frequencies

/**
 * The ends of the cell that an index of the lowest layer names.
 *
 * @param {number} k
 * @param {number} mean32
 * @returns {[number, number]}
 */
export function zone(k, mean32) {
  if (k === 0) return [mean32 - ZONE32, mean32 + ZONE32];
  const near = (Math.abs(k) - 1) * STEP32 + ZONE32;
  const far = near + STEP32;
  return k < 0 ? [mean32 - far, mean32 - near] : [mean32 + near, mean32 + far];
}

/**
 * One interval at a time, divided into parts.
 *
 * Where the mean lies inside of it, its parts are those of a grid with a dead zone around the mean.
 * Other intervals are divided evenly.
 */
export class Division {
  #low = 0;
  #high = 0;
  #mean32 = 0;
  #index = 0;
  #inside = false;
  /** Edges of the grid to the left of the mean. */
  #left = 0;
  /** How many there are, 1 to 17. */
  parts = 1;

  /** @param {number} scales how many scale indices there are */
  constructor(scales) {
    this.law = law(scales);
    this.variances = variances(scales);
  }

  /**
   * Take up an interval.
   *
   * @param {number} low
   * @param {number} high
   * @param {number} mean32
   * @param {number} index scale index
   * @returns {this}
   */
  of(low, high, mean32, index) {
    this.#low = low;
    this.#high = high;
    this.#mean32 = mean32;
    this.#index = index;
    this.#inside = low < mean32 && mean32 < high;
    if (this.#inside) {
      this.#left = edgesWithin(mean32 - low);
      this.parts = this.#left + edgesWithin(high - mean32) + 1;
    } else {
      this.parts = clamp((high - low + SNAP32) >> 5, 1, MOST_PARTS);
    }
    return this;
  }

  /**
   * An edge between parts.
   *
   * @param {number} j 0 for the low end, `parts` for the high one
   * @returns {number}
   */
  edge(j) {
    if (j === 0) return this.#low;
    if (j === this.parts) return this.#high;
    if (!this.#inside) return this.#low + Math.floor((j * (this.#high - this.#low)) / this.parts);
    const before = j - this.#left; // edges between this one and the mean, if it is not beyond
    return this.#mean32 + (before > 0 ? (before - 1) * STEP32 + ZONE32 : before * STEP32 - ZONE32);
  }

  /**
   * Fill in the sums of frequencies before each part; from the last part on, 2^15.
   *
   * @param {Uint16Array} row of `COLUMNS`
   */
  cumulative(row) {
    const { parts } = this;
    const before = this.#mass(this.#low);
    const total = this.#mass(this.#high) - before;
    for (let j = 0; j < parts; j++) {
      // Masses are below 2^25, and so is what an edge adds.
      row[j] = Math.floor(((this.#mass(this.edge(j)) - before) * (TOTAL - parts)) / total) + j;
    }
    row.fill(TOTAL, parts);
  }

  /**
   * The mean of the law within the interval.
   *
   * @returns {number}
   */
  centroid() {
    const [low, high, mean32] = [this.#low, this.#high, this.#mean32];
    const { mass, moment, sigma } = this.law;
    const [a, b] = [this.#place(low), this.#place(high)];
    const width = high - low;
    const all = between(mass, b) - between(mass, a) + width;
    // A deviation is at most 2^19 here, a moment below 2^24; widths and distances are below 2^23.
    const own = Math.floor((sigma[this.#index] * (between(moment, b) - between(moment, a))) / 256);
    const sum = 2 * own + width * (low + high - 2 * mean32);
    return clamp(mean32 + Math.floor((sum + all) / (2 * all)), low, high);
  }

  /**
   * What is unknown, as a scale index: how wide law and interval are together.
   *
   * @returns {number}
   */
  spread() {
    const { centres, borders } = this.variances;
    const width = this.#high - this.#low;
    const flat = Math.min(Math.floor((width * width) / 12), VARIANCE_LIMIT);
    const ofLaw = centres[this.#index]; // at most 2^22, and the product 2^52
    return indexOf(borders, Math.floor((ofLaw * flat) / (ofLaw + flat)), this.#index);
  }

  /**
   * Probability up to an edge, of 2^24, with the flat law that is mixed in.
   *
   * @param {number} edge
   */
  #mass(edge) {
    return between(this.law.mass, this.#place(edge)) + edge;
  }

  /**
   * How far an edge is from the mean, in 1/4096 deviation; at most 16 deviations.
   *
   * @param {number} edge
   */
  #place(edge) {
    const far = (edge - this.#mean32) * this.law.inverse[this.#index]; // below 2^22 times 2^27
    return clamp(Math.floor((far + 32768) / 65536), -65536, 65535);
  }
}

/**
 * How many edges of the grid lie between the mean and the end of its interval.
 *
 * @param {number} distance
 */
function edgesWithin(distance) {
  return clamp(((distance - ZONE32 - SNAP32) >> 5) + 1, 0, MOST_EDGES);
}

/**
 * The value of a table of the law at a place, on the line between two nodes.
 *
 * @param {Int32Array} table
 * @param {number} place in 1/4096 deviation
 */
function between(table, place) {
  const node = (place >> 6) + 1024;
  return table[node] + (((table[node + 1] - table[node]) * (place & 63)) >> 6);
}
