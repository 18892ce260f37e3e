/**
 * `node fuzz.mjs FOLDER STREAMS MINUTES [SEED [JSON]]`: changed streams, whose checksums are mended.
 *
 * Every one has to decode or to be refused by an error of a stream's own kind, without much memory
 * and in little time. Prints how many did what, and adds it to a file of runs; ends with 1, and
 * leaves the bytes in fuzz-failed.tlc, where one did neither.
 */

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fastDecoderOf, from } from './load.mjs';

const [folder, streams, minutes, seed = '1', json] = process.argv.slice(2);
const MAX_PIXELS = 200_000;
const MOST_MS = 20_000; // machines are shared
const MOST_MEMORY = 1.5e9; // bytes
const decoder = await fastDecoderOf(folder);
const { StreamError } = await from(folder, 'errors.js');
const { crc16, crc32 } = await from(folder, 'fields.js');
const { readContents } = await from(folder, 'container.js');

let state = Number(seed) >>> 0 || 1;
/** An integer below `limit`: xorshift, so that a seed says all. */
function random(limit) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

const good = readdirSync(streams)
  .filter((name) => name.endsWith('.tlc') && !name.startsWith('bad'))
  .map((name) => new Uint8Array(readFileSync(join(streams, name))))
  .filter(({ length }) => length < 6000);

/** Change a few bytes, cut some out, or repeat some. */
function changed(data) {
  let bytes = Array.from(data);
  for (let i = random(4) + 1; i > 0; i--) {
    const at = random(3) ? random(bytes.length) : random(Math.min(32, bytes.length));
    const kind = random(8);
    if (kind < 4) bytes[at] ^= 1 << random(8);
    else if (kind < 6) bytes[at] = [0, 255, 127, 128, random(256)][random(5)];
    else if (kind === 6) bytes.splice(at, random(8) + 1);
    else bytes.splice(at, 0, ...bytes.slice(at, at + random(16)));
  }
  return Uint8Array.from(bytes);
}

/** Mend the checksums of what can be found of a stream's parts. */
function mended(data) {
  const put = (value, at, size) => {
    for (let i = 0; i < size; i++) data[at + i] = (value >>> (8 * i)) & 255;
  };
  for (let end = 12; end < Math.min(data.length - 2, 400); end++) {
    const kept = data.slice(end, end + 2);
    put(crc16(data.subarray(0, end)), end, 2);
    try {
      const { segments, chunks, header } = readContents(data);
      const spans = [...Object.values(chunks), ...segments.slice(1)];
      if (header.slices === 1) spans.pop();
      for (const { offset, length } of spans) {
        put(crc16(data.subarray(offset, offset + length)), offset + length, 2);
      }
      break;
    } catch {
      data.set(kept, end);
    }
  }
  put(crc32(data.subarray(0, -4)), data.length - 4, 4);
  return data;
}

const begin = Date.now();
const until = begin + 60_000 * Number(minutes);
const counts = {};
while (Date.now() < until) {
  const data = random(4) ? mended(changed(good[random(good.length)])) : changed(good[random(good.length)]);
  const start = Date.now();
  let result = 'decoded';
  try {
    await decoder.decode(data, { maxPixels: MAX_PIXELS });
  } catch (error) {
    result = error instanceof StreamError ? error.name : `FAILED ${error.stack}`;
  }
  if (Date.now() - start > MOST_MS) result = `FAILED after ${Date.now() - start} ms`;
  if (process.memoryUsage().rss > MOST_MEMORY) result = 'FAILED: too much memory';
  counts[result] = (counts[result] ?? 0) + 1;
  if (result.startsWith('FAILED')) {
    writeFileSync('fuzz-failed.tlc', data);
    console.log(result);
    process.exitCode = 1;
    break;
  }
}
const executions = Object.values(counts).reduce((a, b) => a + b, 0);
const took = Math.round((Date.now() - begin) / 6000) / 10;
const run = { seed: Number(seed), minutes: took, executions, counts };
console.log(JSON.stringify(run, null, 1));
if (json) {
  const before = existsSync(json) ? JSON.parse(readFileSync(json, 'utf8')).runs : [];
  writeFileSync(json, `${JSON.stringify({ runs: [...before, run] }, null, 1)}\n`);
}
