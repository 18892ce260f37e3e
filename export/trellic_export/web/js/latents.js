/**
 * Segments of a stream to latents: what the integer networks predict, and what the coder adds.
 *
 * Specification: docs/format.md, sections 7.3, 7.4 and 8. Latents and means are in 1/32 step.
 */

import { CorruptStream } from './errors.js';
import { Plane, shapeOf, sliceGrid } from './geometry.js';
import { segmentIndex } from './header.js';
import { IntervalSlice } from './interval-slice.js';
import { passesOf, toldQuality } from './layering.js';
import { Predictor } from './predictor.js';
import {
  ditherClasses,
  nextState,
  noise,
  reconstruct,
  sliceKey,
  stillNoise,
  undither,
} from './quantize.js';
import { RansDecoder } from './rans.js';
import { WeighedSlice } from './weighed-slice.js';

/** @typedef {import('./geometry.js').Rectangle} Rectangle */
/** @typedef {import('./predictor.js').Networks} Networks */
/** @typedef {{part: Rectangle, v32: Int32Array}} Slice decoded latents of a slice */

/** Decodes the latents of one picture, slice by slice. */
export class LatentDecoder {
  /**
   * @param {import('./model.js').Model} model
   * @param {Networks} networks of all steps that are decoded; of a stream with layers, all
   * @param {import('./container.js').Stream} stream
   * @param {number} steps latents of how many context steps are wanted, the first ones
   * @param {number} passes how many passes of a stream with layers, the first ones
   * @throws {CorruptStream} when the stream does not fit the model
   */
  constructor(model, networks, stream, steps, passes = stream.header.passes) {
    const { header } = stream;
    const { layout } = model;
    if (header.steps !== layout.steps.length) {
      throw new CorruptStream(`the stream has ${header.segments} segments`, {
        expected: `${1 + layout.steps.length * header.slices} for its size and model`,
      });
    }
    const moved = header.still || header.dither !== null;
    const tables = moved ? model.tables.dithered : model.tables.plain;
    if (!tables) {
      const kind = header.still ? 'stream with a still lattice' : 'dithered stream';
      throw new CorruptStream(
        `a ${kind}, but model '${model.manifest.name}' has no tables for it`,
      );
    }
    this.model = model;
    this.layout = layout;
    this.stream = stream;
    this.frequencies = tables;
    this.steps = layout.steps.slice(0, steps);
    this.passes = passes;
    this.channels = Math.max(...this.steps.map((step) => step.last));
    /** Of the layers that are decoded, or of the one that there is. */
    this.levels = model.levels.ofLayers(header, passes);
    this.plane = new Plane(header.width, header.height, layout.stride, layout.cell);
    this.grid = sliceGrid(this.plane, (header.sliceSide * 16) / layout.stride);
    this.next = header.trellisCode ? nextState(header.trellisCode) : null;
    /** Lanes of slice 0 begin in segment 0. */
    this.firstLanes = new RansDecoder(tables, header.lanes[0]);
    this.z = this.#hyperLatents();
    this.predictor = new Predictor(model, networks, this.plane, this.z);
  }

  /** The level in whose steps latents are. */
  get level() {
    return this.levels[this.levels.length - 1];
  }

  /** The quality that a decoder is told: that of the level, unless layers say more. */
  get told() {
    const { header } = this.stream;
    if (!header.layering?.intervals) return this.level.quality;
    return toldQuality(header.layering, header, this.passes);
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
    const { header } = this.stream;
    const lanes = slice ? new RansDecoder(this.frequencies, header.lanes[slice]) : this.firstLanes;
    const decode = header.layering ? this.#layered(slice, lanes) : this.#plain(slice, lanes);
    return { part: this.grid[slice], v32: await decode };
  }

  /**
   * @param {number} slice
   * @param {RansDecoder} lanes
   */
  async #plain(slice, lanes) {
    const { dither, still } = this.stream.header;
    const part = this.grid[slice];
    const [rows, columns] = shapeOf(part);
    const key = dither === null ? null : sliceKey(dither, slice);
    const v32 = new Int32Array(this.channels * rows * columns);
    const features = await this.predictor.features(part, this.level);
    for (let k = 0; k < this.steps.length; k++) {
      const step = this.steps[k];
      const own = v32.subarray(step.first * rows * columns, step.last * rows * columns);
      const outputs = await this.predictor.outputs(k, features, v32, this.level);
      const { position, scaleIndex } = this.predictor.predict(k, part, outputs, own, this.level);
      let u = key === null ? null : noise(key, step.first * rows * columns, position);
      if (still) u = stillNoise(own, position);
      const { recon32 } = this.#symbols(lanes, this.#segment(k, slice), scaleIndex, u);
      for (let i = 0; i < position.length; i++) own[position[i]] += recon32[i];
    }
    if (this.steps.length === this.layout.steps.length) lanes.finish();
    return v32;
  }

  /**
   * @param {number} slice
   * @param {RansDecoder} lanes
   */
  async #layered(slice, lanes) {
    const { header } = this.stream;
    const layering = /** @type {import('./layering.js').Layering} */ (header.layering);
    const Way = layering.intervals ? IntervalSlice : WeighedSlice;
    const way = new Way(this.predictor, this.grid[slice], this.levels, layering.parts);
    /** @type {import('./layered.js').Coder} */
    const coder = {
      indices: (segment, scaleIndex) => this.#symbols(lanes, segment, scaleIndex, null),
      parts: (segment, cumulative, columns) => lanes.divided(segment, cumulative, columns),
    };
    for (let n = 0; n < this.passes; n++) {
      const own = await way.next();
      way.read(own, this.#segment(n, slice), coder);
    }
    if (this.passes === passesOf(layering, header.steps)) lanes.finish();
    return this.#first(await way.latents(), this.grid[slice]);
  }

  /**
   * Clear latents of later steps: a decoder of the first ones never learned of them.
   *
   * @param {Int32Array} v32
   * @param {Rectangle} part
   */
  #first(v32, part) {
    const [rows, columns] = shapeOf(part);
    if (this.steps.length === this.layout.steps.length) return v32;
    this.layout.stepOf.forEach((steps, c) => {
      for (let i = 0; i < rows * columns; i++) {
        const parity = (Math.floor(i / columns) + (i % columns)) & 1;
        if (steps[parity] >= this.steps.length) v32[c * rows * columns + i] = 0;
      }
    });
    return v32;
  }

  /**
   * @param {number} pass
   * @param {number} slice
   */
  #segment(pass, slice) {
    const segment = this.stream.segments[segmentIndex(this.stream.header, pass, slice)];
    if (!segment) {
      throw new CorruptStream('a segment is missing', { remedy: 'fetch the file again' });
    }
    return segment;
  }

  /**
   * Decode a segment to its indices, and to what is added to its means.
   *
   * @param {RansDecoder} lanes
   * @param {Uint8Array} segment
   * @param {Uint8Array} scaleIndex
   * @param {Int8Array | null} u noise, of a dithered stream or one with a still lattice
   */
  #symbols(lanes, segment, scaleIndex, u) {
    const cls = u ? ditherClasses(u) : new Uint8Array(scaleIndex.length);
    const k = lanes.decode(segment, scaleIndex, cls, u ? null : this.next);
    return { k, recon32: u ? undither(k, u) : reconstruct(k, cls, scaleIndex, this.model.tables) };
  }
}
