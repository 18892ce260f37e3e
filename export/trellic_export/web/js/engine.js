/**
 * Fetches a model's files and makes its networks ready, in WebAssembly.
 */

import { BadBundle } from './errors.js';
import { integerNetwork } from './integers.js';
import { Kernels } from './kernels.js';
import { decoderNetwork } from './program.js';
import { digestOf } from './sha256.js';

/** A model's files, and the networks in them. */
export class WebEngines {
  /** @type {Map<string, Promise<Uint8Array>>} */
  #files = new Map();
  /** @type {Promise<Kernels> | null} */
  #kernels = null;

  /**
   * @param {import('./model.js').Manifest} manifest
   * @param {(file: string, urgent: boolean) => Promise<Uint8Array>} get fetches a file
   */
  constructor(manifest, get) {
    this.manifest = manifest;
    this.get = get;
  }

  /**
   * Fetch a file of the model, once, and check its hash.
   *
   * @param {import('./model.js').File} entry
   * @param {boolean} [urgent]
   * @returns {Promise<Uint8Array>}
   * @throws {BadBundle} when it is not there or was altered
   */
  file({ file, sha256: expected }, urgent = true) {
    let found = this.#files.get(file);
    if (!found) {
      found = this.get(file, urgent).then((data) => checked(file, data, expected));
      this.#files.set(file, found);
      found.catch(() => this.#files.delete(file)); // another try may fare better
    }
    return found;
  }

  /** Begin to load what every picture needs, before the first one asks. */
  prepare() {
    const { integers, decoders, defaultDecoder } = this.manifest;
    const small = Object.values(decoders).filter(({ scale }) => scale > 1);
    const loads = [
      this.kernels(),
      this.file(integers),
      ...small.map(({ program }) => this.file(program)),
      this.file(decoders[defaultDecoder].program, false),
    ];
    for (const load of loads) load.catch(() => {}); // whoever needs it hears of it
  }

  /** @returns {Promise<Kernels>} */
  kernels() {
    if (!this.#kernels) {
      const code = this.file(this.manifest.kernels);
      this.#kernels = code.then((data) => Kernels.load(/** @type {any} */ (data)));
      this.#kernels.catch(() => (this.#kernels = null));
    }
    return this.#kernels;
  }

  /**
   * Make an integer network ready.
   *
   * @param {import('./networks.js').Network} network
   * @returns {Promise<import('./exact.js').Run>}
   */
  async exact(network) {
    return integerNetwork(await this.kernels(), network);
  }

  /**
   * Load a decoder network.
   *
   * @param {string} name
   * @returns {Promise<import('./synthesis.js').Synthesis>}
   */
  async decoder(name) {
    const { program } = this.manifest.decoders[name];
    const [kernels, data] = await Promise.all([this.kernels(), this.file(program)]);
    return decoderNetwork(kernels, program, data);
  }
}

/**
 * @param {string} file
 * @param {Uint8Array} data
 * @param {string} expected
 */
async function checked(file, data, expected) {
  if ((await digestOf(data)) !== expected) {
    throw new BadBundle(`${file} is not the file that model.json names`, {
      remedy: 'export the model again, and clear the cache',
    });
  }
  return data;
}

/**
 * Fetch files that lie beside model.json.
 *
 * @param {URL} base address of model.json
 */
export function fetching(base) {
  return async (/** @type {string} */ file, /** @type {boolean} */ urgent) => {
    const response = await fetch(new URL(file, base), { priority: urgent ? 'high' : 'low' });
    if (!response.ok) throw new BadBundle(`${file} cannot be fetched: status ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
}
