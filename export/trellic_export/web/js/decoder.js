/**
 * Streams of one model to pictures: only what the chosen decoder needs of them.
 *
 * Engines are handed in, so that the same code runs in a page, in a worker and in node.
 */

import { read, readContents, readSlices } from './container.js';
import { BadParameter, UnknownModel, UnsupportedVersion } from './errors.js';
import { probed } from './exact.js';
import { Plane, coarser, finer, grown, meet, shapeOf, sliceGrid, within } from './geometry.js';
import { LatentDecoder } from './latents.js';
import { passesOf } from './layering.js';
import { run as runPlainly } from './networks.js';
import { canDecode, paste } from './patches.js';
import { cropAlpha, gather, mix, place, tiles } from './synthesis.js';

/** @typedef {import('./geometry.js').Rectangle} Rectangle */

/**
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {1 | 3} channels
 * @property {Uint8Array} pixels row after row
 * @property {Uint8Array | null} alpha
 * @property {Uint8Array | null} icc profile, as a zlib stream
 *
 * @typedef {object} Options
 * @property {string} [decoder] `NAME`, or `NAME:x`
 * @property {number[]} [region] x, y, width and height in pixels
 * @property {number} [layers] decode the first ones alone; of streams without layers, everything
 * @property {number} [maxPixels]
 * @property {() => Promise<void> | void} [pause] called between the parts of the work; throws to end it
 *
 * @typedef {object} Engines
 * @property {((network: import('./networks.js').Network) => Promise<import('./exact.js').Run>) | null} exact
 *   integer networks; null for the plain ones
 * @property {(name: string) => Promise<import('./synthesis.js').Synthesis>} decoder by name
 */

export const MAX_PIXELS = 2 ** 26;

/** Decodes the streams of one model. */
export class Decoder {
  /** @type {Map<string, Promise<any>>} */
  #loaded = new Map();
  /** @type {Set<string>} keys of what is there by now */
  #ready = new Set();

  /**
   * @param {import('./model.js').Model} model
   * @param {Engines} engines
   */
  constructor(model, engines) {
    this.model = model;
    this.engines = engines;
  }

  /**
   * Decode a stream, of which all that the decoder needs has to be there.
   *
   * @param {Uint8Array} data
   * @param {Options} [options]
   * @returns {Promise<Picture>}
   * @throws {import('./errors.js').TrellicError}
   */
  async decode(data, { decoder, region, layers, maxPixels = MAX_PIXELS, pause = () => {} } = {}) {
    const parts = this.model.choose(decoder);
    const { layout } = this.model;
    const { header } = readContents(data);
    this.#checkModel(header);
    if (header.chunks.patches && !canDecode()) {
      throw new UnsupportedVersion('a file with patches', {
        expected: 'one without, where there is no createImageBitmap and OffscreenCanvas',
        remedy: 'decode it with the program trellic',
      });
    }
    if (header.adapter) console.warn(`trellic: shown without its adapter ${header.adapter}`);
    const wanted = toRectangle(region, header);
    if (header.bare) return finished(await read(data, maxPixels), wanted, parts[0].info.scale);
    const steps = Math.max(...parts.map(({ info }) => info.steps));
    const passes = header.layering ? passesOfLayers(header, layers) : steps;
    const halo = Math.max(...parts.map(({ info }) => info.halo));
    const plane = new Plane(header.width, header.height, layout.stride, layout.cell);
    const grid = sliceGrid(plane, (header.sliceSide * 16) / layout.stride);
    const seen = grown(coarser(wanted, layout.stride), halo);
    const whole = !region && passes === header.passes;
    const stream = whole
      ? await read(data, maxPixels)
      : await readSlices(data, maxPixels, passes, (i) => meet(grid[i], seen));
    const networks = await this.networks(header.layering ? layout.steps.length : steps);
    const latents = new LatentDecoder(this.model, networks, stream, steps, passes);
    const slices = [];
    for (let i = 0; i < grid.length; i++) {
      if (!meet(grid[i], seen)) continue;
      await pause();
      slices.push(await latents.slice(i));
    }
    return this.#synthesis({ stream, latents, slices, parts, wanted, halo, pause });
  }

  /**
   * Decode a stream to its latents alone, for tests of conformance.
   *
   * @param {Uint8Array} data
   * @param {number} [maxPixels]
   * @returns {Promise<{z: Int32Array, slices: import('./latents.js').Slice[], plane: Plane}>}
   */
  async latents(data, maxPixels = MAX_PIXELS) {
    const stream = await read(data, maxPixels);
    this.#checkModel(stream.header);
    if (stream.header.bare) throw new BadParameter('latents of a file that has none');
    const steps = this.model.layout.steps.length;
    const latents = new LatentDecoder(this.model, await this.networks(steps), stream, steps);
    const slices = [];
    for (let i = 0; i < latents.grid.length; i++) slices.push(await latents.slice(i));
    return { z: latents.z, slices, plane: latents.plane };
  }

  /**
   * Load the integer networks of the first context steps; each is probed once.
   *
   * @param {number} steps
   * @returns {Promise<import('./latents.js').Networks>}
   * @throws {import('./errors.js').EngineError} when a probe fails
   */
  async networks(steps) {
    const contexts = Array.from({ length: steps }, (_, k) => `context_${k}`);
    const names = this.model.predictsAlone ? ['h_s'] : ['h_s', ...contexts];
    const loaded = await Promise.all(
      names.map((name) => this.#once(`exact ${name}`, () => this.#exact(name))),
    );
    return Object.fromEntries(names.map((name, i) => [name, loaded[i]]));
  }

  /**
   * Load a decoder network.
   *
   * @param {string} name
   * @returns {Promise<import('./synthesis.js').Synthesis>}
   */
  network(name) {
    return this.#once(`decoder ${name}`, () => this.engines.decoder(name));
  }

  /**
   * Whether a decoder's network has been loaded.
   *
   * @param {string} [decoder]
   * @returns {boolean}
   */
  isWarm(decoder) {
    return this.model.choose(decoder).every(({ name }) => this.#ready.has(`decoder ${name}`));
  }

  /** @param {string} name */
  async #exact(name) {
    const network = this.model.networks[name];
    const engine = this.engines.exact ? await this.engines.exact(network) : null;
    const run = engine ?? (async (/** @type {any} */ x) => runPlainly(network, x));
    return probed(name, network.channelsIn, this.model.manifest.probes[name], run);
  }

  /**
   * @template T
   * @param {string} key
   * @param {() => Promise<T>} load
   * @returns {Promise<T>}
   */
  #once(key, load) {
    let found = this.#loaded.get(key);
    if (!found) {
      found = load();
      this.#loaded.set(key, found);
      found.then(
        () => this.#ready.add(key),
        () => this.#loaded.delete(key), // another try may fare better
      );
    }
    return found;
  }

  /** @param {import('./header.js').Header} header */
  #checkModel({ streamId }) {
    if (streamId !== this.model.manifest.streamId) {
      throw new UnknownModel(`the stream needs a model with stream id ${streamId}`, {
        expected: `${this.model.manifest.streamId}, the model that is here`,
      });
    }
  }

  /**
   * @param {object} work
   * @param {import('./container.js').Stream} work.stream
   * @param {LatentDecoder} work.latents
   * @param {import('./latents.js').Slice[]} work.slices
   * @param {import('./model.js').Part[]} work.parts
   * @param {Rectangle} work.wanted
   * @param {number} work.halo
   * @param {() => Promise<void> | void} work.pause
   * @returns {Promise<Picture>}
   */
  async #synthesis({ stream, latents, slices, parts, wanted, halo, pause }) {
    const { header } = stream;
    const { level, plane } = latents;
    const { scale } = parts[0].info;
    const area = coarser(wanted, scale);
    const stride = plane.stride / scale;
    const [height, width] = shapeOf(area);
    const channels = header.grey ? 1 : 3;
    const pixels = new Uint8Array(height * width * channels);
    const networks = await Promise.all(parts.map(({ name }) => this.network(name)));
    for (const { window, inner } of tiles(coarser(area, stride), plane, halo)) {
      await pause();
      const images = [];
      for (let i = 0; i < parts.length; i++) {
        const input = gather(slices, window, parts[i].info.channels, level.gain);
        images.push(await networks[i](input, latents.told));
      }
      const image = mix(images, parts.map(({ weight }) => weight));
      const kept = within(finer(inner, stride), area);
      place(image, finer(window, stride), kept, { data: pixels, part: area, channels });
    }
    return finished(stream, wanted, scale, pixels);
  }
}

/**
 * Put patches over the pixels, and alpha and profile beside them.
 *
 * @param {import('./container.js').Stream} stream
 * @param {Rectangle} wanted in pixels of the full size
 * @param {number} scale
 * @param {Uint8Array} [pixels] what latents give; if left out, patches give all
 * @returns {Promise<Picture>}
 */
async function finished(stream, wanted, scale, pixels) {
  const { header, patches } = stream;
  const part = coarser(wanted, scale);
  const [height, width] = shapeOf(part);
  const channels = header.grey ? 1 : 3;
  const shown = pixels ?? new Uint8Array(height * width * channels);
  if (patches) await paste({ pixels: shown, channels }, patches, part, scale);
  const all = scale === 1 && width === header.width && height === header.height;
  const alpha = stream.alpha && (all ? stream.alpha : cropAlpha(stream.alpha, header, wanted, scale));
  return { width, height, channels, pixels: shown, alpha, icc: stream.icc };
}

/**
 * Return how many passes the first layers of a stream have, of those that are there.
 *
 * @param {import('./header.js').Header} header
 * @param {number} [layers] all if left out
 * @returns {number}
 * @throws {BadParameter}
 */
function passesOfLayers({ layering, passes, steps }, layers = Infinity) {
  if (!(layers === Infinity || Number.isInteger(layers)) || layers < 1) {
    throw new BadParameter(`layers ${layers}`, { expected: 'a whole number from 1' });
  }
  return layering ? Math.min(passes, passesOf(layering, steps, layers)) : passes;
}

/**
 * Return a region as a rectangle of pixels.
 *
 * @param {number[] | undefined} region x, y, width and height; all if left out
 * @param {{width: number, height: number}} size
 * @returns {Rectangle}
 * @throws {BadParameter} when it is empty, or does not lie inside the picture
 */
function toRectangle(region, { width, height }) {
  if (!region) return { top: 0, bottom: height, left: 0, right: width };
  const [x, y, wide, high] = region;
  const whole = region.length === 4 && region.every(Number.isInteger);
  if (!whole || Math.min(x, y) < 0 || Math.min(wide, high) < 1 || x + wide > width || y + high > height) {
    throw new BadParameter(`region ${region} of a picture of ${width}x${height} pixels`, {
      expected: 'x, y, width and height, inside the picture',
    });
  }
  return { top: y, bottom: y + high, left: x, right: x + wide };
}
