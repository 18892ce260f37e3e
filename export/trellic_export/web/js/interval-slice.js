/**
 * A slice in layers each of which narrows the intervals that latents lie in.
 *
 * The lowest layer's symbols name cells around the means, with a dead zone. Later layers divide
 * them. Specification: docs/format.md, section 8.4.
 */

import { COLUMNS, Division, SKIPPED32, zone } from './intervals.js';
import { LayeredSlice } from './layered.js';
import { rescaled } from './refine.js';

/** @typedef {import('./layered.js').Pass} Pass */
/** @typedef {import('./layered.js').Coder} Coder */

const NOT_CODED = -1;

/** One slice of a picture whose layers narrow intervals; parameters are those of the parent. */
export class IntervalSlice extends LayeredSlice {
  /** Ends of the intervals, in steps of the layer, and scale indices of the networks. */
  #low = new Int32Array(this.v32.length);
  #high = new Int32Array(this.v32.length);
  #index = new Uint8Array(this.v32.length);
  #division = new Division(this.predictor.layout.scales);

  /**
   * @param {Pass} pass
   * @param {Uint8Array} segment
   * @param {Coder} coder
   * @override
   */
  read(pass, segment, coder) {
    const { first, position, mean32, scaleIndex } = pass;
    if (this.layer === 0) {
      const { k } = coder.indices(segment, scaleIndex);
      k.forEach((index, i) => this.#put(first + position[i], mean32[i], zone(index, mean32[i])));
      return;
    }
    const k = coder.parts(segment, this.#cumulative(pass), COLUMNS);
    k.forEach((part, i) => {
      const division = this.#divided(first + position[i], mean32[i]);
      this.#put(first + position[i], mean32[i], [division.edge(part), division.edge(part + 1)]);
    });
  }

  /** @override */
  get turns() {
    return this.layer ? [2, 1] : [1];
  }

  /**
   * @param {number} k
   * @override
   */
  async predict(k) {
    const [begin, end] = this.span(k);
    const own = this.v32.subarray(begin, end);
    const outputs = await this.outputs(k);
    const means = new Int32Array(own.length);
    const visit = (/** @type {number} */ i, /** @type {number} */ index) => {
      means[i] = own[i];
      this.#index[begin + i] = index;
      if (this.layer === 0) {
        this.#low[begin + i] = own[i] - SKIPPED32;
        this.#high[begin + i] = own[i] + SKIPPED32;
        return index;
      }
      const division = this.#divided(begin + i, own[i]);
      own[i] = division.centroid();
      return division.parts > 1 ? division.spread() : NOT_CODED;
    };
    const coded = this.predictor.predict(k, this.part, outputs, own, this.level, visit);
    return { ...coded, mean32: coded.position.map((i) => means[i]) };
  }

  /**
   * @param {number} k
   * @override
   */
  async expect(k) {
    await this.predict(k);
  }

  /**
   * @param {Float64Array} before
   * @param {Float64Array} after
   * @override
   */
  rise(before, after) {
    for (let i = 0; i < this.#low.length; i++) {
      const c = Math.floor(i / this.size);
      this.#low[i] = rescaled(this.#low[i], before[c], after[c]);
      this.#high[i] = Math.max(rescaled(this.#high[i], before[c], after[c]), this.#low[i] + 1);
    }
  }

  /**
   * Frequencies of the parts of each latent of a pass.
   *
   * @param {Pass} pass
   */
  #cumulative({ first, position, mean32 }) {
    const rows = new Uint16Array(position.length * COLUMNS);
    for (let i = 0; i < position.length; i++) {
      const row = rows.subarray(i * COLUMNS, (i + 1) * COLUMNS);
      this.#divided(first + position[i], mean32[i]).cumulative(row);
    }
    return rows;
  }

  /**
   * The interval of a latent, divided; until the next one is.
   *
   * @param {number} at
   * @param {number} mean32
   */
  #divided(at, mean32) {
    return this.#division.of(this.#low[at], this.#high[at], mean32, this.#index[at]);
  }

  /**
   * Set the interval of a latent, and its value to the law's mean in it.
   *
   * @param {number} at
   * @param {number} mean32
   * @param {[number, number]} ends
   */
  #put(at, mean32, [low, high]) {
    this.#low[at] = low;
    this.#high[at] = high;
    this.v32[at] = this.#divided(at, mean32).centroid();
  }
}
