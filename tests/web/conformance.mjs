/**
 * `node conformance.mjs FOLDER STREAM...`: latents of streams by hash, or why they are refused.
 *
 * Prints one JSON object: by file, `{z, y}` or `{kind, message}`.
 */

import { readFileSync } from 'node:fs';
import { decoderOf, joined, sha256 } from './load.mjs';

const [folder, ...files] = process.argv.slice(2);
const decoder = await decoderOf(folder);
const found = {};
for (const file of files) {
  try {
    const latents = await decoder.latents(new Uint8Array(readFileSync(file)));
    found[file] = { z: sha256(latents.z), y: sha256(joined(latents)) };
  } catch (error) {
    found[file] = { kind: error.name, message: error.message };
  }
}
console.log(JSON.stringify(found));
