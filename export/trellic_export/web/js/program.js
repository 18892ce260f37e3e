/**
 * Decoder networks in float32: runs what the exporter made of their graphs.
 *
 * @typedef {import('./kernels.js').Place} Place
 * @typedef {string | {at: number, count: number}} Operand a vector by name, or a constant
 * @typedef {Record<string, any>} Operation as `program.py` writes it
 * @typedef {{vectors: number, operations: Operation[]}} Program
 */

import { BadBundle } from './errors.js';
import { widen } from './half.js';
import { padded, shuffle, transpose } from './kernels.js';

/** What vectors are made of; a vector of one number goes with each of the other's. */
const VECTORS = /** @type {Record<string, (...numbers: number[]) => number>} */ ({
  Clip: (x, low, high) => Math.min(Math.max(x, low), high),
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Add: (a, b) => a + b,
  Abs: Math.abs,
  Relu: (x) => Math.max(x, 0),
  Unsqueeze: (x) => x,
});

/**
 * Make a decoder ready.
 *
 * @param {import('./kernels.js').Kernels} kernels
 * @param {Program} program
 * @param {Uint8Array} data its constants
 * @returns {import('./synthesis.js').Synthesis}
 */
export function decoderNetwork(kernels, program, data) {
  const constants = keep(kernels, program, data);
  const { operations } = program;
  /** @type {Map<string, number>} the last operation that reads a map */
  const last = new Map();
  operations.forEach(({ x, added }, i) => {
    if (x) last.set(x, i);
    if (added) last.set(added, i);
  });
  return async (latents, quality) => {
    const run = new Run(kernels, constants, latents, quality);
    let image = null;
    operations.forEach((operation, i) => {
      image = run.step(operation) ?? image;
      for (const name of [operation.x, operation.added]) if (last.get(name) === i) run.forget(name);
    });
    if (!image) throw new BadBundle('a decoder makes no picture');
    return image;
  };
}

/**
 * @param {import('./kernels.js').Kernels} kernels
 * @param {Program} program
 * @param {Uint8Array} data
 * @returns {{vectors: number, weights: number}} addresses
 */
function keep(kernels, { vectors: count }, data) {
  const copy = data.slice(); // begins where its buffer does
  const halves = new Uint16Array(copy.buffer, 4 * count);
  const vectors = kernels.keep(4 * count);
  const weights = kernels.keep(4 * halves.length);
  kernels.view(Float32Array, vectors, count).set(new Float32Array(copy.buffer, 0, count));
  widen(halves, kernels.view(Float32Array, weights, halves.length));
  return { vectors, weights };
}

/** One evaluation. */
class Run {
  /** @type {Map<string, Place>} */
  #maps = new Map();
  /** @type {Map<string, Float32Array>} */
  #vectors = new Map();

  /**
   * @param {import('./kernels.js').Kernels} kernels
   * @param {{vectors: number, weights: number}} constants
   * @param {import('./networks.js').Tensor} latents
   * @param {number} quality
   */
  constructor(kernels, constants, latents, quality) {
    this.kernels = kernels;
    this.constants = constants;
    kernels.begin();
    const place = kernels.map(latents.channels, latents.rows, latents.columns, 4);
    transpose(latents, this.#values(place), false);
    this.#maps.set('latents', place);
    this.#vectors.set('quality', Float32Array.of(quality));
  }

  /** @param {string} name of a map that nothing reads any more */
  forget(name) {
    const place = this.#maps.get(name);
    if (place) this.kernels.release(place.at);
    this.#maps.delete(name);
  }

  /**
   * @param {Operation} operation
   * @returns {{data: Uint8Array, shape: number[]} | null} the picture, at the end
   */
  step(operation) {
    const { op, out } = operation;
    if (op === 'vector') this.#vectors.set(out, this.#vector(operation));
    else {
      const x = this.#maps.get(operation.x);
      if (!x) throw new BadBundle(`a decoder's operation '${op}' has no input`);
      if (op === 'image') return this.#image(operation, x);
      this.#maps.set(out, this.#map(operation, x));
    }
    return null;
  }

  /** @param {Place} place */
  #values({ at, rows, columns, stride }) {
    return this.kernels.view(Float32Array, at, (rows * columns * stride) / 4);
  }

  /** @param {Operand} operand */
  #operand(operand) {
    if (typeof operand === 'string') return /** @type {Float32Array} */ (this.#vectors.get(operand));
    return this.kernels.view(Float32Array, this.constants.vectors + 4 * operand.at, operand.count);
  }

  /** @param {Operation} operation */
  #vector({ does, operands, columns }) {
    const values = operands.map((/** @type {Operand} */ operand) => this.#operand(operand));
    if (does === 'MatMul') {
      const [x, matrix] = values;
      const out = new Float32Array(columns);
      x.forEach((/** @type {number} */ value, /** @type {number} */ k) => {
        for (let i = 0; i < columns; i++) out[i] += value * matrix[k * columns + i];
      });
      return out;
    }
    const count = Math.max(...values.map((/** @type {Float32Array} */ { length }) => length));
    return Float32Array.from({ length: count }, (_, i) =>
      VECTORS[does](...values.map((/** @type {Float32Array} */ v) => v[v.length > 1 ? i : 0])),
    );
  }

  /**
   * @param {Operation} operation
   * @param {Place} x
   * @returns {Place}
   */
  #map(operation, x) {
    const { op, channels, block = 1 } = operation;
    const out = this.kernels.map(channels, x.rows * block, x.columns * block, 4);
    if (op === 'conv') this.#convolve(operation, x, out);
    else if (op === 'shuffle') shuffle(this.#values(x), x, this.#values(out), block);
    else if (op === 'take') this.#take(operation, x, out);
    else this.#scale(operation, x, out);
    return out;
  }

  /**
   * @param {Operation} operation
   * @param {Place} x
   * @param {Place} out
   */
  #convolve({ kind, side, channels, weights, bias, slope, added }, x, out) {
    const layer = {
      kind,
      side,
      channels,
      weights: this.constants.weights + 4 * weights,
      bias: this.constants.vectors + 4 * bias,
    };
    const other = added && this.#maps.get(added);
    this.kernels.convolve('numbers', layer, x, out, [other ? other.at - out.at : 0, slope]);
  }

  /**
   * @param {Operation} operation
   * @param {Place} x
   * @param {Place} out
   */
  #take({ first, channels }, x, out) {
    const [from, to] = [this.#values(x), this.#values(out)];
    const [stride, outStride] = [padded(x.channels), padded(channels)];
    to.fill(0);
    for (let i = 0; i < x.rows * x.columns; i++) {
      const at = i * stride + first;
      to.set(from.subarray(at, at + channels), i * outStride);
    }
  }

  /**
   * @param {Operation} operation
   * @param {Place} x
   * @param {Place} out
   */
  #scale({ op, vector, channels }, x, out) {
    const [from, to] = [this.#values(x), this.#values(out)];
    const given = this.#operand(vector);
    const stride = padded(channels);
    const numbers = new Float32Array(stride);
    for (let c = 0; c < channels; c++) numbers[c] = given[given.length > 1 ? c : 0];
    for (let i = 0; i < to.length; i += stride) {
      for (let c = 0; c < stride; c++) {
        to[i + c] = op === 'times' ? from[i + c] * numbers[c] : from[i + c] + numbers[c];
      }
    }
  }

  /**
   * Pixel shuffle, offset, factor, and round half to even into bytes.
   *
   * @param {Operation} operation
   * @param {Place} x
   */
  #image({ block, plus, times }, { at, channels, rows, columns, stride }) {
    const from = this.kernels.view(Float32Array, at, (rows * columns * stride) / 4);
    const colours = channels / block ** 2;
    const [down, across] = [rows * block, columns * block];
    const data = new Uint8ClampedArray(down * across * colours);
    const area = block ** 2;
    for (let y = 0; y < down; y++) {
      const line = Math.floor(y / block) * columns;
      const within = (y % block) * block;
      for (let i = 0, to = y * across * colours; i < columns; i++) {
        const source = ((line + i) * stride) / 4 + within;
        for (let dx = 0; dx < block; dx++) {
          for (let c = 0; c < colours; c++, to++) data[to] = (from[source + c * area + dx] + plus) * times;
        }
      }
    }
    return { data: new Uint8Array(data.buffer), shape: [1, down, across, colours] };
  }
}
