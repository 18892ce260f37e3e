/**
 * SHA-256 (FIPS 180-4).
 *
 * The browser's own is asynchronous, and missing from pages that came without encryption.
 */

const ROUNDS = 64;
const BLOCK = 64; // bytes
const [ROOTS, FRACTIONS] = constants();

/**
 * SHA-256 as hex of some parts, one after the other.
 *
 * @param {...Uint8Array} parts
 * @returns {string}
 */
export function sha256(...parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const padded = new Uint8Array((Math.floor((length + 8) / BLOCK) + 1) * BLOCK);
  let at = 0;
  for (const part of parts) {
    padded.set(part, at);
    at += part.length;
  }
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(length / 2 ** 29));
  view.setUint32(padded.length - 4, (length * 8) >>> 0);
  const state = Int32Array.from(ROOTS);
  const schedule = new Int32Array(ROUNDS);
  for (let start = 0; start < padded.length; start += BLOCK) mix(state, schedule, view, start);
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

/**
 * @param {Int32Array} state
 * @param {Int32Array} w room for the message schedule
 * @param {DataView} view
 * @param {number} start
 */
function mix(state, w, view, start) {
  for (let i = 0; i < 16; i++) w[i] = view.getInt32(start + 4 * i);
  for (let i = 16; i < ROUNDS; i++) {
    const x = w[i - 15];
    const y = w[i - 2];
    const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
    const s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < ROUNDS; i++) {
    const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const one = (h + s1 + ((e & f) ^ (~e & g)) + FRACTIONS[i] + w[i]) | 0;
    const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] += word));
}

/**
 * @param {number} x
 * @param {number} by
 */
function turn(x, by) {
  return (x >>> by) | (x << (32 - by));
}

/** Fractions of the square roots of 8 primes, and of the cube roots of 64: 32 bits each. */
function constants() {
  /** @type {number[]} */
  const primes = [];
  for (let n = 2; primes.length < ROUNDS; n++) {
    if (primes.every((prime) => n % prime)) primes.push(n);
  }
  const fraction = (/** @type {number} */ root) => ((root % 1) * 2 ** 32) | 0;
  return [
    Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime))),
    Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime))),
  ];
}

/**
 * SHA-256 by the browser itself where it may: in pages over HTTPS, and of this machine.
 *
 * @param {Uint8Array} data
 * @returns {Promise<string>} in hexadecimal
 */
export async function digestOf(data) {
  const { subtle } = globalThis.crypto ?? {};
  if (!subtle) return sha256(data);
  const found = new Uint8Array(await subtle.digest('SHA-256', /** @type {any} */ (data)));
  return Array.from(found, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
