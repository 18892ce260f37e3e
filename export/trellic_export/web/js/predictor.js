/**
 * What the integer networks say of the latents of a slice, from z and from what is decoded so far.
 *
 * Specification: docs/format.md, sections 7.3 and 7.4. Means are in 1/32 step.
 */

import { coarser, finer, grown, shapeOf, within } from './geometry.js';
import { clamp } from './levels.js';

/** @typedef {import('./geometry.js').Rectangle} Rectangle */
/** @typedef {import('./levels.js').Level} Level */
/** @typedef {import('./networks.js').Tensor} Tensor */
/** @typedef {Record<string, import('./exact.js').Run>} Networks "h_s" and "context_k" */
/** @typedef {{mu: Float32Array | null, s: Float32Array}} Outputs integers; no mu where all are 0 */

export const MEAN_LIMIT = 2 ** 20;

/** Means and scale indices of the latents of one picture. */
export class Predictor {
  /**
   * @param {import('./model.js').Model} model
   * @param {Networks} networks
   * @param {import('./geometry.js').Plane} plane
   * @param {Int32Array} z (hyper, rows, columns)
   */
  constructor(model, networks, plane, z) {
    this.model = model;
    this.layout = model.layout;
    this.networks = networks;
    this.plane = plane;
    this.z = z;
  }

  /**
   * Features of a slice, from the hyper-latents above it and as far around as h_s reaches.
   *
   * @param {Rectangle} part
   * @param {Level} level
   * @returns {Promise<Tensor[]>} one of h_s alone: mu and s, or s
   */
  async features(part, level) {
    const { plane, layout } = this;
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
   * @param {Level} level
   * @returns {Promise<Outputs>}
   */
  async outputs(k, features, v32, level) {
    if (this.model.predictsAlone) {
      const [first, second] = features;
      return second ? { mu: first.data, s: second.data } : { mu: null, s: first.data };
    }
    const { context } = this.layout.steps[k];
    const [{ data: own, channels, rows, columns }] = features;
    const size = rows * columns;
    const data = new Float32Array((channels + context) * size);
    data.set(own);
    for (let c = 0; c < context; c++) {
      const scale = level.contextScale[c];
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
   * @param {Outputs} outputs
   * @param {Int32Array} own latents of the step's channels
   * @param {Level} level
   * @param {((i: number, index: number) => number) | null} [weigh] given the place in `own` of a
   *   mean, and its scale index: changes the mean, and returns the scale index to use, or -1 if the
   *   latent is not coded
   * @returns {{position: Int32Array, scaleIndex: Uint8Array}}
   */
  predict(k, part, { mu, s }, own, level, weigh = null) {
    const { layout, plane } = this;
    const { first, last } = layout.steps[k];
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
          let index = clamp(Math.floor((s[i] * 16 + shift) / 128), 0, layout.scales - 1);
          if (weigh) index = weigh(i, index);
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
