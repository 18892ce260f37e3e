/**
 * Latents to pixels through decoder networks: whole for small pictures, in tiles for large ones.
 *
 * A tile carries a halo as wide as the network's reach, so that there are no seams.
 */

import { EngineError } from './errors.js';
import { coarser, finer, grown, meet, shapeOf, within } from './geometry.js';

/** @typedef {import('./geometry.js').Rectangle} Rectangle */
/** @typedef {import('./latents.js').Slice} Slice */

/**
 * @typedef {(latents: import('./networks.js').Tensor, quality: number) =>
 *   Promise<{data: Uint8Array, shape: readonly number[]}>} Synthesis
 *   latents to an image, (1, rows, columns, 3)
 */

const TILE = 64; // latents a side
const WHOLE = 1.5; // an area of no more than the square of 1.5 tiles is not cut

/**
 * Cut an area of the latent plane into tiles.
 *
 * @param {Rectangle} area
 * @param {import('./geometry.js').Plane} plane
 * @param {number} halo
 * @returns {{window: Rectangle, inner: Rectangle}[]} a tile with its halo, and what is kept of it
 */
export function tiles(area, plane, halo) {
  const [rows, columns] = shapeOf(area);
  const whole = rows * columns <= (WHOLE * TILE) ** 2;
  const [down, across] = whole ? [rows, columns] : [TILE, TILE];
  const found = [];
  for (let top = area.top; top < area.bottom; top += down) {
    for (let left = area.left; left < area.right; left += across) {
      const inner = within({ top, bottom: top + down, left, right: left + across }, area);
      found.push({ window: within(grown(inner, halo), plane.all), inner });
    }
  }
  return found;
}

/**
 * A window of the latents in units of the network: gains divided out.
 *
 * @param {Slice[]} slices those that it meets, at least
 * @param {Rectangle} window
 * @param {number} channels
 * @param {Float64Array} gain
 * @returns {import('./networks.js').Tensor}
 */
export function gather(slices, window, channels, gain) {
  const [rows, columns] = shapeOf(window);
  const data = new Float32Array(channels * rows * columns);
  for (const { part, v32 } of slices) {
    if (!meet(part, window)) continue;
    const [sliceRows, sliceColumns] = shapeOf(part);
    const shared = within(part, window);
    const width = shared.right - shared.left;
    for (let c = 0; c < channels; c++) {
      const scale = 128 / gain[c];
      for (let y = shared.top; y < shared.bottom; y++) {
        const from = (c * sliceRows + y - part.top) * sliceColumns + shared.left - part.left;
        const to = (c * rows + y - window.top) * columns + shared.left - window.left;
        for (let x = 0; x < width; x++) data[to + x] = v32[from + x] * scale;
      }
    }
  }
  return { data, channels, rows, columns };
}

/**
 * Copy what is kept of a tile into the picture, three channels or their mean.
 *
 * @param {{data: Uint8Array, shape: readonly number[]}} image of the rectangle `origin`
 * @param {Rectangle} origin in pixels
 * @param {Rectangle} kept in pixels
 * @param {{data: Uint8Array, part: Rectangle, channels: number}} out
 * @throws {EngineError} when the image has another size
 */
export function place(image, origin, kept, out) {
  const [rows, columns] = shapeOf(origin);
  if (String(image.shape) !== String([1, rows, columns, 3])) {
    throw new EngineError(`the decoder made a picture of ${image.shape}`, {
      expected: `1,${rows},${columns},3`,
    });
  }
  const across = out.part.right - out.part.left;
  const width = kept.right - kept.left;
  for (let y = kept.top; y < kept.bottom; y++) {
    const from = 3 * ((y - origin.top) * columns + kept.left - origin.left);
    const to = (y - out.part.top) * across + kept.left - out.part.left;
    if (out.channels === 3) {
      out.data.set(image.data.subarray(from, from + 3 * width), 3 * to);
    } else {
      for (let x = 0; x < width; x++) {
        const at = from + 3 * x;
        const sum = image.data[at] + image.data[at + 1] + image.data[at + 2];
        out.data[to + x] = Math.floor((2 * sum + 3) / 6);
      }
    }
  }
}

/**
 * Mix pictures of the same size, pixel by pixel.
 *
 * @param {{data: Uint8Array, shape: readonly number[]}[]} images
 * @param {number[]} weights that add up to 1
 * @returns {{data: Uint8Array, shape: readonly number[]}}
 */
export function mix(images, weights) {
  if (images.length === 1) return images[0];
  const [first, second] = images;
  const data = new Uint8ClampedArray(first.data.length); // rounds
  for (let i = 0; i < data.length; i++) {
    data[i] = weights[0] * first.data[i] + weights[1] * second.data[i];
  }
  return { data: new Uint8Array(data.buffer), shape: first.shape };
}

/**
 * A part of an alpha plane at 1 / scale of its size: means of blocks.
 *
 * @param {Uint8Array} alpha of the whole picture
 * @param {{width: number, height: number}} size of the picture
 * @param {Rectangle} part in pixels
 * @param {number} scale
 * @returns {Uint8Array}
 */
export function cropAlpha(alpha, { width, height }, part, scale) {
  const blocks = coarser(part, scale);
  const [rows, columns] = shapeOf(blocks);
  const all = { top: 0, bottom: height, left: 0, right: width };
  return Uint8Array.from({ length: rows * columns }, (_, i) => {
    const [y, x] = [blocks.top + Math.floor(i / columns), blocks.left + (i % columns)];
    const cell = within(finer({ top: y, bottom: y + 1, left: x, right: x + 1 }, scale), all);
    let sum = 0;
    for (let row = cell.top; row < cell.bottom; row++) {
      for (let at = cell.left; at < cell.right; at++) sum += alpha[row * width + at];
    }
    const [down, across] = shapeOf(cell);
    return Math.floor((2 * sum + down * across) / (2 * down * across));
  });
}
