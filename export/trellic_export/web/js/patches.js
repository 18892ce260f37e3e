/**
 * Patches: blocks of the picture that the file holds beside the latents, or in their place.
 *
 * The browser decodes them: this needs `createImageBitmap` and `OffscreenCanvas`, and AVIF for AV1.
 * Specification: docs/format.md, section 4.2.
 */

import { contained, checkStill, isAv1 } from './av1.js';
import { inflate } from './chunks.js';
import { CorruptStream, TruncatedStream } from './errors.js';
import { Cursor } from './fields.js';
import { shapeOf, within } from './geometry.js';

/**
 * @typedef {import('./geometry.js').Rectangle} Rectangle
 *
 * @typedef {object} Patches
 * @property {Uint8Array} mask a bit for each block in raster order, most significant first
 * @property {number} columns blocks in a row
 * @property {{area: Rectangle, data: Uint8Array}[]} parts areas in pixels, of slices that have blocks
 */

const SIDE = 32; // pixels of a block, each way
const VP8L_SIGNATURE = 0x2f;
const RIFF = 20; // bytes before VP8L data in a file

/** @returns {boolean} whether there is what decodes patches */
export function canDecode() {
  return typeof createImageBitmap === 'function' && typeof OffscreenCanvas === 'function';
}

/**
 * Return the patches of a stream; no pixel is decoded.
 *
 * @param {Uint8Array} stored
 * @param {import('./header.js').Header} header
 * @returns {Promise<Patches>}
 * @throws {CorruptStream} when a length, the mask, or the size of an area is not as it has to be
 */
export async function readPatches(stored, header) {
  try {
    return await split(stored, header);
  } catch (error) {
    if (!(error instanceof TruncatedStream)) throw error;
    throw new CorruptStream(`the patches chunk of ${stored.length} bytes ends too early`);
  }
}

/**
 * Put patches over a picture, in place.
 *
 * @param {{pixels: Uint8Array, channels: 1 | 3}} picture of `part`, at 1 / scale of its size
 * @param {Patches} patches
 * @param {Rectangle} part of the picture, in units of `scale` pixels
 * @param {number} scale patches become means of so many pixels each way
 * @throws {CorruptStream} when one does not decode
 */
export async function paste({ pixels, channels }, patches, part, scale) {
  const [, width] = shapeOf(part);
  for (const { area, data } of patches.parts) {
    const [rows, columns] = shapeOf(area);
    const small = {
      top: area.top / scale,
      bottom: Math.ceil(area.bottom / scale),
      left: area.left / scale,
      right: Math.ceil(area.right / scale),
    };
    const seen = within(small, part);
    if (seen.bottom <= seen.top || seen.right <= seen.left) continue;
    const rgba = await decoded(data, rows, columns, channels === 1);
    for (let y = seen.top; y < seen.bottom; y++) {
      for (let x = seen.left; x < seen.right; x++) {
        if (!isStored(patches, Math.floor((y * scale) / SIDE), Math.floor((x * scale) / SIDE))) continue;
        const block = {
          top: y * scale - area.top,
          bottom: Math.min((y + 1) * scale - area.top, rows),
          left: x * scale - area.left,
          right: Math.min((x + 1) * scale - area.left, columns),
        };
        const at = channels * ((y - part.top) * width + x - part.left);
        for (let c = 0; c < channels; c++) {
          pixels[at + c] = mean(rgba, columns, block, channels === 1 ? 1 : c);
        }
      }
    }
  }
}

/**
 * @param {Uint8Array} stored
 * @param {import('./header.js').Header} header
 * @returns {Promise<Patches>}
 */
async function split(stored, { width, height, sliceSide, grey, bare }) {
  const cursor = new Cursor(stored);
  const [rows, columns] = [Math.ceil(height / SIDE), Math.ceil(width / SIDE)];
  const packed = cursor.take(cursor.varint(4, 'length of the mask'), 'mask of patches');
  const bytes = Math.ceil((rows * columns) / 8);
  const mask = await inflate(packed, bytes, 'patches');
  if (mask.length !== bytes) {
    throw new CorruptStream(`a mask of patches of ${mask.length} bytes`, { expected: `${bytes}` });
  }
  const patches = { mask, columns, parts: /** @type {Patches['parts']} */ ([]) };
  const beyond = Array.from({ length: 8 * bytes - rows * columns }, (_, i) => rows * columns + i);
  if (mask.every((byte) => byte === 0) || beyond.some((bit) => bitOf(mask, bit))) {
    throw new CorruptStream('the mask of patches has bits outside of the picture, or none');
  }
  const side = 16 * sliceSide;
  const areas = [];
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      const area = {
        top,
        bottom: Math.min(top + side, height),
        left,
        right: Math.min(left + side, width),
      };
      const count = countIn(patches, area);
      const all = Math.ceil((area.bottom - top) / SIDE) * Math.ceil((area.right - left) / SIDE);
      if (bare && count < all) {
        throw new CorruptStream('the file has no latents, and its patches leave a part out');
      }
      if (count) areas.push(area);
    }
  }
  const lengths = areas.map(() => cursor.varint(4, 'length of a patch'));
  for (const [i, area] of areas.entries()) {
    const data = cursor.take(lengths[i], 'patches');
    check(data, ...shapeOf(area), grey);
    patches.parts.push({ area, data });
  }
  if (cursor.at !== stored.length) {
    throw new CorruptStream(`${stored.length - cursor.at} bytes follow the patches in their chunk`);
  }
  return patches;
}

/**
 * Count the stored blocks of an area.
 *
 * @param {{mask: Uint8Array, columns: number}} patches
 * @param {Rectangle} area in pixels
 */
function countIn(patches, area) {
  let count = 0;
  for (let row = area.top / SIDE; row < area.bottom / SIDE; row++) {
    for (let column = area.left / SIDE; column < area.right / SIDE; column++) {
      count += Number(isStored(patches, row, column));
    }
  }
  return count;
}

/**
 * @param {{mask: Uint8Array, columns: number}} patches
 * @param {number} row
 * @param {number} column
 */
function isStored({ mask, columns }, row, column) {
  return bitOf(mask, row * columns + column) === 1;
}

/**
 * @param {Uint8Array} mask
 * @param {number} bit
 */
function bitOf(mask, bit) {
  return (mask[bit >> 3] >> (7 - (bit & 7))) & 1;
}

/**
 * Refuse data of another size than their area, before anything decodes them.
 *
 * @param {Uint8Array} data
 * @param {number} height
 * @param {number} width
 * @param {boolean} grey
 */
function check(data, height, width, grey) {
  if (isAv1(data)) {
    checkStill(data, height, width, grey);
    return;
  }
  if (data.length < 5 || data[0] !== VP8L_SIGNATURE) {
    throw new CorruptStream('a patch is not VP8L or AV1 data');
  }
  const bits = (data[1] | (data[2] << 8) | (data[3] << 16) | (data[4] << 24)) >>> 0;
  const [wide, high] = [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
  if (wide !== width || high !== height || bits >>> 28) {
    throw new CorruptStream(`a patch of ${wide}x${high} pixels (further bits ${bits >>> 28})`, {
      expected: `${width}x${height}, without alpha, version 0`,
    });
  }
}

/**
 * @param {Uint8Array} data of an area, checked
 * @param {number} height
 * @param {number} width
 * @param {boolean} grey
 * @returns {Promise<Uint8ClampedArray>} red, green, blue and alpha of each pixel
 */
async function decoded(data, height, width, grey) {
  const [file, type] = isAv1(data)
    ? [contained(data, height, width, grey), 'image/avif']
    : [riff(data), 'image/webp'];
  const blob = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (file)], { type });
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: 'none',
    premultiplyAlpha: 'none',
  }).catch((error) => {
    throw new CorruptStream(`a patch does not decode (${error.message})`, {
      remedy: 'if other pictures decode, use a browser that shows AVIF',
    });
  });
  if (bitmap.width !== width || bitmap.height !== height) {
    throw new CorruptStream(`a patch of ${bitmap.width}x${bitmap.height} pixels`, {
      expected: `${width}x${height}`,
    });
  }
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (!context) throw new CorruptStream('there is no room for a patch');
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}

/**
 * Return a WebP file of VP8L data.
 *
 * @param {Uint8Array} data
 */
function riff(data) {
  const padded = data.length + (data.length % 2);
  const file = new Uint8Array(RIFF + padded);
  const view = new DataView(file.buffer);
  file.set(new TextEncoder().encode('RIFF....WEBPVP8L'));
  view.setUint32(4, RIFF - 8 + padded, true);
  view.setUint32(16, data.length, true);
  file.set(data, RIFF);
  return file;
}

/**
 * Mean of a channel in a rectangle of pixels, rounded.
 *
 * @param {Uint8ClampedArray} rgba
 * @param {number} columns
 * @param {Rectangle} part
 * @param {number} channel
 */
function mean(rgba, columns, part, channel) {
  let sum = 0;
  for (let y = part.top; y < part.bottom; y++) {
    for (let x = part.left; x < part.right; x++) sum += rgba[4 * (y * columns + x) + channel];
  }
  const [rows, wide] = shapeOf(part);
  return Math.floor((2 * sum + rows * wide) / (2 * rows * wide));
}
