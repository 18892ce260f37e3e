/**
 * Quantizers: reconstruction of indices, the trellis, dither, and the still lattice.
 *
 * Specification: docs/format.md, section 8. Reconstructions are in 1/32 step.
 */

/** Octal in the specification: h0 and h1 of 4, 8, ... 256 states. */
const PARITY_CHECKS = [
  [0o5, 0o2],
  [0o13, 0o4],
  [0o23, 0o4],
  [0o45, 0o10],
  [0o103, 0o24],
  [0o235, 0o126],
  [0o515, 0o362],
];
const FIRST_DITHER_CLASS = 3;

/**
 * Transition table of a trellis: the state after state s and an index of parity x, at `2 s + x`.
 *
 * @param {number} code 1 to 7
 * @returns {Uint8Array}
 */
export function nextState(code) {
  const [h0, h1] = PARITY_CHECKS[code - 1];
  return Uint8Array.from({ length: 4 << code }, (_, i) => {
    const s = i >> 1;
    return (s >> 1) ^ ((h0 >> 1) * (s & 1)) ^ ((h1 >> 1) * (i & 1));
  });
}

/**
 * Reconstructions of the indices of a scalar or trellis stream.
 *
 * @param {Int32Array} k
 * @param {Uint8Array} cls 0 scalar, 1 Q0, 2 Q1
 * @param {Uint8Array} scaleIndex
 * @param {import('./tables.js').Tables} tables
 * @returns {Int32Array}
 */
export function reconstruct(k, cls, scaleIndex, { off, step, plain }) {
  return k.map((value, i) => {
    if (value === 0) return 0;
    const size = Math.abs(value);
    const base = cls[i] === 0 ? 32 * size : (2 * size - (cls[i] === 2 ? 1 : 0)) * step;
    const level = base - off[(cls[i] * plain.scales + scaleIndex[i]) * 4 + Math.min(size, 3)];
    return value < 0 ? -level : level;
  });
}

/**
 * Scramble 32 bits, one-to-one.
 *
 * @param {number} x
 * @returns {number}
 */
function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return x ^ (x >>> 16);
}

/**
 * Key of the noise of a slice.
 *
 * @param {number} seed of the stream
 * @param {number} slice number of the slice
 * @returns {number} as a signed integer of 32 bits
 */
export function sliceKey(seed, slice) {
  return mix((mix((seed + 0x9e3779b9) | 0) + slice) | 0);
}

/**
 * Noise of latents, in 1/64 step.
 *
 * @param {number} key of their slice
 * @param {number} first number in the slice of the latent at position 0
 * @param {Int32Array} position where they lie, counted from there
 * @returns {Int8Array} -32 to 31
 */
export function noise(key, first, position) {
  const u = new Int8Array(position.length);
  for (let i = 0; i < u.length; i++) {
    u[i] = (mix(mix((position[i] + first + key) | 0) ^ key) >>> 26) - 32;
  }
  return u;
}

/**
 * Noise, in 1/64 step, that moves levels around means to whole steps: that of a still lattice.
 *
 * @param {Int32Array} means in 1/32 step
 * @param {Int32Array} position of the latents in question
 * @returns {Int8Array} even, -32 to 30: twice as far as each mean lies above its nearest level
 */
export function stillNoise(means, position) {
  return Int8Array.from(position, (i) => 2 * (((means[i] + 16) & 31) - 16));
}

/**
 * Classes whose tables belong to some noise.
 *
 * @param {Int8Array} u
 * @returns {Uint8Array} 3 to 18
 */
export function ditherClasses(u) {
  return Uint8Array.from(u, (value) => FIRST_DITHER_CLASS + ((value + 32) >> 2));
}

/**
 * Reconstructions of the indices of a dithered stream, or of one with a still lattice.
 *
 * @param {Int32Array} k
 * @param {Int8Array} u their noise
 * @returns {Int32Array}
 */
export function undither(k, u) {
  return k.map((value, i) => 32 * value - ((u[i] + 1) >> 1));
}
