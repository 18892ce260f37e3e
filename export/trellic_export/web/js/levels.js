/**
 * From the quality in the header to the integers that scale latents, means and scales.
 *
 * Specification: docs/format.md, section 7.2. Numbers are exact: below 2^53 throughout.
 */

import { BadBundle } from './errors.js';
import { layerOf } from './layering.js';

const BUCKETS = 16;
const DITHER_CODE = 8;

/**
 * @typedef {object} Level integers of one level; of channels unless it says hyper
 * @property {number} quality what free transforms that see the quality are told
 * @property {Float64Array} gain in 2^-12 steps per unit of a latent
 * @property {Float64Array} scaleShift in 1/128 scale index
 * @property {Float64Array} contextScale 1/32 steps to context activations, in 2^-16
 * @property {number} plane constant input of the hyper-synthesis
 * @property {Int32Array} hyperMean
 * @property {Uint8Array} hyperIndex
 * @property {Int32Array} hyperScale
 */

/** Integer tables over quality. */
export class LevelTables {
  /**
   * @param {import('./model.js').Arrays} arrays
   * @param {import('./model.js').Layout} layout
   * @throws {BadBundle}
   */
  constructor(arrays, layout) {
    const { latents, hyper, scales } = layout;
    const hyperShape = [BUCKETS, hyper];
    this.latents = latents;
    this.hyper = hyper;
    this.firstLevel = arrays.take('levels.first_level', '<i2', [1])[0];
    this.levelOffset = arrays.take('levels.level_offset', '<i2');
    this.gain = arrays.take('levels.gain', '<i4');
    this.rows = this.gain.length / latents;
    this.scaleShift = arrays.take('levels.scale_shift', '<i4', [this.rows, latents]);
    this.contextGain = arrays.take('levels.context_gain', '<i4', [latents]);
    this.hyperMean = arrays.take('levels.hyper_mean', '<i4', hyperShape);
    this.hyperIndex = arrays.take('levels.hyper_index', '|u1', hyperShape);
    this.hyperScale = arrays.take('levels.hyper_scale', '<i4', hyperShape);
    const codes = this.levelOffset.length - DITHER_CODE;
    const positive = [this.gain, this.contextGain, this.hyperScale];
    const good =
      this.rows >= 2 &&
      Number.isInteger(this.rows) &&
      (codes === 0 || codes === 1) &&
      positive.every((table) => table.every((value) => value > 0)) &&
      this.hyperIndex.every((value) => value < scales);
    if (!good) throw new BadBundle('a quality table has a wrong shape or sign');
  }

  /**
   * Return the integers of a picture.
   *
   * @param {import('./header.js').Header} header
   * @returns {Level}
   */
  of({ quality16, trellisCode, dither }) {
    const last = this.firstLevel + this.rows - 1;
    const code = dither === null ? trellisCode : DITHER_CODE;
    const level16 = clamp(quality16 + this.levelOffset[code], 16 * this.firstLevel, 16 * last);
    const bucket = clamp(Math.floor((level16 - 8) / 100), 0, BUCKETS - 1);
    const gain = this.#interpolate(this.gain, level16);
    const own = [bucket * this.hyper, (bucket + 1) * this.hyper];
    return {
      quality: level16 / 16,
      gain,
      scaleShift: this.#interpolate(this.scaleShift, level16),
      contextScale: gain.map((g, c) => Math.floor((this.contextGain[c] * 2 ** 15) / g)),
      plane: clamp(((level16 + 8) >> 4) - 50, -127, 127),
      hyperMean: this.hyperMean.subarray(...own),
      hyperIndex: this.hyperIndex.subarray(...own),
      hyperScale: this.hyperScale.subarray(...own),
    };
  }

  /**
   * Return the integers of the layers of a picture that its first passes reach.
   *
   * @param {import('./header.js').Header} header
   * @param {number} passes
   * @returns {Level[]} all with the hyper-latents of the last layer; one where there are no layers
   */
  ofLayers(header, passes) {
    const last = this.of(header);
    if (!header.layering) return [last];
    const { hyperMean, hyperIndex, hyperScale } = last;
    const levels = header.layering.below.map((quality16) => ({
      ...this.of({ ...header, quality16 }),
      ...{ hyperMean, hyperIndex, hyperScale },
    }));
    return [...levels, last].slice(0, 1 + layerOf(header.layering, header.steps, passes - 1));
  }

  /**
   * @param {Int32Array} table
   * @param {number} level16
   */
  #interpolate(table, level16) {
    const row = (level16 >> 4) - this.firstLevel;
    const part = level16 & 15;
    const next = Math.min(row + 1, this.rows - 1);
    return Float64Array.from({ length: this.latents }, (_, c) => {
      const low = table[row * this.latents + c] * (16 - part);
      const high = table[next * this.latents + c] * part;
      return Math.floor((low + high + 8) / 16);
    });
  }
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 * @returns {number}
 */
export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
