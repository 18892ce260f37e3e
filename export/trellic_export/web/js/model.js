/**
 * A model as a page loads it: `model.json`, and the integers that decide every symbol.
 *
 * `trellic export --web` writes both. The stream id is computed from the integers once more, so
 * integers that were altered or mixed up are never used.
 */

import { BadBundle, BadParameter, UnknownDecoder } from './errors.js';
import { LevelTables } from './levels.js';
import { readNetwork } from './networks.js';
import { sha256 } from './sha256.js';
import { readTables } from './tables.js';

export const WEB_VERSION = 2; // of model.json

/**
 * @typedef {{channels: number, steps: [number, number]}} Group
 * @typedef {{context: number, first: number, last: number}} Step
 *   sees channels [0, context), predicts channels [first, last)
 *
 * @typedef {object} Layout
 * @property {Group[]} groups
 * @property {number} latents channels
 * @property {number} hyper channels
 * @property {number} scales
 * @property {number} skipIndex
 * @property {number} stride
 * @property {number} cell
 * @property {Step[]} steps
 * @property {[number, number][]} stepOf context step of each channel and parity
 *
 * @typedef {object} File
 * @property {string} file beside model.json
 * @property {string} sha256
 *
 * @typedef {object} DecoderInfo
 * @property {File & import('./program.js').Program} program
 * @property {number} halo
 * @property {boolean} seesQuality
 * @property {number} channels
 * @property {number} steps
 * @property {number} scale
 * @property {string | null} base
 * @property {string} purpose
 *
 * @typedef {object} Manifest `model.json`
 * @property {number} web
 * @property {string} name
 * @property {string} streamId
 * @property {any} layout as in the bundle's manifest
 * @property {File} integers
 * @property {Record<string, {dtype: string, shape: number[], offset: number}>} arrays
 * @property {File} kernels
 * @property {Record<string, string>} probes
 * @property {Record<string, DecoderInfo>} decoders
 * @property {string} defaultDecoder
 *
 * @typedef {{name: string, info: DecoderInfo, weight: number}} Part
 */

/** How each type is spelled by NumPy, and what it is here. */
const TYPES = {
  '|u1': Uint8Array,
  '|i1': Int8Array,
  '<u2': Uint16Array,
  '<i2': Int16Array,
  '<i4': Int32Array,
};

/** Named arrays in one file. */
export class Arrays {
  /**
   * @param {Manifest['arrays']} index
   * @param {Uint8Array} bytes begins at a multiple of 4 in its buffer
   */
  constructor(index, bytes) {
    this.index = index;
    this.bytes = bytes;
  }

  /** @param {string} name */
  has(name) {
    return Object.hasOwn(this.index, name);
  }

  /** @param {string} name */
  shape(name) {
    return this.index[name].shape;
  }

  /**
   * Return an array, as a view.
   *
   * @template {keyof typeof TYPES} T
   * @param {string} name
   * @param {T} dtype that it must have
   * @param {number[]} [shape] that it must have
   * @returns {InstanceType<(typeof TYPES)[T]>}
   * @throws {BadBundle}
   */
  take(name, dtype, shape) {
    const entry = this.has(name) ? this.index[name] : null;
    if (!entry || entry.dtype !== dtype || (shape && String(entry.shape) !== String(shape))) {
      throw new BadBundle(`the array '${name}' is ${entry ? 'damaged' : 'missing'}`);
    }
    const Type = TYPES[dtype];
    const count = entry.shape.reduce((a, b) => a * b, 1);
    const end = entry.offset + count * Type.BYTES_PER_ELEMENT;
    if (entry.offset % 4 || end > this.bytes.length) {
      throw new BadBundle(`the array '${name}' is not where it should be`);
    }
    const at = this.bytes.byteOffset + entry.offset;
    return /** @type {any} */ (new Type(/** @type {ArrayBuffer} */ (this.bytes.buffer), at, count));
  }

  /** SHA-256 of what decides symbols and latents: docs/format.md, 7.1. */
  streamId(/** @type {any} */ layout) {
    const text = new TextEncoder();
    const parts = [text.encode(`tlc 1 ${JSON.stringify(layout)}`)];
    for (const name of Object.keys(this.index).sort()) {
      const { dtype, shape } = this.index[name];
      const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
      parts.push(text.encode(`${name} ${dtype} ${tuple};`));
      const array = this.take(name, /** @type {keyof typeof TYPES} */ (dtype));
      parts.push(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    }
    return sha256(...parts).slice(0, 8);
  }
}

/** The integers of a model, and what it says of its decoders. */
export class Model {
  /**
   * @param {Manifest} manifest
   * @param {Uint8Array} integers
   * @throws {BadBundle} when they are damaged or do not fit together
   */
  constructor(manifest, integers) {
    if (manifest?.web !== WEB_VERSION) {
      throw new BadBundle(`model.json has version ${manifest?.web}`, { expected: `${WEB_VERSION}` });
    }
    const arrays = new Arrays(manifest.arrays, integers);
    const found = arrays.streamId(manifest.layout);
    if (found !== manifest.streamId) {
      throw new BadBundle(
        `model.json says stream id ${manifest.streamId}, but the integers give ${found}`,
        { remedy: 'export the model again, and clear the cache' },
      );
    }
    this.manifest = manifest;
    this.layout = readLayout(manifest.layout);
    this.levels = new LevelTables(arrays, this.layout);
    this.tables = readTables(arrays, this.layout.scales);
    this.predictsAlone = !arrays.has('context_0.trunk.0.kind');
    const steps = this.predictsAlone ? [] : this.layout.steps;
    /** @type {Record<string, import('./networks.js').Network>} */
    this.networks = { h_s: readNetwork('h_s', arrays) };
    steps.forEach((_, k) => (this.networks[`context_${k}`] = readNetwork(`context_${k}`, arrays)));
    this.#checkNetworks();
  }

  #checkNetworks() {
    const { layout } = this;
    const { h_s } = this.networks;
    const fits = [h_s.channelsIn === layout.hyper + 1, 2 ** h_s.doublings === layout.cell];
    if (this.predictsAlone) {
      const own = h_s.channelsOut.length <= 2 && h_s.channelsOut.every((n) => n === layout.latents);
      fits.push(own, layout.steps.length === 1);
    } else {
      fits.push(h_s.channelsOut.length === 1);
      layout.steps.forEach((step, k) => {
        const context = this.networks[`context_${k}`];
        const count = step.last - step.first;
        fits.push(context.channelsIn === h_s.channelsOut[0] + step.context);
        fits.push(String(context.channelsOut) === String([count, count]), !context.doublings);
      });
    }
    if (!fits.every(Boolean)) throw new BadBundle('the networks of the model do not fit together');
  }

  /**
   * Say which decoders make what a text asks for: `NAME`, or `NAME:x` for a mixture with its base.
   *
   * @param {string} [text] the model's default if left out
   * @returns {Part[]} whose weights add up to 1
   * @throws {UnknownDecoder | BadParameter}
   */
  choose(text = this.manifest.defaultDecoder) {
    const { decoders, name: model } = this.manifest;
    const [name, ...rest] = text.split(':');
    const find = (/** @type {string} */ wanted) => {
      if (!Object.hasOwn(decoders, wanted)) {
        throw new UnknownDecoder(`model '${model}' has no decoder '${wanted}' here`, {
          remedy: `it has: ${Object.keys(decoders).sort().join(', ')}`,
        });
      }
      return decoders[wanted];
    };
    const info = find(name);
    if (!rest.length) return [{ name, info, weight: 1 }];
    const weight = Number(rest.join(':') || NaN);
    if (!(weight >= 0 && weight <= 1) || info.base === null) {
      throw new BadParameter(`decoder '${text}'`, { expected: 'NAME, or NAME:x with a base and x in 0..1' });
    }
    const parts = [
      { name, info, weight },
      { name: info.base, info: find(info.base), weight: 1 - weight },
    ];
    return parts.filter((part) => part.weight > 0);
  }
}

/**
 * @param {any} raw
 * @returns {Layout}
 */
function readLayout({ groups, hyper, scales, skip_index, stride = 16, cell = 4 }) {
  const ends = [0];
  for (const { channels } of groups) ends.push(ends[ends.length - 1] + channels);
  const count = 1 + Math.max(...groups.flatMap((/** @type {Group} */ group) => group.steps));
  const steps = Array.from({ length: count }, (_, k) => {
    /** @type {number[]} */
    const coded = [];
    let context = 0;
    groups.forEach((/** @type {Group} */ group, /** @type {number} */ i) => {
      if (group.steps.includes(k)) coded.push(i);
      if (Math.min(...group.steps) < k) context = ends[i + 1];
    });
    return { context, first: ends[coded[0]], last: ends[coded[coded.length - 1] + 1] };
  });
  const stepOf = groups.flatMap((/** @type {Group} */ group) =>
    new Array(group.channels).fill(group.steps),
  );
  const latents = ends[ends.length - 1];
  return { groups, latents, hyper, scales, skipIndex: skip_index, stride, cell, steps, stepOf };
}
