/** The WebAssembly kernels against plain loops; $FOLDER is an exported folder. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decoderOf, fastDecoderOf, from } from './load.mjs';

const folder = process.env.FOLDER;
const { Kernels, padded, transpose } = await from(folder, 'kernels.js');
const { integerNetwork } = await from(folder, 'integers.js');
const { run } = await from(folder, 'networks.js');
const load = () => Kernels.load(readFileSync(`${folder}/kernels.wasm`));

let seed = 1;
/** Integers from -range to range, the same in every run. */
function random(range) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return (seed % (2 * range + 1)) - range;
}
const integers = (count, range) => Float32Array.from({ length: count }, () => random(range));

/** Small integers over 8, which float32 sums exactly: a wrong order of weights has to show. */
function convolved(x, channels, rows, columns, w, bias, out, side, depthwise) {
  const y = new Float32Array(out * rows * columns);
  const half = side >> 1;
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < rows * columns; i++) {
      let sum = bias[o];
      for (let c = depthwise ? o : 0; c < (depthwise ? o + 1 : channels); c++) {
        for (let t = 0; t < side * side; t++) {
          const row = Math.floor(i / columns) + Math.floor(t / side) - half;
          const column = (i % columns) + (t % side) - half;
          if (row < 0 || column < 0 || row >= rows || column >= columns) continue;
          sum += x[(c * rows + row) * columns + column] * w[(o * (depthwise ? 1 : channels) + (depthwise ? 0 : c)) * side * side + t];
        }
      }
      y[o * rows * columns + i] = sum;
    }
  }
  return y;
}

for (const [kind, side] of [['pointwise', 1], ['depthwise', 3], ['depthwise', 5], ['conv', 3]]) {
  test(`numbers: ${kind} of side ${side}, with a slope and a sum`, async () => {
    const kernels = await load();
    const [rows, columns, channels] = [7, 9, 11];
    const out = kind === 'depthwise' ? channels : 21;
    const taps = side * side;
    const [x, more] = [integers(channels * rows * columns, 40), integers(out * rows * columns, 90)];
    const w = integers(out * (kind === 'depthwise' ? 1 : channels) * taps, 8);
    const bias = integers(out, 50);
    const wide = padded(out);
    const deep = padded(channels);
    const weights = kernels.keep(4 * wide * taps * deep);
    const biases = kernels.keep(4 * wide);
    const packed = kernels.view(Float32Array, weights, wide * taps * deep).fill(0);
    for (let o = 0; o < out; o++) {
      for (let t = 0; t < taps; t++) {
        if (kind === 'depthwise') packed[t * wide + o] = w[o * taps + t];
        else for (let c = 0; c < channels; c++) packed[(((o >> 3) * taps + t) * deep + c) * 8 + (o & 7)] = w[(o * channels + c) * taps + t];
      }
    }
    kernels.view(Float32Array, biases, wide).fill(0).set(bias);
    kernels.begin();
    const maps = [kernels.map(channels, rows, columns, 4), kernels.map(out, rows, columns, 4), kernels.map(out, rows, columns, 4)];
    const view = ({ at, stride }) => kernels.view(Float32Array, at, (rows * columns * stride) / 4);
    transpose({ data: x, channels }, view(maps[0]), false);
    transpose({ data: more, channels: out }, view(maps[1]), false);
    const layer = { kind, side, channels: out, weights, bias: biases };
    kernels.convolve('numbers', layer, maps[0], maps[2], [maps[1].at - maps[2].at, 0.25]);
    const found = new Float32Array(out * rows * columns);
    transpose({ data: found, channels: out }, view(maps[2]), true);
    const right = convolved(x, channels, rows, columns, w, bias, out, side, kind === 'depthwise');
    assert.deepEqual(found, right.map((value, i) => Math.max(value + more[i], (value + more[i]) / 4)));
  });
}

const layer = (kind, out, channels, side, more = {}) => ({
  kind,
  side,
  weight: Int8Array.from(integers(out * (kind === 'depthwise' ? 1 : channels) * side * side, 127)),
  bias: Int32Array.from(integers(out, 5000)),
  shift: Uint8Array.from({ length: out }, (_, i) => (i % 7 === 6 ? 30 : 3 + (i % 7))),
  low: -127,
  high: 127,
  table: null,
  ...more,
});

test('integers: every kind of layer, shifts to 30, a table, two heads', async () => {
  const table = Int32Array.from({ length: 255 }, (_, i) => (i < 127 ? -Math.floor((127 - i) / 10) : i - 127));
  const network = {
    trunk: [
      layer('pointwise', 20, 9, 1),
      layer('depthwise', 20, 20, 5, { table }),
      layer('conv', 12, 20, 3),
      { ...layer('shuffle', 0, 0, 1), low: 0, high: 0 },
    ],
    heads: [layer('pointwise', 5, 3, 1, { low: -65535, high: 65535 }), layer('depthwise', 3, 3, 3, { table })],
    channelsIn: 9,
  };
  const x = { data: integers(9 * 13 * 11, 127), channels: 9, rows: 13, columns: 11 };
  const found = await integerNetwork(await load(), network)(x);
  assert.deepEqual(found, run(network, x));
});

test('integers that int16 does not hold are refused', async () => {
  const kernels = await load();
  const trunk = [layer('pointwise', 4, 4, 1, { high: 40000 }), layer('pointwise', 4, 4, 1)];
  assert.throws(() => integerNetwork(kernels, { trunk, heads: [], channelsIn: 4 }), { name: 'EngineError' });
});

test('memory is used again, and grows', async () => {
  const kernels = await load();
  kernels.keep(1000);
  kernels.begin();
  const first = kernels.take(1 << 22);
  kernels.release(first);
  assert.equal(kernels.take(1 << 20), first);
  assert.ok(kernels.take(16) >= first + (1 << 22));
  assert.throws(() => kernels.take(2 ** 31), { name: 'EngineError', message: /no memory for/ });
});

test('every float16 is widened', async () => {
  const { widen } = await from(folder, 'half.js');
  const found = new Float32Array(6);
  widen(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 1, 0x8400, 0x3555), found);
  const right = [1, -2, 65504, 2 ** -24, -(2 ** -14), 0.333251953125];
  assert.deepEqual(found, Float32Array.from(right));
});

test('probes hold with the kernels, and an altered file is refused', async () => {
  const { model } = await decoderOf(folder);
  await (await fastDecoderOf(folder)).networks(model.layout.steps.length);
  const { WebEngines } = await from(folder, 'engine.js');
  const broken = new WebEngines(model.manifest, async () => Uint8Array.of(1, 2, 3));
  await assert.rejects(broken.kernels(), { name: 'BadBundle', message: /kernels.wasm is not the file/ });
});
