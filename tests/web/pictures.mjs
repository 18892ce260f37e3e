/** `node pictures.mjs FOLDER OUT DECODER STREAM...`: decode streams as pages do, to OUT/NAME.png. */

import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fastDecoderOf, from } from './load.mjs';

const [folder, out, name, ...files] = process.argv.slice(2);
const decoder = await fastDecoderOf(folder);
const { toPng } = await from(folder, 'png.js');
for (const file of files) {
  const picture = await decoder.decode(new Uint8Array(readFileSync(file)), { decoder: name });
  writeFileSync(join(out, `${basename(file, '.tlc')}.png`), toPng(picture));
}
