/**
 * A slice on its way through the layers of a stream.
 *
 * Specification: docs/format.md, section 8.2.
 */

import { shapeOf } from './geometry.js';
import { carry, informed, learned, variances } from './refine.js';

/** @typedef {import('./levels.js').Level} Level */

/**
 * @typedef {object} Pass latents that one segment codes, in coding order
 * @property {number} first of the step's latents among all
 * @property {Int32Array} position from there on
 * @property {Int32Array} mean32
 * @property {Uint8Array} scaleIndex
 */

/** One slice; its passes are asked for one after another, and each is added before the next. */
export class LayeredSlice {
  /** Layer at work, and how many of its steps have begun. */
  #layer = 0;
  #begun = 0;
  /** @type {Pass[]} parts of the step at work that are still to come */
  #pending = [];
  /** @type {import('./networks.js').Tensor[]} */
  #features = [];
  /** Latents of the layers below in steps of this one, and variances, 0 where nothing is known. */
  #known = new Int32Array(0);
  #variance = new Int32Array(0);

  /**
   * @param {import('./predictor.js').Predictor} predictor
   * @param {import('./geometry.js').Rectangle} part
   * @param {Level[]} levels of the layers
   * @param {number} parts into how many each step is split
   */
  constructor(predictor, part, levels, parts) {
    this.predictor = predictor;
    this.part = part;
    this.levels = levels;
    this.parts = parts;
    this.steps = predictor.layout.steps;
    this.tables = variances(predictor.layout.scales);
    const [rows, columns] = shapeOf(part);
    this.size = rows * columns;
    this.v32 = new Int32Array(predictor.layout.latents * this.size);
    this.#variance = new Int32Array(this.v32.length);
  }

  /** @returns {Promise<Pass>} the next one; there has to be one */
  async next() {
    if (!this.#pending.length) await this.#nextStep();
    return /** @type {Pass} */ (this.#pending.shift());
  }

  /**
   * Take up what was coded.
   *
   * @param {Pass} pass
   * @param {Int32Array} k indices
   * @param {Int32Array} recon32 what is added to the means
   */
  add({ first, position, mean32 }, k, recon32) {
    for (let i = 0; i < position.length; i++) {
      const at = first + position[i];
      this.v32[at] = mean32[i] + recon32[i];
      this.#variance[at] = learned(k[i]);
    }
  }

  /**
   * The latents in steps of the layer at work, whatever of it was added.
   *
   * @returns {Promise<Int32Array>} (channels, rows, columns)
   */
  async latents() {
    for (let k = this.#begun; k < this.steps.length; k++) {
      if (this.#layer === 0) await this.#predict(k);
      else this.#eachOf(k, (i) => (this.v32[i] = this.#known[i]));
    }
    return this.v32;
  }

  async #nextStep() {
    if (this.#begun === this.steps.length) this.#rise();
    const level = this.levels[this.#layer];
    if (this.#begun === 0) this.#features = await this.predictor.features(this.part, level);
    const first = this.steps[this.#begun].first * this.size;
    const { position, mean32, scaleIndex } = await this.#predict(this.#begun++);
    const { order, ends } = shares(scaleIndex, this.parts);
    this.#pending = ends.map((end, j) => {
      const own = order.subarray(j ? ends[j - 1] : 0, end);
      return {
        first,
        position: Int32Array.from(own, (i) => position[i]),
        mean32: Int32Array.from(own, (i) => mean32[i]),
        scaleIndex: Uint8Array.from(own, (i) => scaleIndex[i]),
      };
    });
  }

  /** Begin the next layer with what this one knows. */
  #rise() {
    const [before, after] = [this.levels[this.#layer].gain, this.levels[this.#layer + 1].gain];
    carry(this.v32, this.#variance, before, after);
    this.#known = this.v32;
    this.v32 = new Int32Array(this.v32.length);
    this.#layer++;
    this.#begun = 0;
  }

  /**
   * Set the latents of a step to what is known of them, and say which are coded.
   *
   * @param {number} k
   */
  async #predict(k) {
    const level = this.levels[this.#layer];
    const [begin, end] = [this.steps[k].first, this.steps[k].last].map((c) => c * this.size);
    const own = this.v32.subarray(begin, end);
    const outputs = await this.predictor.outputs(k, this.#features, this.v32, level);
    const known = this.#known.subarray(begin, end); // of the first layer, nothing
    const variance = this.#variance.subarray(begin, end);
    const weigh = (/** @type {number} */ i, /** @type {number} */ index) => {
      if (variance[i] === 0) return index;
      const [mean, finer] = informed(this.tables, own[i], index, known[i], variance[i]);
      own[i] = mean;
      return finer;
    };
    const inLayer = this.#layer ? weigh : null;
    const coded = this.predictor.predict(k, this.part, outputs, own, level, inLayer);
    const mean32 = Int32Array.from(coded.position, (i) => own[i]);
    if (this.#layer) for (const i of coded.position) own[i] = known[i];
    return { ...coded, mean32 };
  }

  /**
   * @param {number} k
   * @param {(i: number) => void} visit told of every latent of a step
   */
  #eachOf(k, visit) {
    const [rows, columns] = shapeOf(this.part);
    const { stepOf } = this.predictor.layout;
    for (let c = this.steps[k].first; c < this.steps[k].last; c++) {
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          if (stepOf[c][(y + x) & 1] === k) visit((c * rows + y) * columns + x);
        }
      }
    }
  }
}

/**
 * Split the coded latents of a step into parts of about as many bits.
 *
 * @param {Uint8Array} scaleIndex in raster order
 * @param {number} parts
 * @returns {{order: Int32Array, ends: number[]}} coding order: by falling scale index, equal ones in
 *   raster order, raster order alone for one part; and where each part ends in it
 */
export function shares(scaleIndex, parts) {
  const order = Int32Array.from(scaleIndex, (_, i) => i);
  if (parts === 1) return { order, ends: [order.length] };
  order.sort((a, b) => scaleIndex[b] - scaleIndex[a] || a - b);
  const total = scaleIndex.reduce((sum, index) => sum + index, 0);
  const ends = [];
  let [at, sum] = [0, 0]; // sum of the scale indices up to and with the one at `at`
  if (order.length) sum = scaleIndex[order[0]];
  for (let j = 1; j < parts; j++) {
    while (at < order.length && parts * sum < j * total) sum += scaleIndex[order[++at]] ?? 0;
    ends.push(at);
  }
  return { order, ends: [...ends, order.length] };
}
