/**
 * What a layer says of its latents to the next layer, in integers.
 *
 * Specification: docs/format.md, sections 8.2 and 8.4. Latents are in 1/32 step, variances in 1/1024 square
 * step. Numbers are exact: below 2^53 throughout.
 */

import { clamp } from './levels.js';
import { MEAN_LIMIT } from './predictor.js';

export const [SIGMA_FIRST, SIGMA_LAST] = [0.11, 64];
const [VARIANCE_ZERO, VARIANCE_OTHER] = [410, 102];
export const VARIANCE_LIMIT = 2 ** 30;
const RATIO_LIMIT = 2 ** 20;

/**
 * @typedef {object} Variances
 * @property {Float64Array} centres that scale indices stand for
 * @property {Float64Array} borders where one index ends and the next begins
 */

/**
 * @param {number} scales how many scale indices
 * @returns {Variances}
 */
export function variances(scales) {
  const ratio = (SIGMA_LAST / SIGMA_FIRST) ** (2 / Math.max(scales - 1, 1));
  const at = (/** @type {number} */ i) => Math.round(1024 * SIGMA_FIRST ** 2 * ratio ** i);
  return {
    centres: Float64Array.from({ length: scales }, (_, i) => at(i)),
    borders: Float64Array.from({ length: scales - 1 }, (_, i) => at(i + 0.5)),
  };
}

/**
 * Variance of the error of a coded latent.
 *
 * @param {number} k its index
 */
export function learned(k) {
  return k === 0 ? VARIANCE_ZERO : VARIANCE_OTHER;
}

/**
 * Convert a value to the steps of another layer.
 *
 * @param {number} value in 1/32 step, below 2^21 in magnitude
 * @param {number} before gain of its channel in the one layer, below 2^31
 * @param {number} after and in the other
 * @returns {number}
 */
export function rescaled(value, before, after) {
  const scaled = Math.floor((value * after + Math.floor(before / 2)) / before);
  return clamp(scaled, -MEAN_LIMIT, MEAN_LIMIT);
}

/**
 * Carry latents and variances over to the steps of another layer; both are changed in place.
 *
 * @param {Int32Array} v32 (channels, ...)
 * @param {Int32Array} variance of the same shape; 0 where no layer coded the latent
 * @param {Float64Array} before gains of the channels in the one layer
 * @param {Float64Array} after and in the other
 */
export function carry(v32, variance, before, after) {
  const size = v32.length / before.length;
  for (let c = 0; c < before.length; c++) {
    const ratio = Math.min(Math.floor((after[c] * 4096) / before[c]), RATIO_LIMIT);
    const square = Math.floor((ratio * ratio) / 4096);
    for (let i = c * size; i < (c + 1) * size; i++) {
      v32[i] = rescaled(v32[i], before[c], after[c]);
      // Beyond 2^53 the product is rounded, and far above the limit.
      const carried = Math.floor((variance[i] * square + 2048) / 4096);
      if (variance[i] > 0) variance[i] = clamp(carried, 1, VARIANCE_LIMIT);
    }
  }
}

/**
 * Weigh a prediction with what is known.
 *
 * @param {Variances} tables
 * @param {number} mean32 predicted
 * @param {number} index predicted scale index
 * @param {number} v32 known value
 * @param {number} variance of its error, above 0
 * @returns {[number, number]} mean and scale index of what is still unknown
 */
export function informed({ centres, borders }, mean32, index, v32, variance) {
  const spread = centres[index];
  const total = spread + variance;
  const weight = Math.floor((spread * 32768) / total);
  const moved = mean32 + Math.floor(((v32 - mean32) * weight + 16384) / 32768);
  return [moved, indexOf(borders, Math.floor((spread * variance) / total), index)];
}

/**
 * The scale index of a variance: how many borders are at most as large.
 *
 * @param {Float64Array} borders
 * @param {number} variance
 * @param {number} near where to begin to look
 * @returns {number}
 */
export function indexOf(borders, variance, near) {
  let index = near;
  while (index < borders.length && borders[index] <= variance) index++;
  while (index > 0 && borders[index - 1] > variance) index--;
  return index;
}
