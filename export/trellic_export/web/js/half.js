/**
 * Numbers in float16.
 *
 * @param {Uint16Array} halves their bits
 * @param {Float32Array} out
 */
export function widen(halves, out) {
  for (let i = 0; i < halves.length; i++) {
    const bits = halves[i];
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    out[i] = bits & 0x8000 ? -size : size; // no infinities: the exporter refuses them
  }
}
