/**
 * A slice in layers each of which weighs its predictions with the values of the layer below.
 *
 * Specification: docs/format.md, section 8.2.
 */

import { shapeOf } from './geometry.js';
import { LayeredSlice } from './layered.js';
import { carry, informed, learned, variances } from './refine.js';

/** One slice of a picture whose layers weigh; parameters are those of the parent. */
export class WeighedSlice extends LayeredSlice {
  /** Latents of the layers below in steps of this one, and variances, 0 where nothing is known. */
  #known = new Int32Array(0);
  #variance = new Int32Array(this.v32.length);
  #tables = variances(this.predictor.layout.scales);

  /**
   * @param {import('./layered.js').Pass} pass
   * @param {Uint8Array} segment
   * @param {import('./layered.js').Coder} coder
   * @override
   */
  read({ first, position, mean32, scaleIndex }, segment, coder) {
    const { k, recon32 } = coder.indices(segment, scaleIndex);
    for (let i = 0; i < position.length; i++) {
      const at = first + position[i];
      this.v32[at] = mean32[i] + recon32[i];
      this.#variance[at] = learned(k[i]);
    }
  }

  /**
   * @param {number} k
   * @override
   */
  async predict(k) {
    const { level } = this;
    const [begin, end] = this.span(k);
    const own = this.v32.subarray(begin, end);
    const outputs = await this.outputs(k);
    const known = this.#known.subarray(begin, end); // of the first layer, nothing
    const variance = this.#variance.subarray(begin, end);
    const weigh = (/** @type {number} */ i, /** @type {number} */ index) => {
      if (variance[i] === 0) return index;
      const [mean, finer] = informed(this.#tables, own[i], index, known[i], variance[i]);
      own[i] = mean;
      return finer;
    };
    const inLayer = this.layer ? weigh : null;
    const coded = this.predictor.predict(k, this.part, outputs, own, level, inLayer);
    const mean32 = Int32Array.from(coded.position, (i) => own[i]);
    if (this.layer) for (const i of coded.position) own[i] = known[i];
    return { ...coded, mean32 };
  }

  /**
   * @param {number} k
   * @override
   */
  async expect(k) {
    if (this.layer === 0) await this.predict(k);
    else this.#eachOf(k, (i) => (this.v32[i] = this.#known[i]));
  }

  /**
   * @param {Float64Array} before
   * @param {Float64Array} after
   * @override
   */
  rise(before, after) {
    carry(this.v32, this.#variance, before, after);
    this.#known = this.v32;
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
