/** Changed and cut streams, and limits; $FOLDER is an exported folder, $STREAMS has streams. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decoderOf, fastDecoderOf, from } from './load.mjs';

const { FOLDER: folder, STREAMS: streams } = process.env;
const KINDS = ['layers', 'intervals']; // of streams with layers
const stream = (name) => new Uint8Array(readFileSync(`${streams}/${name}.tlc`));

test('no flip and no cut is taken for the picture', async () => {
  const { read } = await from(folder, 'container.js');
  const { StreamError } = await from(folder, 'errors.js');
  for (const name of ['trellis-0', 'size-1x1', 'all-chunks', 'layers-cut-1', 'intervals-cut-1']) {
    const data = stream(name);
    for (let at = 0; at < data.length; at++) {
      await assert.rejects(read(data.subarray(0, at), 1e6), StreamError);
      const changed = data.slice();
      changed[at] ^= 1 << at % 8;
      await assert.rejects(read(changed, 1e6), StreamError);
    }
  }
});

test('a picture with more pixels than allowed is refused before anything is made of it', async () => {
  const decoder = await decoderOf(folder);
  const data = stream('trellis-8'); // 70 x 50
  await decoder.latents(data, 3500);
  await assert.rejects(decoder.latents(data, 3499), {
    name: 'ImageTooLarge',
    message: 'the picture has 70 x 50 pixels; expected at most 3499 pixels; raise the limit with maxPixels if you trust the file',
  });
});

test('a region has to lie inside the picture', async () => {
  const decoder = await decoderOf(folder);
  for (const region of [[0, 0, 71, 1], [-1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1.5, 1], [1, 2, 3]]) {
    await assert.rejects(decoder.decode(stream('trellis-8'), { region }), { name: 'BadParameter' });
  }
});

test('the first layers are those of the file that is cut there', async () => {
  const decoder = await fastDecoderOf(folder);
  for (const kind of KINDS) {
    const whole = stream(`${kind}-3`);
    const first = await decoder.decode(stream(`${kind}-cut-at-layer`));
    assert.deepEqual((await decoder.decode(whole, { layers: 1 })).pixels, first.pixels);
    const all = await decoder.decode(whole, { layers: 9 });
    assert.deepEqual(all.pixels, (await decoder.decode(whole)).pixels);
    assert.notDeepEqual(all.pixels, first.pixels);
  }
  const plain = await decoder.decode(stream('trellis-8'), { layers: 1 });
  assert.deepEqual(plain.pixels, (await decoder.decode(stream('trellis-8'))).pixels);
  for (const layers of [0, 1.5, NaN]) {
    const whole = stream('layers-3');
    await assert.rejects(decoder.decode(whole, { layers }), { name: 'BadParameter' });
  }
});

test('a decoder of the first steps sees the same of a stream with layers', async () => {
  const { LatentDecoder } = await from(folder, 'latents.js');
  const { read } = await from(folder, 'container.js');
  const decoder = await decoderOf(folder);
  const { model } = decoder;
  const networks = await decoder.networks(model.layout.steps.length);
  const ordinary = await read(stream('trellis-8'), 1e6);
  const layering = { below: [], parts: 1, kept: ordinary.header.passes };
  const layered = { ...ordinary, header: { ...ordinary.header, layering } }; // the same latents
  for (const steps of [1, 2]) {
    const latents = async (of) =>
      (await new LatentDecoder(model, networks, of, steps).slice(0)).v32;
    const [plain, seen] = [await latents(ordinary), await latents(layered)];
    assert.ok(plain.some((value) => value));
    assert.deepEqual(seen.subarray(0, plain.length), plain);
    assert.ok(seen.subarray(plain.length).every((value) => value === 0));
  }
});

test('a region of a stream with layers is cut out of its picture', async () => {
  const decoder = await fastDecoderOf(folder);
  for (const name of KINDS.flatMap((kind) => [`${kind}-slices`, `${kind}-slices-cut`])) {
    const whole = await decoder.decode(stream(name));
    const part = await decoder.decode(stream(name), { region: [1010, 3, 40, 20] });
    const rows = Array.from({ length: 20 }, (_, y) => {
      const from = 3 * ((y + 3) * whole.width + 1010);
      return [...whole.pixels.subarray(from, from + 120)];
    });
    const seen = [...part.pixels];
    assert.ok(rows.flat().every((value, i) => Math.abs(value - seen[i]) <= 1), name);
  }
});

test('the first layer of an arriving stream is enough for a preview', async () => {
  for (const kind of KINDS) await previewOf(kind);
});

async function previewOf(kind) {
  const { collect } = await from(folder, 'incoming.js');
  const decoder = await fastDecoderOf(folder);
  const whole = stream(`${kind}-3`);
  const pieces = Array.from({ length: Math.ceil(whole.length / 10) }, (_, i) =>
    whole.slice(10 * i, 10 * i + 10),
  );
  const prefixes = [];
  const body = new ReadableStream({
    pull: (to) => (pieces.length ? to.enqueue(pieces.shift()) : to.close()),
  });
  const limits = { maxPixels: 1e6, layout: decoder.model.layout, steps: 1 };
  const data = await collect(new Response(body), limits, (prefix) => prefixes.push(prefix));
  assert.deepEqual(data, whole);
  assert.equal(prefixes.length, 1);
  assert.ok(prefixes[0].length < whole.length / 1.5);
  const { pixels } = await decoder.decode(prefixes[0], { layers: 1 });
  assert.deepEqual(pixels, (await decoder.decode(stream(`${kind}-cut-at-layer`))).pixels);
  await assert.rejects(decoder.decode(prefixes[0].subarray(0, -12), { layers: 1 }), {
    name: 'TruncatedStream',
  });
}

test('a decoder is told a quality between the one that is reached and the last', async () => {
  const told = [];
  const hear = async (_, quality) => {
    told.push(quality);
    throw new Error('no picture');
  };
  const decoder = await decoderOf(folder, { decoder: async () => hear });
  const ask = async (name, options) => {
    await assert.rejects(decoder.decode(stream(name), options), /no picture/);
    return told.pop();
  };
  // Layers of qualities 30, 53 and 75.
  assert.equal(await ask('intervals-3'), 75);
  assert.equal(await ask('intervals-cut-at-layer'), 30 + 0.75 * 45);
  assert.equal(await ask('intervals-3', { layers: 1 }), 30 + 0.75 * 45);
  assert.equal(await ask('intervals-3', { layers: 2 }), 53 + 0.75 * 22);
  assert.equal(await ask('intervals-cut-at-turn'), 41.5 + 0.75 * 33.5);
  assert.equal(await ask('layers-3', { layers: 1 }), 31.9375); // quality 30 with 8 states
});
