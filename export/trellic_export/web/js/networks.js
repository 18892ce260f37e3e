/**
 * Integer networks in plain 32-bit integers: the authority beside every engine.
 *
 * Specification: docs/format.md, section 7.5.
 *
 * @typedef {{data: Float32Array, channels: number, rows: number, columns: number}} Tensor
 *   channel-major; of integers here
 * @typedef {{data: Int32Array, channels: number, rows: number, columns: number}} Integers
 *
 * @typedef {object} Layer
 * @property {'pointwise' | 'depthwise' | 'shuffle' | 'conv'} kind
 * @property {Int8Array} weight
 * @property {number} side of the kernel
 * @property {Int32Array} bias
 * @property {Uint8Array} shift
 * @property {number} low
 * @property {number} high
 * @property {Int32Array | null} table
 *
 * @typedef {object} Network
 * @property {Layer[]} trunk
 * @property {Layer[]} heads
 * @property {number} channelsIn
 * @property {number[]} channelsOut of each output
 * @property {number} doublings how often it doubles the size of its planes
 * @property {number} reach how far, in input positions, an output depends on the input
 */

import { BadBundle } from './errors.js';

const KINDS = /** @type {const} */ (['pointwise', 'depthwise', 'shuffle', 'conv']);
const DIMENSIONS = { pointwise: 2, depthwise: 3, shuffle: 1, conv: 4 };

/**
 * Evaluate a network.
 *
 * @param {Network} network
 * @param {Tensor} x
 * @returns {Tensor[]} one a head, or the trunk's output where there are no heads
 */
export function run(network, x) {
  /** @type {Integers} */
  let value = { ...x, data: Int32Array.from(x.data) };
  for (const layer of network.trunk) value = evaluate(layer, value);
  const ends = network.heads.length ? network.heads.map((head) => evaluate(head, value)) : [value];
  return ends.map((end) => ({ ...end, data: Float32Array.from(end.data) }));
}

/**
 * @param {Layer} layer
 * @param {Integers} x
 * @returns {Integers}
 */
function evaluate(layer, x) {
  if (layer.kind === 'shuffle') return shuffle(x);
  const { rows, columns } = x;
  const channels = layer.bias.length;
  const size = rows * columns;
  const data = new Int32Array(channels * size);
  for (let out = 0; out < channels; out++) {
    const acc = data.subarray(out * size, (out + 1) * size).fill(layer.bias[out]);
    if (layer.kind === 'depthwise') {
      addKernel(acc, x, out, layer.weight, out * layer.side ** 2, layer.side);
    } else {
      const taps = layer.side ** 2;
      for (let c = 0; c < x.channels; c++) {
        addKernel(acc, x, c, layer.weight, (out * x.channels + c) * taps, layer.side);
      }
    }
    finish(acc, layer, layer.shift[out]);
  }
  return { data, channels, rows, columns };
}

/**
 * Add one channel, through one kernel, to a plane of sums.
 *
 * @param {Int32Array} acc
 * @param {Integers} x
 * @param {number} channel
 * @param {Int8Array} weight
 * @param {number} at first weight of the kernel
 * @param {number} side
 */
function addKernel(acc, x, channel, weight, at, side) {
  const { rows, columns } = x;
  const plane = x.data.subarray(channel * rows * columns, (channel + 1) * rows * columns);
  const half = side >> 1;
  for (let dy = -half; dy <= half; dy++) {
    for (let dx = -half; dx <= half; dx++) {
      const w = weight[at++];
      if (w === 0) continue;
      const left = Math.max(0, -dx);
      const right = columns - Math.max(0, dx);
      for (let y = Math.max(0, -dy); y < rows - Math.max(0, dy); y++) {
        const row = y * columns;
        const source = row + dy * columns + dx;
        for (let i = left; i < right; i++) acc[row + i] += Math.imul(w, plane[source + i]);
      }
    }
  }
}

/**
 * Shift, clip and look up a plane of sums.
 *
 * @param {Int32Array} acc
 * @param {Layer} layer
 * @param {number} shift
 */
function finish(acc, { low, high, table }, shift) {
  const half = 1 << (shift - 1);
  for (let i = 0; i < acc.length; i++) {
    const value = Math.min(Math.max((acc[i] + half) >> shift, low), high);
    acc[i] = table ? table[value - low] : value;
  }
}

/**
 * Pixel shuffle by 2.
 *
 * @param {Integers} x
 * @returns {Integers}
 */
function shuffle({ data, channels, rows, columns }) {
  const out = new Int32Array(data.length);
  for (let c = 0; c < channels; c++) {
    const target = (c >> 2) * 4 * rows * columns;
    const dy = (c >> 1) & 1;
    const dx = c & 1;
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        out[target + (2 * y + dy) * 2 * columns + 2 * x + dx] = data[(c * rows + y) * columns + x];
      }
    }
  }
  return { data: out, channels: channels / 4, rows: 2 * rows, columns: 2 * columns };
}

/**
 * Read a network.
 *
 * @param {string} name
 * @param {import('./model.js').Arrays} arrays
 * @returns {Network}
 * @throws {BadBundle}
 */
export function readNetwork(name, arrays) {
  const trunk = readPart(`${name}.trunk`, arrays);
  const heads = readPart(`${name}.head`, arrays);
  if (!trunk.length || !['pointwise', 'conv'].includes(trunk[0].kind)) {
    throw new BadBundle(`integer network '${name}' is missing or damaged`);
  }
  const channelsIn = inputsOf(trunk[0]);
  let channels = channelsIn;
  let reach = 0;
  let scale = 1;
  for (const layer of trunk) {
    channels = follow(layer, channels, name);
    reach += scale * (layer.side >> 1);
    if (layer.kind === 'shuffle') scale /= 2;
  }
  const channelsOut = heads.length ? heads.map((head) => follow(head, channels, name)) : [channels];
  for (const head of heads) reach += scale * (head.side >> 1);
  const doublings = trunk.filter((layer) => layer.kind === 'shuffle').length;
  return { trunk, heads, channelsIn, channelsOut, doublings, reach: Math.ceil(reach) };
}

/** @param {Layer} layer */
function inputsOf({ kind, weight, bias, side }) {
  return kind === 'depthwise' ? bias.length : weight.length / (bias.length * side ** 2);
}

/**
 * @param {Layer} layer
 * @param {number} channels
 * @param {string} name
 */
function follow(layer, channels, name) {
  const fits = layer.kind === 'shuffle' ? channels % 4 === 0 : inputsOf(layer) === channels;
  if (!fits) throw new BadBundle(`a layer of '${name}' does not fit ${channels} channels`);
  return layer.kind === 'shuffle' ? channels / 4 : layer.bias.length;
}

/**
 * @param {string} prefix
 * @param {import('./model.js').Arrays} arrays
 * @returns {Layer[]}
 */
function readPart(prefix, arrays) {
  const layers = [];
  for (let i = 0; arrays.has(`${prefix}.${i}.kind`); i++) {
    const here = `${prefix}.${i}.`;
    const kind = KINDS[arrays.take(`${here}kind`, '|u1', [1])[0]];
    const weight = arrays.take(`${here}weight`, '|i1');
    const shape = arrays.shape(`${here}weight`);
    const bias = arrays.take(`${here}bias`, '<i4');
    const shift = arrays.take(`${here}shift`, '|u1', [bias.length]);
    const [low, high] = arrays.take(`${here}range`, '<i4', [2]);
    const size = high - low + 1;
    const table = arrays.has(`${here}table`) ? arrays.take(`${here}table`, '<i4', [size]) : null;
    const side = shape.length > 2 ? shape[shape.length - 1] : 1;
    const good =
      kind &&
      shape.length === DIMENSIONS[kind] &&
      low <= high &&
      side % 2 === 1 &&
      (shape.length <= 2 || shape[shape.length - 2] === side) &&
      (kind === 'shuffle' || (bias.length > 0 && shape[0] === bias.length)) &&
      shift.every((value) => value >= 1 && value <= 30);
    if (!good) throw new BadBundle(`the layer ${here.slice(0, -1)} is damaged`);
    layers.push({ kind, weight, side, bias, shift, low, high, table });
  }
  return layers;
}
