/**
 * Integer networks in WebAssembly: int16 with sums in int32, the same integers as networks.js.
 *
 * @typedef {import('./networks.js').Layer} Layer
 * @typedef {import('./networks.js').Tensor} Tensor
 * @typedef {import('./kernels.js').Place} Place
 */

import { BLOCK, padded, shuffle, transpose } from './kernels.js';
import { EngineError } from './errors.js';

const MOST = 32767;

/**
 * Make a network ready.
 *
 * @param {import('./kernels.js').Kernels} kernels
 * @param {import('./networks.js').Network} network
 * @returns {import('./exact.js').Run}
 * @throws {EngineError} when int16 does not hold what is between its layers
 */
export function integerNetwork(kernels, network) {
  const { trunk, heads } = network;
  let channels = network.channelsIn;
  const chain = trunk.map((layer, i) => {
    const ready = packed(kernels, layer, channels, i === trunk.length - 1 && !heads.length);
    channels = layer.kind === 'shuffle' ? channels / 4 : layer.bias.length;
    return ready;
  });
  const ends = heads.map((head) => packed(kernels, head, channels, true));
  return async (x) => {
    kernels.begin();
    let at = kernels.map(x.channels, x.rows, x.columns, 2);
    transpose(x, kernels.view(Int16Array, at.at, (at.rows * at.columns * at.stride) / 2), false);
    for (const step of chain) {
      const next = step(at);
      kernels.release(at.at);
      at = next;
    }
    const outputs = ends.length ? ends.map((head) => head(at)) : [at];
    return outputs.map((output) => tensor(kernels, output));
  };
}

/**
 * @param {import('./kernels.js').Kernels} kernels
 * @param {Place} place of int32
 * @returns {Tensor}
 */
function tensor(kernels, { at, channels, stride, rows, columns }) {
  const data = new Float32Array(channels * rows * columns);
  const map = kernels.view(Int32Array, at, (rows * columns * stride) / 4);
  transpose({ data, channels }, map, true);
  return { data, channels, rows, columns };
}

/**
 * Put a layer's weights into memory; return the function that evaluates it.
 *
 * @param {import('./kernels.js').Kernels} kernels
 * @param {Layer} layer
 * @param {number} channels of its input
 * @param {boolean} wide whether its output is int32
 * @returns {(x: Place) => Place}
 */
function packed(kernels, layer, channels, wide) {
  const { kind, side, low, high, table } = layer;
  if (kind === 'shuffle') return (x) => shuffled(kernels, x);
  const ends = table ? [...table] : [low, high];
  if (!wide && !ends.every((value) => Math.abs(value) <= MOST)) {
    throw new EngineError('an integer network has values that int16 does not hold');
  }
  const out = layer.bias.length;
  const weights = kernels.keep(2 * packedSize(layer, channels));
  const bias = kernels.keep(4 * padded(out));
  const scale = kernels.keep(4 * padded(out));
  pack(layer, channels, kernels.view(Int16Array, weights, packedSize(layer, channels)));
  kernels.view(Int32Array, bias, padded(out)).fill(0).set(layer.bias);
  const factors = Float32Array.from(layer.shift, (shift) => 2 ** -shift);
  kernels.view(Float32Array, scale, padded(out)).fill(0).set(factors);
  const ready = { kind, side, channels: out, weights, bias };
  return (x) => {
    const y = kernels.map(out, x.rows, x.columns, wide ? 4 : 2);
    kernels.convolve('integers', ready, x, y, [scale, low, high, Number(wide)]);
    if (table) {
      const Type = wide ? Int32Array : Int16Array;
      const values = kernels.view(/** @type {any} */ (Type), y.at, y.rows * y.columns * padded(out));
      for (let i = 0; i < values.length; i++) values[i] = table[values[i] - low];
    }
    return y;
  };
}

/**
 * @param {import('./kernels.js').Kernels} kernels
 * @param {Place} x
 */
function shuffled(kernels, x) {
  const y = kernels.map(x.channels / 4, 2 * x.rows, 2 * x.columns, 2);
  const values = (/** @type {Place} */ { at, rows, columns, stride }) =>
    kernels.view(Int16Array, at, (rows * columns * stride) / 2);
  shuffle(values(x), x, values(y), 2);
  return y;
}

/**
 * @param {Layer} layer
 * @param {number} channels
 */
function packedSize({ kind, side, bias }, channels) {
  const taps = side * side;
  return taps * padded(bias.length) * (kind === 'depthwise' ? 1 : padded(channels));
}

/**
 * Pack weights: tap by tap for a depthwise layer; else blocks of 8 outputs, in them pairs of inputs.
 *
 * @param {Layer} layer
 * @param {number} channels
 * @param {Int16Array} to
 */
function pack({ kind, side, bias, weight }, channels, to) {
  const taps = side * side;
  const out = bias.length;
  to.fill(0);
  for (let o = 0; o < out; o++) {
    if (kind === 'depthwise') {
      for (let t = 0; t < taps; t++) to[t * padded(out) + o] = weight[o * taps + t];
      continue;
    }
    const block = Math.floor(o / BLOCK) * taps * padded(channels) * BLOCK;
    for (let c = 0; c < channels; c++) {
      for (let t = 0; t < taps; t++) {
        const k = t * padded(channels) + c;
        const at = block + ((k >> 1) * BLOCK + (o % BLOCK)) * 2 + (k & 1);
        to[at] = weight[(o * channels + c) * taps + t];
      }
    }
  }
}
