/** Changed and cut streams, and limits; $FOLDER is an exported folder, $STREAMS has streams. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decoderOf, from } from './load.mjs';

const { FOLDER: folder, STREAMS: streams } = process.env;
const stream = (name) => new Uint8Array(readFileSync(`${streams}/${name}.tlc`));

test('no flip and no cut is taken for the picture', async () => {
  const { read } = await from(folder, 'container.js');
  const { StreamError } = await from(folder, 'errors.js');
  for (const name of ['trellis-0', 'size-1x1', 'all-chunks']) {
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
