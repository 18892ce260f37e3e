/** `node patches.mjs FOLDER FILE HEIGHT WIDTH GREY`: the AVIF file of AV1 data, in hex. */

import { readFileSync } from 'node:fs';
import { from } from './load.mjs';

const [folder, file, height, width, grey] = process.argv.slice(2);
const { contained } = await from(folder, 'av1.js');
const data = new Uint8Array(readFileSync(file));
const made = contained(data, Number(height), Number(width), grey === 'true');
console.log(Buffer.from(made).toString('hex'));
