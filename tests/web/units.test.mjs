/** Parts of the decoder by themselves; $FOLDER is an exported one. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { deflateSync, inflateSync, crc32 as zlibCrc32 } from 'node:zlib';
import { decoderOf, from } from './load.mjs';

const folder = process.env.FOLDER;
const load = (name) => from(folder, name);
const bytes = (...values) => Uint8Array.from(values);
const ascii = (text) => new TextEncoder().encode(text);

test('checksums are those of the specification', async () => {
  const { crc16, crc32 } = await load('fields.js');
  assert.equal(crc16(ascii('123456789')), 0x29b1);
  assert.equal(crc32(ascii('123456789')), 0xcbf43926);
});

test('SHA-256 is the one of node, at every length round a block', async () => {
  const { sha256 } = await load('sha256.js');
  for (let length = 0; length < 140; length++) {
    const data = randomBytes(length);
    const right = createHash('sha256').update(data).digest('hex');
    assert.equal(sha256(data.subarray(0, 5), data.subarray(5)), right);
  }
});

test('the trellis of four states and the noise are those of the specification', async () => {
  const { nextState, noise, sliceKey } = await load('quantize.js');
  assert.deepEqual([...nextState(1)], [0, 1, 2, 3, 1, 0, 3, 2]);
  const first = (seed, slice) => [...noise(sliceKey(seed, slice), 0, Int32Array.from({ length: 12 }, (_, i) => i))];
  assert.deepEqual(first(0, 0), [13, 7, 1, 1, 31, -8, 2, 12, -5, -32, -31, 15]);
  assert.deepEqual(first(1, 1), [18, 30, 25, -20, -8, -16, -1, -20, 30, 15, 7, 11]);
  assert.deepEqual(first(2 ** 32 - 1, 65535), [-21, -30, 22, 27, -25, 21, -6, 9, 1, 0, 9, 27]);
  assert.deepEqual([...noise(sliceKey(1, 0), 999_999, Int32Array.of(1))], [8]);
});

test('a still lattice has levels at whole steps', async () => {
  const { ditherClasses, stillNoise, undither } = await load('quantize.js');
  const means = Int32Array.of(70, 0, 5, -17, 16, -16);
  const u = stillNoise(means, Int32Array.of(0, 2, 3, 4, 5));
  assert.deepEqual([...u], [12, 10, 30, -32, -32]);
  assert.deepEqual([...ditherClasses(u)], [14, 13, 18, 3, 3]);
  assert.deepEqual([...undither(Int32Array.of(0, 1, 0, 0, -1), u)], [-6, 27, -15, 16, -16]);
});

test('latents of a step are split by falling scale index', async () => {
  const { shares } = await load('layered.js');
  const split = (values, parts) => {
    const { order, ends } = shares(bytes(...values), parts);
    return [[...order], ends];
  };
  assert.deepEqual(split([3, 9, 3, 0, 255, 9], 1), [[0, 1, 2, 3, 4, 5], [6]]);
  assert.deepEqual(split([3, 9, 3, 0, 255, 9], 2), [[4, 1, 5, 0, 2, 3], [0, 6]]);
  assert.deepEqual(split([5, 7, 5, 7], 4), [[1, 3, 0, 2], [0, 1, 2, 4]]);
  assert.deepEqual(split([], 2), [[], [0, 0]]);
});

test('passes of layers with intervals are counted in turns', async () => {
  const { layerOf, passesOf, turnsOf } = await load('layering.js');
  const of = { below: [320, 400], parts: 4, kept: 1 };
  const layers = (layering) =>
    Array.from({ length: passesOf(layering, 3) }, (_, pass) => layerOf(layering, 3, pass));
  const repeated = (...counts) => counts.flatMap((count, layer) => Array(count).fill(layer));
  assert.deepEqual(layers({ ...of, intervals: false }), repeated(12, 12, 12));
  const intervals = { ...of, intervals: true };
  assert.deepEqual(layers(intervals), repeated(12, 24, 24));
  assert.deepEqual([0, 1, 2, 3].map((n) => passesOf(intervals, 3, n)), [0, 12, 36, 60]);
  assert.equal(turnsOf(intervals), 5);
});

test('a stream with intervals may be longer, by its turns', async () => {
  const { mostBytes } = await load('incoming.js');
  const layout = { stride: 16, cell: 4, hyper: 1, latents: 10 };
  const layering = { below: [320, 400], parts: 4, kept: 1 };
  const header = { width: 640, height: 640, chunks: {}, segments: 10, slices: 1, layering };
  const most = (intervals) =>
    mostBytes({ ...header, layering: { ...layering, intervals } }, layout);
  assert.equal(most(true) - most(false), 2 * 6 * 100 * (1 + 10 * 16));
});

test('a varint has to be in its shortest form', async () => {
  const { Cursor } = await load('fields.js');
  assert.equal(new Cursor(bytes(0xac, 0x02)).varint(3, 'size'), 300);
  const read = (...values) => new Cursor(bytes(...values)).varint(3, 'size');
  assert.throws(() => read(0x80, 0), /needless bytes/);
  assert.throws(() => read(0x80, 0x80, 0x80, 1), /more than 3 bytes/);
  assert.throws(() => read(0x80), { name: 'TruncatedStream' });
});

test('chunks are exactly one zlib stream each, and end at their limit', async () => {
  const { readAlpha, readMetadata } = await load('chunks.js');
  const icc = (stored) => readMetadata(new Uint8Array(stored), 'icc');
  assert.deepEqual(await icc(deflateSync(ascii('profile'))), ascii('profile'));
  const whole = deflateSync(ascii('profile'));
  for (const wrong of [whole.subarray(0, -1), Buffer.concat([whole, bytes(0)]), bytes(1, 2), deflateSync(bytes())]) {
    await assert.rejects(icc(wrong), { name: 'CorruptStream' });
  }
  await assert.rejects(icc(deflateSync(new Uint8Array((1 << 24) + 1))), /more than 16777216/);
  const alpha = (filter, ...values) => readAlpha(new Uint8Array(deflateSync(bytes(filter, ...values))), 2, 3);
  assert.deepEqual(await alpha(0, 1, 2, 3, 4, 5, 6), bytes(1, 2, 3, 4, 5, 6));
  assert.deepEqual(await alpha(1, 1, 1, 1, 255, 2, 0), bytes(1, 2, 3, 255, 1, 1));
  assert.deepEqual(await alpha(2, 1, 2, 3, 1, 1, 255), bytes(1, 2, 3, 2, 3, 2));
  assert.deepEqual(await alpha(3, 1, 1, 1, 1, 0, 0), bytes(1, 2, 3, 2, 3, 4));
  await assert.rejects(alpha(0, 1, 2, 3), /inflates to 4 bytes/);
  await assert.rejects(alpha(4, 1, 2, 3, 4, 5, 6), /unknown filter 4/);
  await assert.rejects(alpha(0, 255, 255, 255, 255, 255, 255), /opaque everywhere/);
});

test('a PNG has its pixels, alpha and profile', async () => {
  const { toPng } = await load('png.js');
  const size = { width: 300, height: 200 };
  const pixels = new Uint8Array(randomBytes(3 * 60_000));
  const alpha = new Uint8Array(randomBytes(60_000));
  const icc = new Uint8Array(deflateSync(ascii('profile')));
  const chunks = parse(toPng({ ...size, channels: 3, pixels, alpha, icc }));
  assert.deepEqual([...chunks.keys()], ['IHDR', 'iCCP', 'IDAT', 'IEND']);
  assert.deepEqual([...chunks.get('IHDR')], [0, 0, 1, 44, 0, 0, 0, 200, 8, 6, 0, 0, 0]);
  assert.equal(String(inflateSync(chunks.get('iCCP').subarray(5))), 'profile');
  const rows = inflateSync(chunks.get('IDAT'));
  assert.equal(rows.length, 200 * (1 + 4 * 300));
  const at = 77 * (1 + 4 * 300) + 1 + 4 * 5;
  const i = 77 * 300 + 5;
  assert.deepEqual([...rows.subarray(at, at + 4)], [...pixels.subarray(3 * i, 3 * i + 3), alpha[i]]);
  const grey = parse(toPng({ ...size, channels: 1, pixels: alpha, alpha: null, icc: null }));
  assert.equal(grey.get('IHDR')[9], 0);
});

function parse(png) {
  const chunks = new Map();
  const view = new DataView(png.buffer);
  for (let at = 8; at < png.length; ) {
    const length = view.getUint32(at);
    const content = png.subarray(at + 4, at + 8 + length);
    assert.equal(view.getUint32(at + 8 + length), zlibCrc32(content));
    chunks.set(String.fromCharCode(...content.subarray(0, 4)), content.subarray(4));
    at += 12 + length;
  }
  return chunks;
}

test('integers that were altered are not used', async () => {
  const { Model } = await load('model.js');
  const { model } = await decoderOf(folder);
  const { manifest } = model;
  const { readFileSync } = await import('node:fs');
  const integers = new Uint8Array(readFileSync(`${folder}/integers.bin`));
  const at = manifest.arrays['h_s.trunk.0.weight'].offset;
  integers[at] ^= 1;
  assert.throws(() => new Model(manifest, integers), /the integers give/);
  integers[at] ^= 1;
  assert.throws(() => new Model({ ...manifest, web: 1 }, integers), /has version 1/);
  new Model(manifest, integers);
});

test('an engine whose integers are wrong is refused', async () => {
  const { model } = await decoderOf(folder);
  const { run } = await load('networks.js');
  const second = JSON.stringify(model.networks.context_1.trunk[0].bias);
  const off = async (network) => async (x) => {
    const outputs = run(network, x);
    outputs[0].data[7] += JSON.stringify(network.trunk[0].bias) === second ? 1 : 0;
    return outputs;
  };
  const wrong = await decoderOf(folder, { exact: off });
  await wrong.networks(1);
  await assert.rejects(wrong.networks(2), { name: 'EngineError', message: /'context_1' are wrong/ });
});

test('decoders are chosen by name, and mixed with their base', async () => {
  const { model } = await decoderOf(folder);
  const info = model.manifest.decoders.quality;
  model.manifest.decoders = { quality: info, other: { ...info, base: 'quality' } };
  const chosen = (text) => model.choose(text).map(({ name, weight }) => [name, weight]);
  assert.deepEqual(chosen(), [['quality', 1]]);
  assert.deepEqual(chosen('other:0.25'), [['other', 0.25], ['quality', 0.75]]);
  assert.deepEqual(chosen('other:0'), [['quality', 1]]);
  assert.throws(() => chosen('sharp'), { name: 'UnknownDecoder', message: /it has: other, quality/ });
  for (const text of ['quality:0.5', 'other:2', 'other:x', 'other:']) {
    assert.throws(() => chosen(text), { name: 'BadParameter' });
  }
});
