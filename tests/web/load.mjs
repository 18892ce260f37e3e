/** What the tests in node share: a model from its folder, and latents as the kit hashes them. */

import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Import a module of an exported folder. */
export const from = (folder, name) => import(pathToFileURL(join(folder, name)));

/** A decoder with plain integer networks, and no decoder networks unless some are given. */
export async function decoderOf(folder, engines = {}) {
  const { Model } = await from(folder, 'model.js');
  const { Decoder } = await from(folder, 'decoder.js');
  const manifest = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
  const integers = new Uint8Array(readFileSync(join(folder, manifest.integers.file)));
  return new Decoder(new Model(manifest, integers), { exact: null, decoder: none, ...engines });
}

/** A decoder with the engines that pages have. */
export async function fastDecoderOf(folder) {
  const { WebEngines } = await from(folder, 'engine.js');
  const manifest = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
  const get = async (file) => new Uint8Array(readFileSync(join(folder, file)));
  const engines = new WebEngines(manifest, get);
  return decoderOf(folder, {
    exact: (network) => engines.exact(network),
    decoder: (name) => engines.decoder(name),
  });
}

async function none(name) {
  throw new Error(`no engine for ${name}`);
}

/** Latents of all slices as one plane: int32 (channels, rows, columns). */
export function joined({ slices, plane }) {
  const size = plane.rows * plane.columns;
  const [{ part: first, v32: some }] = slices;
  const channels = some.length / ((first.bottom - first.top) * (first.right - first.left));
  const all = new Int32Array(channels * size);
  for (const { part, v32 } of slices) {
    const [rows, columns] = [part.bottom - part.top, part.right - part.left];
    for (let i = 0; i < channels * rows; i++) {
      const [c, y] = [Math.floor(i / rows), i % rows];
      const to = c * size + (part.top + y) * plane.columns + part.left;
      all.set(v32.subarray(i * columns, (i + 1) * columns), to);
    }
  }
  return all;
}

export const sha256 = (array) =>
  createHash('sha256')
    .update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
    .digest('hex');
