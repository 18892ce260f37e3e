/**
 * The entropy decoder: rANS lanes in groups that share a stream of 16-bit words.
 *
 * Specification: docs/format.md, section 9.
 */

import { CorruptStream, TruncatedStream } from './errors.js';
import { BUCKET_SHIFT } from './tables.js';

/** @typedef {import('./tables.js').FrequencyTables} FrequencyTables */

const GROUP = 32; // lanes that share a word stream
const STATE_LOW = 65536;
const STATE_BYTES = 4;
const EXPONENT_BITS = 4;
const MAX_DIGITS = 15;
const MAX_INDEX = 32767;
const LONG_COUNT = 0x8000;

/** Decodes the segments of one slice, in order; after an error, no further ones. */
export class RansDecoder {
  /** Whether the next segment is the slice's first one, which begins with states. */
  #first = true;
  /** Words of the segment, where the next one is, and where those of the group end. */
  #words = new Uint16Array(0);
  #at = 0;
  #end = 0;

  /**
   * @param {FrequencyTables} tables
   * @param {number} lanes a power of two from 1 to 1024
   */
  constructor(tables, lanes) {
    this.tables = tables;
    this.lanes = lanes;
    this.groups = Math.ceil(lanes / GROUP);
    this.states = new Uint32Array(lanes).fill(STATE_LOW);
  }

  /**
   * Decode a segment.
   *
   * @param {Uint8Array} segment all of it
   * @param {Uint8Array} scaleIndex of each latent
   * @param {Uint8Array} cls class of each latent; with a trellis, what is filled in
   * @param {Uint8Array | null} next state after state s and parity x at `2 s + x`, or null
   * @returns {Int32Array} indices, at most 32767 in magnitude
   * @throws {CorruptStream | TruncatedStream}
   */
  decode(segment, scaleIndex, cls, next) {
    const k = new Int32Array(scaleIndex.length);
    this.#eachGroup(segment, (first) => this.#decodeGroup(first, k, scaleIndex, cls, next));
    return k;
  }

  /**
   * Decode a segment whose symbols have frequencies of their own.
   *
   * @param {Uint8Array} segment all of it
   * @param {Uint16Array} cumulative for each symbol a row of the sums of frequencies before each of
   *   its parts; from 0 up to 2^15, at which it stays
   * @param {number} columns of a row
   * @returns {Int32Array} parts, from 0
   * @throws {CorruptStream | TruncatedStream}
   */
  divided(segment, cumulative, columns) {
    const k = new Int32Array(cumulative.length / columns);
    this.#eachGroup(segment, (first) => this.#divideGroup(first, k, cumulative, columns));
    return k;
  }

  /**
   * Check, after the last segment, that every lane is back where the encoder began.
   *
   * @throws {CorruptStream}
   */
  finish() {
    const lane = this.states.findIndex((state) => state !== STATE_LOW);
    if (lane >= 0) {
      throw new CorruptStream(`lane ${lane} ended in state ${this.states[lane]}`, {
        expected: `${STATE_LOW}`,
      });
    }
  }

  /**
   * Take a segment apart, and check that each group takes all of its words.
   *
   * @param {Uint8Array} segment
   * @param {(first: number) => void} decodeGroup given the group's first lane
   */
  #eachGroup(segment, decodeGroup) {
    const bounds = this.#unpack(segment);
    for (let group = 0; group < this.groups; group++) {
      this.#at = bounds[group];
      this.#end = bounds[group + 1];
      if (this.#first) this.#otherStates(group * GROUP);
      decodeGroup(group * GROUP);
      if (this.#at < this.#end) {
        throw new CorruptStream(`${this.#end - this.#at} words left over`, { expected: 'none' });
      }
    }
    this.#first = false;
  }

  /**
   * @param {number} first lane of the group
   * @param {Int32Array} k
   * @param {Uint16Array} cumulative
   * @param {number} columns
   */
  #divideGroup(first, k, cumulative, columns) {
    const { lanes, states } = this;
    for (let start = first; start < k.length; start += lanes) {
      const stop = Math.min(k.length, start + GROUP, start - first + lanes);
      for (let i = start; i < stop; i++) {
        const lane = first + i - start;
        const x = states[lane];
        const slot = x & 0x7fff;
        let at = i * columns;
        while (cumulative[at + 1] <= slot) at++;
        const freq = cumulative[at + 1] - cumulative[at];
        this.#move(lane, freq * (x >>> 15) + slot - cumulative[at]);
        k[i] = at - i * columns;
      }
    }
  }

  /**
   * @param {number} first lane of the group
   * @param {Int32Array} k
   * @param {Uint8Array} scaleIndex
   * @param {Uint8Array} cls
   * @param {Uint8Array | null} next
   */
  #decodeGroup(first, k, scaleIndex, cls, next) {
    const { lanes, states } = this;
    const { scales, halfWidth, zero, cumulative, freqs, first: buckets } = this.tables;
    const words = this.#words;
    const trellis = new Uint8Array(GROUP);
    const n = k.length;
    for (let start = first; start < n; start += lanes) {
      const stop = Math.min(n, start + GROUP, start - first + lanes);
      let escaped = false;
      for (let i = start; i < stop; i++) {
        const lane = first + i - start;
        if (next) cls[i] = 1 + (trellis[i - start] & 1);
        const table = cls[i] * scales + scaleIndex[i];
        let x = states[lane];
        const slot = x & 0x7fff;
        let at = buckets[(table << 8) | (slot >> BUCKET_SHIFT)];
        while (slot >= cumulative[at] + freqs[at]) at++;
        x = freqs[at] * (x >>> 15) + slot - cumulative[at];
        if (x < STATE_LOW) {
          if (this.#at >= this.#end) throw wordsRanOut();
          x = x * 65536 + words[this.#at++];
        }
        states[lane] = x;
        const index = at - zero[table];
        k[i] = index;
        escaped ||= index > halfWidth[table];
      }
      if (escaped) this.#escapes(first, start, stop, k, scaleIndex, cls);
      if (next) {
        for (let i = start; i < stop; i++) {
          trellis[i - start] = next[2 * trellis[i - start] + (k[i] & 1)];
        }
      }
    }
  }

  /**
   * Decode the two extra rounds of the lanes that escaped.
   *
   * @param {number} first lane of the group
   * @param {number} start
   * @param {number} stop
   * @param {Int32Array} k
   * @param {Uint8Array} scaleIndex
   * @param {Uint8Array} cls
   */
  #escapes(first, start, stop, k, scaleIndex, cls) {
    const { scales, halfWidth } = this.tables;
    const escaped = [];
    for (let i = start; i < stop; i++) {
      const width = halfWidth[cls[i] * scales + scaleIndex[i]];
      if (k[i] <= width) continue;
      const x = this.states[first + i - start];
      const digits = 32 - Math.clz32(x & -x); // zeros and the one after them
      if (digits > MAX_DIGITS) {
        throw new CorruptStream('an escape of more than 15 digits', { expected: 'at most 15' });
      }
      this.#move(first + i - start, x >>> digits);
      escaped.push({ i, width, digits });
    }
    for (const { i, width, digits } of escaped) {
      const value = this.#bits(first + i - start, digits);
      const magnitude = width + (1 << (digits - 1)) + (value >> 1);
      if (magnitude > MAX_INDEX) {
        throw new CorruptStream(`an index of ${magnitude}`, { expected: `at most ${MAX_INDEX}` });
      }
      k[i] = value & 1 ? -magnitude : magnitude;
    }
  }

  /**
   * Decode the states of a group's lanes but the first.
   *
   * @param {number} first
   */
  #otherStates(first) {
    for (let lane = first + 1; lane < Math.min(this.lanes, first + GROUP); lane++) {
      const exponent = this.#bits(first, EXPONENT_BITS);
      const high = (1 << exponent) + (exponent ? this.#bits(first, exponent) : 0);
      this.states[lane] = high * 65536 + this.#word();
    }
  }

  /**
   * @param {number} lane
   * @param {number} count 1 to 15
   */
  #bits(lane, count) {
    const x = this.states[lane];
    this.#move(lane, x >>> count);
    return x & ((1 << count) - 1);
  }

  /**
   * Set a state, taking a word if it is too small.
   *
   * @param {number} lane
   * @param {number} x
   */
  #move(lane, x) {
    this.states[lane] = x < STATE_LOW ? x * 65536 + this.#word() : x;
  }

  #word() {
    if (this.#at >= this.#end) throw wordsRanOut();
    return this.#words[this.#at++];
  }

  /**
   * Take the states of a first segment, and find the words of every group.
   *
   * @param {Uint8Array} segment
   * @returns {number[]} where each group's words begin, and where the last group's end
   */
  #unpack(segment) {
    const skip = this.#first ? STATE_BYTES * this.groups : 0;
    if (segment.length < skip) {
      throw new TruncatedStream(`a first segment of ${segment.length} bytes`, {
        expected: `at least ${skip} for the states of ${this.lanes} lanes`,
      });
    }
    if (segment.length % 2) {
      throw new CorruptStream(`a segment of ${segment.length} bytes`, {
        expected: 'whole 16-bit words',
      });
    }
    if (skip) this.#takeStates(new Uint32Array(segment.slice(0, skip).buffer));
    this.#words = new Uint16Array(segment.slice(skip).buffer);
    const end = this.#words.length;
    const counts = [];
    let at = 0;
    for (let group = 1; group < this.groups; group++) {
      let count = this.#words[at++] ?? 0;
      if (count >= LONG_COUNT) {
        count = (count - LONG_COUNT) * 65536 + (this.#words[at++] ?? 0);
        if (count < LONG_COUNT && at <= end) {
          throw new CorruptStream(`${count} words in the long form`, { expected: `>= ${LONG_COUNT}` });
        }
      }
      counts.push(count);
    }
    const bounds = [at];
    for (const count of counts) bounds.push(bounds[bounds.length - 1] + count);
    if (bounds[bounds.length - 1] > end) {
      throw new TruncatedStream(`a segment of ${end} words`, {
        expected: `${bounds[bounds.length - 1]} or more for its groups`,
      });
    }
    return [...bounds, end];
  }

  /** @param {Uint32Array} states of the groups' first lanes */
  #takeStates(states) {
    const least = states.reduce((a, b) => Math.min(a, b));
    if (least < STATE_LOW) {
      throw new CorruptStream(`an initial rANS state of ${least}`, { expected: `>= ${STATE_LOW}` });
    }
    states.forEach((state, group) => (this.states[group * GROUP] = state));
  }
}

function wordsRanOut() {
  return new CorruptStream('a group that runs out of words', { expected: 'one word more' });
}
