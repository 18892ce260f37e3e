/**
 * A slice on its way through the layers of a stream: what both kinds of layers have in common.
 *
 * Specification: docs/format.md, sections 8.2 and 8.4.
 */

import { shapeOf } from './geometry.js';

/** @typedef {import('./levels.js').Level} Level */
/** @typedef {{position: Int32Array, mean32: Int32Array, scaleIndex: Uint8Array}} Coded */

/**
 * @typedef {object} Pass latents that one segment codes, in coding order
 * @property {number} first of the step's latents among all
 * @property {Int32Array} position from there on
 * @property {Int32Array} mean32
 * @property {Uint8Array} scaleIndex
 *
 * @typedef {object} Coder decodes the segments of the slice, in order
 * @property {(segment: Uint8Array, scaleIndex: Uint8Array) => {k: Int32Array, recon32: Int32Array}}
 *   indices by tables of the model, with what is added to means
 * @property {(segment: Uint8Array, cumulative: Uint16Array, columns: number) => Int32Array} parts
 *   by frequencies of their own, as of `RansDecoder.divided`
 */

/** One slice; its passes are asked for one after another, and each is read before the next. */
export class LayeredSlice {
  /** The layer's turns over the steps: the one at work, and how many of its steps have begun. */
  #turn = 0;
  #begun = 0;
  /** @type {Pass[]} parts of the step at work that are still to come */
  #pending = [];
  /** @type {import('./networks.js').Tensor[]} */
  #features = [];

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
    /** Layer at work. */
    this.layer = 0;
    this.steps = predictor.layout.steps;
    const [rows, columns] = shapeOf(part);
    this.size = rows * columns;
    /** Latents of the turn at work, in steps of the layer. */
    this.v32 = new Int32Array(predictor.layout.latents * this.size);
  }

  /** @returns {Promise<Pass>} the next one; there has to be one */
  async next() {
    if (!this.#pending.length) await this.#nextStep();
    return /** @type {Pass} */ (this.#pending.shift());
  }

  /**
   * The latents in steps of the layer at work, whatever of it was read.
   *
   * @returns {Promise<Int32Array>} (channels, rows, columns)
   */
  async latents() {
    for (let k = this.#begun; k < this.steps.length; k++) await this.expect(k);
    return this.v32;
  }

  // ---- what kinds of layers differ in ----

  /**
   * Decode the latents of a pass, and take them up.
   *
   * @param {Pass} pass
   * @param {Uint8Array} segment
   * @param {Coder} coder
   * @abstract
   */
  read(pass, segment, coder) {
    throw new Error(`no ${pass}, ${segment}, ${coder}`);
  }

  /**
   * Set the latents of a step, and say which are coded.
   *
   * @param {number} k
   * @returns {Promise<Coded>} in raster order
   * @abstract
   * @protected
   */
  async predict(k) {
    throw new Error(`no ${k}`);
  }

  /**
   * Set the latents of a step that has not begun.
   *
   * @param {number} k
   * @abstract
   * @protected
   */
  async expect(k) {
    throw new Error(`no ${k}`);
  }

  /**
   * Carry what is known over to the steps of the next layer.
   *
   * @param {Float64Array} before gains of the channels in the one layer
   * @param {Float64Array} after and in the other
   * @abstract
   * @protected
   */
  rise(before, after) {
    throw new Error(`no ${before}, ${after}`);
  }

  /**
   * For each turn of the layer at work, which share of what is left it codes: half is 2, all is 1.
   *
   * @protected
   */
  get turns() {
    return [1];
  }

  // ---- what is here for them ----

  /** @protected */
  get level() {
    return this.levels[this.layer];
  }

  /**
   * Where the latents of a step begin and end among all.
   *
   * @param {number} k
   * @protected
   */
  span(k) {
    return [this.steps[k].first * this.size, this.steps[k].last * this.size];
  }

  /**
   * What the networks say of a step.
   *
   * @param {number} k
   * @protected
   */
  outputs(k) {
    return this.predictor.outputs(k, this.#features, this.v32, this.level);
  }

  async #nextStep() {
    if (this.#begun === this.steps.length) this.#nextTurn();
    if (this.#begun === 0 && this.#turn === 0) {
      this.#features = await this.predictor.features(this.part, this.level);
    }
    const share = this.turns[this.#turn];
    const [first] = this.span(this.#begun);
    const { position, mean32, scaleIndex } = await this.predict(this.#begun++);
    const { order, ends } = shares(scaleIndex, share * this.parts);
    this.#pending = ends.slice(0, this.parts).map((end, j) => {
      const own = order.subarray(j ? ends[j - 1] : 0, end);
      return {
        first,
        position: own.map((i) => position[i]),
        mean32: own.map((i) => mean32[i]),
        scaleIndex: Uint8Array.from(own.map((i) => scaleIndex[i])),
      };
    });
  }

  /** Begin the next turn, which may be the first of the next layer. */
  #nextTurn() {
    this.#turn++;
    if (this.#turn === this.turns.length) {
      this.rise(this.level.gain, this.levels[this.layer + 1].gain);
      this.layer++;
      this.#turn = 0;
    }
    this.v32 = new Int32Array(this.v32.length);
    this.#begun = 0;
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
  if (parts === 1) {
    return { order: Int32Array.from(scaleIndex.keys()), ends: [scaleIndex.length] };
  }
  const order = falling(scaleIndex);
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

/**
 * The order of falling values; equal ones stay as they are.
 *
 * @param {Uint8Array} values
 * @returns {Int32Array}
 */
function falling(values) {
  const next = new Int32Array(256); // how many there are of each value, then where they come
  for (let i = 0; i < values.length; i++) next[values[i]]++;
  let at = 0;
  for (let value = 255; value >= 0; value--) {
    at += next[value];
    next[value] = at - next[value];
  }
  const order = new Int32Array(values.length);
  for (let i = 0; i < values.length; i++) order[next[values[i]]++] = i;
  return order;
}
