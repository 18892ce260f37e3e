/**
 * Segments of a stream to latents: what the integer networks predict, and what the coder adds.
 *
 * Specification: docs/format.md, sections 7.3, 7.4 and 8. Latents and means are in 1/32 step.
 */

import { CorruptStream } from './errors.js';
import { Plane, coarser, grown, finer, shapeOf, sliceGrid, within } from './geometry.js';
import { segmentIndex } from './header.js';
import { clamp } from './levels.js';
import { ditherClasses, nextState, noise, reconstruct, sliceKey, undither } from './quantize.js';
import { RansDecoder } from './rans.js';

/** @typedef {import('./geometry.js').Rectangle} Rectangle */
/** @typedef {import('./networks.js').Tensor} Tensor */
/** @typedef {Record<string, import('./exact.js').Run>} Networks "h_s" and "context_k" */
/** @typedef {{part: Rectangle, v32: Int32Array}} Slice decoded latents of a slice */

const MEAN_LIMIT = 2 ** 20;

/** Decodes the latents of one picture, slice by slice. */
export class LatentDecoder {
  /**
   * @param {import('./model.js').Model} model
   * @param {Networks} networks
   * @param {import('./container.js').Stream} stream
   * @param {number} steps how many context steps, the first ones
   * @throws {CorruptStream} when the stream does not fit the model
   */
  constructor(model, networks, stream, steps) {
    const { header } = stream;
    const { layout } = model;
    if (header.steps !== layout.steps.length) {
      throw new CorruptStream(`the stream has ${header.segments} segments`, {
        expected: `${1 + layout.steps.length * header.slices} for its size and model`,
      });
    }
    const tables = header.dither === null ? model.tables.plain : model.tables.dithered;
    if (!tables) {
      throw new CorruptStream(
        `a dithered stream, but model '${model.manifest.name}' has no tables for it`,
      );
    }
    this.model = model;
    this.layout = layout;
    this.networks = networks;
    this.stream = stream;
    this.frequencies = tables;
    this.steps = layout.steps.slice(0, steps);
    this.channels = Math.max(...this.steps.map((step) => step.last));
    this.level = model.levels.of(header);
    this.plane = new Plane(header.width, header.height, layout.stride, layout.cell);
    this.grid = sliceGrid(this.plane, (header.sliceSide * 16) / layout.stride);
    this.next = header.trellisCode ? nextState(header.trellisCode) : null;
    /** Lanes of slice 0 begin in segment 0. */
    this.firstLanes = new RansDecoder(tables, header.lanes[0]);
    this.z = this.#hyperLatents();
  }

  /** @returns {Int32Array} z, (hyper, rows, columns) */
  #hyperLatents() {
    const { hyperRows, hyperColumns } = this.plane;
    const { hyperIndex, hyperMean } = this.level;
    const size = hyperRows * hyperColumns;
    const index = new Uint8Array(this.layout.hyper * size);
    hyperIndex.forEach((value, c) => index.fill(value, c * size, (c + 1) * size));
    const segment = /** @type {Uint8Array} */ (this.stream.segments[0]);
    const k = this.firstLanes.decode(segment, index, new Uint8Array(index.length), null);
    return k.map((value, i) => value + hyperMean[Math.floor(i / size)]);
  }

  /**
   * Decode a slice; to be called at most once for each.
   *
   * @param {number} slice
   * @returns {Promise<Slice>} with latents (channels, rows, columns)
   * @throws {import('./errors.js').StreamError}
   */
  async slice(slice) {
    const { header, segments } = this.stream;
    const part = this.grid[slice];
    const [rows, columns] = shapeOf(part);
    const lanes = slice ? new RansDecoder(this.frequencies, header.lanes[slice]) : this.firstLanes;
    const key = header.dither === null ? null : sliceKey(header.dither, slice);
    const v32 = new Int32Array(this.channels * rows * columns);
    const features = await this.#features(part);
    for (let k = 0; k < this.steps.length; k++) {
      const step = this.steps[k];
      const own = v32.subarray(step.first * rows * columns, step.last * rows * columns);
      const outputs = await this.#outputs(k, features, v32);
      const { position, scaleIndex } = this.#predict(k, part, outputs, own);
      const segment = segments[segmentIndex(header, k, slice)];
      if (!segment) {
        throw new CorruptStream('a segment is missing', { remedy: 'fetch the file again' });
      }
      const u = key === null ? null : noise(key, step.first * rows * columns, position);
      const recon32 = this.#decodeStep(lanes, segment, scaleIndex, u);
      for (let i = 0; i < position.length; i++) own[position[i]] += recon32[i];
    }
    if (this.steps.length === this.layout.steps.length) lanes.finish();
    return { part, v32 };
  }

  /**
   * @param {RansDecoder} lanes
   * @param {Uint8Array} segment
   * @param {Uint8Array} scaleIndex
   * @param {Int8Array | null} u noise
   */
  #decodeStep(lanes, segment, scaleIndex, u) {
    if (u) return undither(lanes.decode(segment, scaleIndex, ditherClasses(u), null), u);
    const cls = new Uint8Array(scaleIndex.length);
    const k = lanes.decode(segment, scaleIndex, cls, this.next);
    return reconstruct(k, cls, scaleIndex, this.model.tables);
  }

  /**
   * Features of a slice, from the hyper-latents above it and as far around as h_s reaches.
   *
   * @param {Rectangle} part
   * @returns {Promise<Tensor[]>} one of h_s alone: mu and s, or s
   */
  async #features(part) {
    const { plane, level, layout } = this;
    const { hyperRows, hyperColumns } = plane;
    const all = { top: 0, bottom: hyperRows, left: 0, right: hyperColumns };
    const window = within(grown(coarser(part, layout.cell), this.model.networks.h_s.reach), all);
    const [rows, columns] = shapeOf(window);
    const size = rows * columns;
    const data = new Float32Array((layout.hyper + 1) * size).fill(level.plane, layout.hyper * size);
    for (let c = 0; c < layout.hyper; c++) {
      const scale = level.hyperScale[c];
      for (let y = 0; y < rows; y++) {
        const source = (c * hyperRows + y + window.top) * hyperColumns + window.left;
        for (let x = 0; x < columns; x++) {
          const scaled = Math.floor((this.z[source + x] * scale + 32768) / 65536);
          data[c * size + y * columns + x] = clamp(scaled, -127, 127);
        }
      }
    }
    const outputs = await this.networks.h_s({ data, channels: layout.hyper + 1, rows, columns });
    return outputs.map((output) => cut(output, part, finer(window, layout.cell)));
  }

  /**
   * The integers mu and s of one step.
   *
   * @param {number} k
   * @param {Tensor[]} features
   * @param {Int32Array} v32
   * @returns {Promise<{mu: Float32Array | null, s: Float32Array}>} no mu where all are 0
   */
  async #outputs(k, features, v32) {
    if (this.model.predictsAlone) {
      const [first, second] = features;
      return second ? { mu: first.data, s: second.data } : { mu: null, s: first.data };
    }
    const { context } = this.steps[k];
    const [{ data: own, channels, rows, columns }] = features;
    const size = rows * columns;
    const data = new Float32Array((channels + context) * size);
    data.set(own);
    for (let c = 0; c < context; c++) {
      const scale = this.level.contextScale[c];
      for (let i = c * size; i < (c + 1) * size; i++) {
        data[own.length + i] = clamp(Math.floor((v32[i] * scale + 32768) / 65536), -127, 127);
      }
    }
    const x = { data, channels: channels + context, rows, columns };
    const [mu, s] = await this.networks[`context_${k}`](x);
    return { mu: mu.data, s: s.data };
  }

  /**
   * Fill in the means of a step, and say which of its latents are coded.
   *
   * @param {number} k
   * @param {Rectangle} part
   * @param {{mu: Float32Array | null, s: Float32Array}} outputs
   * @param {Int32Array} own latents of the step's channels
   * @returns {{position: Int32Array, scaleIndex: Uint8Array}}
   */
  #predict(k, part, { mu, s }, own) {
    const { level, layout, plane } = this;
    const { first, last } = this.steps[k];
    const [rows, columns] = shapeOf(part);
    const codedRows = plane.codedRows - part.top;
    const codedColumns = plane.codedColumns - part.left;
    const position = new Int32Array(own.length);
    const scaleIndex = new Uint8Array(own.length);
    let n = 0;
    for (let c = first; c < last; c++) {
      const [even, odd] = layout.stepOf[c].map((step) => step === k);
      if (!even && !odd) continue;
      const gain = level.gain[c];
      const shift = level.scaleShift[c] + 64;
      const by = even && odd ? 1 : 2;
      for (let y = 0; y < rows; y++) {
        const row = ((c - first) * rows + y) * columns;
        const start = by === 1 ? 0 : even ? y & 1 : 1 - (y & 1);
        for (let x = start; x < columns; x += by) {
          const i = row + x;
          const mean = mu ? Math.floor((mu[i] * gain + 32768) / 65536) : 0;
          own[i] = clamp(mean, -MEAN_LIMIT, MEAN_LIMIT);
          const index = clamp(Math.floor((s[i] * 16 + shift) / 128), 0, layout.scales - 1);
          if (index < layout.skipIndex || y >= codedRows || x >= codedColumns) continue;
          position[n] = i;
          scaleIndex[n++] = index;
        }
      }
    }
    return { position: position.subarray(0, n), scaleIndex: scaleIndex.subarray(0, n) };
  }
}

/**
 * Cut a rectangle out of a tensor.
 *
 * @param {Tensor} tensor of the rectangle `origin`
 * @param {Rectangle} part
 * @param {Rectangle} origin
 * @returns {Tensor}
 */
function cut(tensor, part, origin) {
  const [rows, columns] = shapeOf(part);
  if (rows === tensor.rows && columns === tensor.columns) return tensor;
  const data = new Float32Array(tensor.channels * rows * columns);
  for (let c = 0; c < tensor.channels; c++) {
    for (let y = 0; y < rows; y++) {
      const source = (c * tensor.rows + y + part.top - origin.top) * tensor.columns;
      const from = source + part.left - origin.left;
      data.set(tensor.data.subarray(from, from + columns), (c * rows + y) * columns);
    }
  }
  return { ...tensor, data, rows, columns };
}
