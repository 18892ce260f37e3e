/**
 * The law of latents around their means, which layers with intervals need, as integers.
 *
 * It is nine tenths of a normal law of the predicted deviation and one tenth of one twice as wide.
 * Specification: docs/format.md, section 8.4.
 */

import { SIGMA_FIRST, SIGMA_LAST } from './refine.js';

/**
 * @typedef {object} Law
 * @property {Int32Array} mass probability up to each node, of 2^24
 * @property {Int32Array} moment first moment up to each node, in deviations, of 2^24
 * @property {Float64Array} sigma deviation of each scale index, in 1/8192 step
 * @property {Float64Array} inverse its reciprocal, as 2^28 / deviation in 1/32 step
 */

const NODES = 64; // in a deviation
const FAR = 16; // deviations beyond which the law is not tabulated
const ONE = 2 ** 24;
const MIXTURE = [[0.9, 1], [0.1, 2]]; // weight and width of each normal law
const NEGLIGIBLE = 6.5; // where erfc is below 2^-60

/** @type {Map<number, Law>} */
const laws = new Map();

/**
 * @param {number} scales how many scale indices
 * @returns {Law}
 */
export function law(scales) {
  const found = laws.get(scales) ?? made(scales);
  laws.set(scales, found);
  return found;
}

/**
 * @param {number} scales
 * @returns {Law}
 */
function made(scales) {
  const middle = FAR * NODES;
  const mass = new Int32Array(2 * middle + 1);
  const moment = new Int32Array(2 * middle + 1);
  for (let i = 0; i <= middle; i++) {
    let [tail, first] = [0, 0];
    for (const [weight, width] of MIXTURE) {
      const x = i / NODES / width;
      tail += (weight * erfc(x / Math.SQRT2)) / 2;
      first -= (weight * width * Math.exp(-(x * x) / 2)) / Math.sqrt(2 * Math.PI);
    }
    mass[middle - i] = Math.round(ONE * tail);
    if (i > 0) mass[middle + i] = ONE - mass[middle - i];
    moment[middle - i] = moment[middle + i] = Math.round(ONE * first);
  }
  const ratio = SIGMA_LAST / SIGMA_FIRST;
  const width = (/** @type {number} */ i) =>
    32 * SIGMA_FIRST * ratio ** (i / Math.max(scales - 1, 1));
  return {
    mass,
    moment,
    sigma: Float64Array.from({ length: scales }, (_, i) => Math.round(256 * width(i))),
    inverse: Float64Array.from({ length: scales }, (_, i) => Math.round(2 ** 28 / width(i))),
  };
}

/**
 * The complementary error function, with an error of about 1e-15, from 0 on.
 *
 * @param {number} x
 * @returns {number}
 */
function erfc(x) {
  if (x > NEGLIGIBLE) return 0;
  // erf is 2 x exp(-x^2) / sqrt(pi) times the sum of (2 x^2)^n / (1 * 3 * ... * (2 n + 1)).
  let [term, sum] = [1, 0];
  for (let n = 1; term > sum * 2 ** -60; n++) {
    sum += term;
    term *= (2 * x * x) / (2 * n + 1);
  }
  return 1 - (2 * x * Math.exp(-x * x) * sum) / Math.sqrt(Math.PI);
}
