/**
 * The small parts of a stream: checked reading, varints, bit tables and checksums.
 *
 * Specification: docs/format.md, sections 3 and 5.
 */

import { CorruptStream, TruncatedStream } from './errors.js';

export const CRC16_BYTES = 2;
export const CRC32_BYTES = 4;

const CRC16 = Uint16Array.from({ length: 256 }, (_, i) => {
  let crc = i << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc;
});

/** Row `r` takes a byte that `r` further bytes follow: four of them are taken at a time. */
const CRC32 = [new Uint32Array(256)];
for (let i = 0; i < 256; i++) {
  let crc = i;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  CRC32[0][i] = crc;
}
for (let row = 1; row < 4; row++) {
  CRC32.push(CRC32[row - 1].map((crc) => (crc >>> 8) ^ CRC32[0][crc & 255]));
}

/**
 * CRC-16 (0x1021, from 0xFFFF, not reflected).
 *
 * @param {Uint8Array} data
 * @returns {number}
 */
export function crc16(data) {
  let crc = 0xffff;
  for (let i = 0; i < data.length; i++) {
    crc = ((crc << 8) & 0xffff) ^ CRC16[(crc >> 8) ^ data[i]];
  }
  return crc;
}

/**
 * CRC-32 of zlib and PNG.
 *
 * @param {Uint8Array} data
 * @returns {number} 0 to 2^32 - 1
 */
export function crc32(data) {
  const [t0, t1, t2, t3] = CRC32;
  const whole = data.length & ~3;
  let crc = 0xffffffff;
  let i = 0;
  for (; i < whole; i += 4) {
    crc ^= data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24);
    crc = t3[crc & 255] ^ t2[(crc >>> 8) & 255] ^ t1[(crc >>> 16) & 255] ^ t0[crc >>> 24];
  }
  for (; i < data.length; i++) crc = (crc >>> 8) ^ t0[(crc ^ data[i]) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Unsigned little-endian integer.
 *
 * @param {Uint8Array} bytes at most 4
 * @returns {number}
 */
export function littleEndian(bytes) {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

/** Reads forwards through bytes; no read goes past their end. */
export class Cursor {
  /** @param {Uint8Array} data all bytes that there are */
  constructor(data) {
    this.data = data;
    this.at = 0;
  }

  /**
   * Return the next bytes, as a view.
   *
   * @param {number} count
   * @param {string} what they are, for the message
   * @returns {Uint8Array}
   * @throws {TruncatedStream} when fewer are left
   */
  take(count, what) {
    if (count > this.data.length - this.at) {
      throw new TruncatedStream(
        `the stream ends after ${this.data.length} bytes, inside the ${what}`,
        { expected: `at least ${this.at + count} bytes`, remedy: 'fetch the file again' },
      );
    }
    this.at += count;
    return this.data.subarray(this.at - count, this.at);
  }

  /**
   * Return the next byte.
   *
   * @param {string} what
   * @returns {number}
   */
  byte(what) {
    return this.take(1, what)[0];
  }

  /**
   * Return the next unsigned LEB128 integer.
   *
   * @param {number} longest bytes that it may have, at most 4
   * @param {string} what
   * @returns {number}
   * @throws {CorruptStream} when it is longer, or not in its shortest form
   */
  varint(longest, what) {
    let value = 0;
    for (let position = 0; position < longest; position++) {
      const byte = this.byte(what);
      value |= (byte & 0x7f) << (7 * position);
      if (byte < 0x80) {
        if (byte === 0 && position > 0) {
          throw new CorruptStream(`the ${what} is a varint with needless bytes`);
        }
        return value;
      }
    }
    throw new CorruptStream(`the ${what} is a varint of more than ${longest} bytes`);
  }
}

/**
 * Read one integer from a string of bits, most significant bit first.
 *
 * @param {Uint8Array} bytes
 * @param {number} at number of its first bit
 * @param {number} width bits, at most 31
 * @returns {number}
 */
export function bitsAt(bytes, at, width) {
  let value = 0;
  for (let i = at; i < at + width; i++) {
    value = (value << 1) | ((bytes[i >> 3] >> (7 - (i & 7))) & 1);
  }
  return value;
}
