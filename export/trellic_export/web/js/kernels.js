/**
 * Convolutions in WebAssembly, and the memory that they work in.
 *
 * Maps are channel-last; the channels of a pixel are padded to a multiple of 8, with finite values
 * that meet weights of 0. What is kept (weights) lies first in the memory, what a run needs after it.
 *
 * @typedef {{at: number, channels: number, stride: number, rows: number, columns: number}} Place
 *   of a map: address and, between pixels, bytes
 *
 * @typedef {object} Convolution
 * @property {'pointwise' | 'depthwise' | 'conv'} kind
 * @property {number} side of the window
 * @property {number} channels of its output
 * @property {number} weights address
 * @property {number} bias address
 */

import { EngineError } from './errors.js';

export const BLOCK = 8;
const PAGE = 65536;
const MOST_PAGES = 32768; // 2 GiB
const FIRST = 64; // address 0 stands for nothing
const CHUNK = 48; // pixels at a time: their input stays in the cache

/** @param {number} channels */
export const padded = (channels) => Math.ceil(channels / BLOCK) * BLOCK;

/** Memory, and the functions that work in it. */
export class Kernels {
  /** @type {{at: number, size: number, free: boolean}[]} of the run */
  #pieces = [];
  #kept = FIRST;
  #end = FIRST;

  /** @param {BufferSource} code */
  static async load(code) {
    const memory = new WebAssembly.Memory({ initial: 16, maximum: MOST_PAGES });
    try {
      const { instance } = await WebAssembly.instantiate(code, { env: { memory } });
      return new Kernels(memory, /** @type {any} */ (instance.exports));
    } catch (error) {
      throw new EngineError(`WebAssembly with vectors does not work here: ${error}`, {
        remedy: 'use a newer browser, and allow wasm-unsafe-eval where a policy forbids it',
      });
    }
  }

  /**
   * @param {WebAssembly.Memory} memory
   * @param {Record<string, (...numbers: number[]) => void>} functions
   */
  constructor(memory, functions) {
    this.memory = memory;
    this.functions = functions;
  }

  /**
   * Take memory that is kept; not during a run.
   *
   * @param {number} size in bytes
   * @returns {number} its address
   */
  keep(size) {
    this.#pieces = [];
    const at = this.#kept;
    this.#kept = this.#reach(at + size);
    this.#end = this.#kept;
    return at;
  }

  /** Begin a run: nothing of the one before is needed any more. */
  begin() {
    this.#pieces = [];
    this.#end = this.#kept;
  }

  /**
   * Take memory until it is released, or the run ends.
   *
   * @param {number} size in bytes
   */
  take(size) {
    const fits = this.#pieces.filter((piece) => piece.free && piece.size >= size);
    fits.sort((a, b) => a.size - b.size);
    if (fits.length) {
      fits[0].free = false;
      return fits[0].at;
    }
    const at = this.#end;
    this.#end = this.#reach(at + size);
    this.#pieces.push({ at, size, free: false });
    return at;
  }

  /** @param {number} at address of what was taken */
  release(at) {
    const piece = this.#pieces.find((one) => one.at === at);
    if (piece) piece.free = true;
  }

  /**
   * Take memory for a map.
   *
   * @param {number} channels
   * @param {number} rows
   * @param {number} columns
   * @param {number} bytes of each value
   * @returns {Place}
   */
  map(channels, rows, columns, bytes) {
    const stride = padded(channels) * bytes;
    return { at: this.take(rows * columns * stride), channels, stride, rows, columns };
  }

  /**
   * A view; it ends when memory is taken.
   *
   * @template {Float32Array | Int16Array | Int32Array | Uint8Array} T
   * @param {new (buffer: ArrayBufferLike, at: number, count: number) => T} Type
   * @param {number} at
   * @param {number} count
   * @returns {T}
   */
  view(Type, at, count) {
    return new Type(this.memory.buffer, at, count);
  }

  /** @param {number} end */
  #reach(end) {
    const rounded = Math.ceil(end / 16) * 16;
    const missing = Math.ceil((rounded - this.memory.buffer.byteLength) / PAGE);
    if (missing > 0) {
      try {
        this.memory.grow(missing);
      } catch {
        throw new EngineError(`no memory for ${Math.round(rounded / 2 ** 20)} MiB of networks`, {
          remedy: 'decode a region of the picture',
        });
      }
    }
    return rounded;
  }

  /**
   * Convolve.
   *
   * @param {'numbers' | 'integers'} type
   * @param {Convolution} layer
   * @param {Place} x
   * @param {Place} out
   * @param {number[]} finish the last parameters of the function
   */
  convolve(type, layer, x, out, finish) {
    const blocks = padded(layer.channels) / BLOCK;
    const { weights, bias, side } = layer;
    if (layer.kind === 'pointwise') {
      this.#pointwise(type, [weights, bias, blocks], x, x.rows * x.columns, out, finish);
      return;
    }
    const half = side >> 1;
    const wide = this.#bordered(x, half);
    const rowBytes = (x.columns + 2 * half) * x.stride;
    const outBytes = out.columns * out.stride;
    if (layer.kind === 'depthwise') {
      const run = this.functions[`${type}_depthwise`];
      for (let y = 0; y < x.rows; y++) {
        const [from, to] = [wide + y * rowBytes, out.at + y * outBytes];
        run(from, x.columns, x.stride, weights, bias, blocks, to, out.stride, side, rowBytes, ...finish);
      }
    } else {
      const stride = side * side * x.stride;
      const at = this.take(x.columns * stride);
      for (let y = 0; y < x.rows; y++) {
        this.#windows(wide + y * rowBytes, x, side, rowBytes, at);
        const row = { ...x, at, stride };
        const to = { ...out, at: out.at + y * outBytes };
        this.#pointwise(type, [weights, bias, blocks], row, x.columns, to, finish);
      }
      this.release(at);
    }
    this.release(wide);
  }

  /**
   * @param {'numbers' | 'integers'} type
   * @param {number[]} layer weights, bias, blocks
   * @param {{at: number, stride: number}} x
   * @param {number} pixels
   * @param {{at: number, stride: number}} out
   * @param {number[]} finish
   */
  #pointwise(type, [weights, bias, blocks], x, pixels, out, finish) {
    const run = this.functions[`${type}_pointwise`];
    const steps = x.stride / 4; // one number, or two integers
    for (let done = 0; done < pixels; done += CHUNK) {
      const count = Math.min(CHUNK, pixels - done);
      const [from, to] = [x.at + done * x.stride, out.at + done * out.stride];
      run(from, count, x.stride, weights, bias, blocks, to, out.stride, steps, ...finish);
    }
  }

  /**
   * Copy a map into one with zeros around it.
   *
   * @param {Place} x
   * @param {number} half width of the border
   * @returns {number} address
   */
  #bordered({ at, rows, columns, stride }, half) {
    const rowBytes = (columns + 2 * half) * stride;
    const size = (rows + 2 * half) * rowBytes;
    const wide = this.take(size);
    const bytes = this.view(Uint8Array, 0, this.memory.buffer.byteLength);
    bytes.fill(0, wide, wide + size);
    for (let y = 0; y < rows; y++) {
      const from = at + y * columns * stride;
      bytes.copyWithin(wide + (y + half) * rowBytes + half * stride, from, from + columns * stride);
    }
    return wide;
  }

  /**
   * Lay the windows of a row of pixels one after the other.
   *
   * @param {number} from
   * @param {Place} x
   * @param {number} side
   * @param {number} rowBytes
   * @param {number} at
   */
  #windows(from, { columns, stride }, side, rowBytes, at) {
    const bytes = this.view(Uint8Array, 0, this.memory.buffer.byteLength);
    const line = side * stride;
    for (let x = 0; x < columns; x++) {
      for (let y = 0; y < side; y++) {
        const source = from + y * rowBytes + x * stride;
        bytes.copyWithin(at + (x * side + y) * line, source, source + line);
      }
    }
  }
}

/**
 * Copy a channel-major tensor into a map, or back.
 *
 * @param {{data: Float32Array, channels: number}} tensor
 * @param {Float32Array | Int16Array | Int32Array} map
 * @param {boolean} back
 */
export function transpose({ data, channels }, map, back) {
  const stride = padded(channels);
  const size = data.length / channels;
  if (!back) map.fill(0);
  for (let c = 0; c < channels; c++) {
    const plane = data.subarray(c * size, (c + 1) * size);
    if (back) for (let i = 0; i < size; i++) plane[i] = map[i * stride + c];
    else for (let i = 0; i < size; i++) map[i * stride + c] = plane[i];
  }
}

/**
 * Pixel shuffle: channel `(c b + dy) b + dx` becomes channel `c` at offset `dy, dx`.
 *
 * @template {Float32Array | Int16Array} T
 * @param {T} from
 * @param {Place} x
 * @param {T} to
 * @param {number} block b
 */
export function shuffle(from, { rows, columns, channels }, to, block) {
  const [stride, outStride] = [padded(channels), padded(channels / block ** 2)];
  const line = columns * block * outStride;
  const places = Int32Array.from({ length: channels }, (_, k) => {
    const [dx, dy] = [k % block, Math.floor(k / block) % block];
    return dy * line + dx * outStride + Math.floor(k / block ** 2);
  });
  to.fill(0);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const source = (y * columns + x) * stride;
      const target = y * block * line + x * block * outStride;
      for (let k = 0; k < channels; k++) to[target + places[k]] = from[source + k];
    }
  }
}
