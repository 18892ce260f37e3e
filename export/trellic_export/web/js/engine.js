/**
 * onnxruntime-web as the engine of a model's networks.
 *
 * Its WebAssembly takes one call at a time, and weights outside a graph are handed over while a
 * session is made: so all calls stand in one line.
 */

import { BadBundle, EngineError } from './errors.js';
import { sha256 } from './sha256.js';

/** @typedef {import('./networks.js').Tensor} Tensor */

const MODULE = 'ort.wasm.min.mjs';
const MOST_THREADS = 4;

/** Makes sessions of a model's graphs. */
export class OrtEngines {
  /** @type {Promise<unknown>} the last call in line */
  #last = Promise.resolve();
  /** @type {Promise<any> | null} */
  #module = null;
  /** @type {Map<string, Promise<Uint8Array>>} */
  #files = new Map();

  /**
   * @param {URL} base address of model.json
   * @param {import('./model.js').Manifest} manifest
   */
  constructor(base, manifest) {
    this.base = base;
    this.manifest = manifest;
  }

  /**
   * Fetch a file of the model, once, and check its hash.
   *
   * @param {import('./model.js').File} entry
   * @returns {Promise<Uint8Array>}
   * @throws {BadBundle} when it is not there or was altered
   */
  file({ file, sha256: expected }) {
    let found = this.#files.get(file);
    if (!found) {
      found = this.#fetch(file, expected);
      this.#files.set(file, found);
      found.catch(() => this.#files.delete(file)); // another try may fare better
    }
    return found;
  }

  /** Begin to load what every picture needs, before the first one asks. */
  prepare() {
    const { exact, decoders, defaultDecoder } = this.manifest;
    const files = [...Object.values(exact), decoders[defaultDecoder].graph];
    const loads = [this.#ort(), ...files.map((entry) => this.file(entry))];
    for (const load of loads) load.catch(() => {}); // whoever needs it hears of it
  }

  /**
   * Load an integer network; its weights lie in the integers.
   *
   * @param {string} name
   * @returns {Promise<import('./exact.js').Run>}
   */
  async exact(name) {
    const integers = this.manifest.integers;
    const data = await this.file(integers);
    const graph = await this.file(this.manifest.exact[name]);
    const session = await this.#session(graph, [{ path: integers.file, data }]);
    return async (x) => {
      const outputs = await this.#run(session, { x });
      return outputs.map(({ data: values, dims: [, channels, rows, columns] }) => ({
        data: values,
        channels,
        rows,
        columns,
      }));
    };
  }

  /**
   * Load a decoder network.
   *
   * @param {string} name
   * @returns {Promise<import('./synthesis.js').Synthesis>}
   */
  async decoder(name) {
    const info = this.manifest.decoders[name];
    const session = await this.#session(await this.file(info.graph));
    return async (latents, quality) => {
      /** @type {Record<string, number>} */
      const numbers = info.seesQuality ? { quality } : {};
      const [{ data, dims }] = await this.#run(session, { latents }, numbers);
      return { data, shape: dims };
    };
  }

  /**
   * @param {string} file
   * @param {string} expected
   */
  async #fetch(file, expected) {
    const response = await fetch(new URL(file, this.base));
    if (!response.ok) throw new BadBundle(`${file} cannot be fetched: status ${response.status}`);
    const data = new Uint8Array(await response.arrayBuffer());
    if (sha256(data) !== expected) {
      throw new BadBundle(`${file} is not the file that model.json names`, {
        remedy: 'export the model again, and clear the cache',
      });
    }
    return data;
  }

  /** @returns {Promise<any>} the module of onnxruntime-web */
  #ort() {
    this.#module ??= (async () => {
      const where = this.manifest.onnxruntime.replace(/\/*$/, '/');
      const folder = new URL(where, this.base);
      const ort = await import(new URL(MODULE, folder).href);
      ort.env.wasm.wasmPaths = folder.href;
      ort.env.wasm.numThreads = globalThis.crossOriginIsolated
        ? Math.min(MOST_THREADS, navigator.hardwareConcurrency)
        : 1;
      ort.env.logLevel = 'error';
      return ort;
    })();
    return this.#module;
  }

  /**
   * @param {Uint8Array} graph
   * @param {{path: string, data: Uint8Array}[]} [externalData]
   */
  async #session(graph, externalData) {
    const ort = await this.#ort();
    const options = { executionProviders: ['wasm'], ...(externalData && { externalData }) };
    return this.#inLine(() => ort.InferenceSession.create(graph, options));
  }

  /**
   * @param {any} session
   * @param {Record<string, Tensor>} tensors
   * @param {Record<string, number>} [numbers] one for the one picture of the batch
   * @returns {Promise<any[]>} outputs in order
   */
  async #run(session, tensors, numbers = {}) {
    const { Tensor } = await this.#ort();
    /** @type {Record<string, any>} */
    const feeds = {};
    for (const [name, { data, channels, rows, columns }] of Object.entries(tensors)) {
      feeds[name] = new Tensor('float32', data, [1, channels, rows, columns]);
    }
    for (const [name, value] of Object.entries(numbers)) {
      feeds[name] = new Tensor('float32', Float32Array.of(value), [1]);
    }
    const outputs = await this.#inLine(() => session.run(feeds));
    return session.outputNames.map((/** @type {string} */ name) => outputs[name]);
  }

  /**
   * @template T
   * @param {() => Promise<T>} call
   * @returns {Promise<T>}
   */
  #inLine(call) {
    const result = this.#last.then(call).catch((error) => {
      throw new EngineError(`onnxruntime-web failed: ${String(error.message ?? error).split('\n')[0]}`);
    });
    this.#last = result.catch(() => {});
    return result;
  }
}
