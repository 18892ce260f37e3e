/**
 * Integer networks in an engine, used only if their probe gives the right integers.
 *
 * Specification: docs/format.md, section 7.5.
 */

import { EngineError } from './errors.js';
import { sha256 } from './sha256.js';

/** @typedef {import('./networks.js').Tensor} Tensor */
/** @typedef {(x: Tensor) => Promise<Tensor[]>} Run evaluates a network */

const PROBE_SIZE = 12;

/**
 * Return the fixed pseudo-random input of a probe: integers in [-127, 127].
 *
 * @param {number} channels
 * @returns {Tensor}
 */
export function probeInput(channels) {
  const data = new Float32Array(channels * PROBE_SIZE * PROBE_SIZE);
  for (let i = 0; i < data.length; i++) {
    let x = Math.imul(i + 1, 0x9e3779b1);
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    data[i] = ((x ^ (x >>> 16)) >>> 0) % 255 - 127;
  }
  return { data, channels, rows: PROBE_SIZE, columns: PROBE_SIZE };
}

/**
 * SHA-256 of integer outputs, as int32, one after the other; empty where one is no integer.
 *
 * @param {Tensor[]} outputs
 * @returns {string}
 */
export function digest(outputs) {
  const parts = [];
  for (const { data } of outputs) {
    const integers = Int32Array.from(data);
    if (!integers.every((value, i) => value === data[i])) return '';
    parts.push(new Uint8Array(integers.buffer));
  }
  return sha256(...parts);
}

/**
 * Return a network that passed its probe.
 *
 * @param {string} name
 * @param {number} channels of its input
 * @param {string} expected digest of the probe's outputs
 * @param {Run} run
 * @returns {Promise<Run>}
 * @throws {EngineError} when the integers are others
 */
export async function probed(name, channels, expected, run) {
  if (digest(await run(probeInput(channels))) !== expected) {
    throw new EngineError(`the integers of network '${name}' are wrong on this machine`, {
      remedy: 'no picture can be decoded with this engine',
    });
  }
  return run;
}
