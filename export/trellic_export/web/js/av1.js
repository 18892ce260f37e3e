/**
 * AV1 data of patches: one still picture without a container, checked before it is decoded.
 *
 * Specification: docs/format.md, section 4.2; AV1 Bitstream & Decoding Process, sections 5.3 to 5.5.
 */

import { CorruptStream } from './errors.js';
import { Cursor, bitsAt } from './fields.js';

const [SEQUENCE_HEADER, FRAME] = [0x0a, 0x32]; // first bytes of the two units
const IDENTITY = 0x010d00; // primaries, transfer and matrix of RGB, which has no range
const COLOUR = 1; // profile of 4:4:4

/**
 * @param {Uint8Array} data
 * @returns {boolean} whether an area is AV1 data, and not VP8L
 */
export function isAv1(data) {
  return data[0] === SEQUENCE_HEADER;
}

/**
 * Refuse data that are not one still picture of this size, in 8 bits.
 *
 * @param {Uint8Array} data
 * @param {number} height
 * @param {number} width
 * @param {boolean} grey
 * @throws {CorruptStream}
 */
export function checkStill(data, height, width, grey) {
  const cursor = new Cursor(data);
  const header = unit(cursor, SEQUENCE_HEADER);
  unit(cursor, FRAME);
  if (cursor.at !== data.length) {
    throw new CorruptStream(`${data.length - cursor.at} bytes follow the frame of an AV1 patch`);
  }
  let at = 0;
  const take = (/** @type {number} */ count) => {
    if (at + count > 8 * header.length) {
      throw new CorruptStream('the sequence header of an AV1 patch ends too early');
    }
    at += count;
    return bitsAt(header, at - count, count);
  };
  const [profile, still, reduced] = [take(3), take(1), take(1)];
  if (!still || !reduced) throw new CorruptStream('an AV1 patch that is not a still picture');
  take(5); // level
  const [wideBits, highBits] = [1 + take(4), 1 + take(4)];
  const [wide, high] = [1 + take(wideBits), 1 + take(highBits)];
  take(6); // tools that this picture may use
  const deep = take(1);
  const mono = profile !== COLOUR && Boolean(take(1));
  if (wide !== width || high !== height || deep || mono !== grey || profile !== (grey ? 0 : COLOUR)) {
    throw new CorruptStream(`an AV1 patch of ${wide}x${high} pixels, profile ${profile}`, {
      expected: `${width}x${height}, 8 bits, ${grey ? 'grey' : 'colour in 4:4:4'}`,
    });
  }
  const described = take(1) ? take(24) : 0; // colour, which has no meaning here
  take(described === IDENTITY && !grey ? 0 : 1); // range, nor has that
  take(grey ? 0 : 1); // whether both chroma planes have steps of their own
  if (take(1)) throw new CorruptStream('an AV1 patch with film grain', { expected: 'none' });
  const left = 8 * header.length - at;
  if (left < 1 || left > 8 || take(left) !== 1 << (left - 1)) {
    throw new CorruptStream('the sequence header of an AV1 patch does not end where it should');
  }
}

/**
 * Return an AVIF file of AV1 data that were checked (ISO/IEC 23008-12).
 *
 * @param {Uint8Array} data
 * @param {number} height
 * @param {number} width
 * @param {boolean} grey
 * @returns {Uint8Array}
 */
export function contained(data, height, width, grey) {
  const [profile, level] = [data[2] >> 5, ((data[2] & 7) << 2) | (data[3] >> 6)];
  const planes = grey ? 1 : 3;
  const properties = [
    box('ispe', u32(0), u32(width), u32(height)),
    box('pixi', u32(0), [planes, ...new Array(planes).fill(8)]),
    box('av1C', [0x81, (profile << 5) | level, grey ? 0x1c : 0, 0]),
    box('colr', text('nclx'), u16(1), u16(13), u16(6), [0x80]),
  ];
  const association = box('ipma', u32(0), u32(1), u16(1), [4, 1, 2, 0x80 | 3, 4]);
  const entry = box('infe', u32(2 << 24), u16(1), u16(0), text('av01'), [0]);
  const after = [
    ...box('pitm', u32(0), u16(1)),
    ...box('iinf', u32(0), u16(1), entry),
    ...box('iprp', box('ipco', ...properties), association),
  ];
  const before = box('hdlr', u32(0), u32(0), text('pict'), new Array(13).fill(0));
  const start = box('ftyp', text('avif'), u32(0), text('avifmif1miaf'));
  const meta = (/** @type {number} */ offset) => {
    const place = [u16(0x4400), u16(1), u16(1), u16(0), u16(1), u32(offset), u32(data.length)];
    return box('meta', u32(0), before, box('iloc', u32(0), ...place), after);
  };
  const head = [...start, ...meta(start.length + meta(0).length + 8)];
  head.push(...u32(8 + data.length), ...text('mdat'));
  const file = new Uint8Array(head.length + data.length);
  file.set(head);
  file.set(data, head.length);
  return file;
}

/**
 * Take a unit of a kind, with its size.
 *
 * @param {Cursor} cursor
 * @param {number} kind
 */
function unit(cursor, kind) {
  const first = cursor.byte('AV1 patch');
  if (first !== kind) {
    throw new CorruptStream(`an AV1 patch with a unit 0x${first.toString(16)}`, {
      expected: `0x${kind.toString(16)}`,
    });
  }
  return cursor.take(cursor.varint(4, 'size of an AV1 unit'), 'AV1 patch');
}

/**
 * @param {string} kind
 * @param {...number[]} parts
 * @returns {number[]}
 */
function box(kind, ...parts) {
  const content = parts.flat();
  return [...u32(8 + content.length), ...text(kind), ...content];
}

/** @param {number} value */
function u32(value) {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff);
}

/** @param {number} value */
function u16(value) {
  return [value >> 8, value & 0xff];
}

/** @param {string} letters */
function text(letters) {
  return Array.from(letters, (letter) => letter.charCodeAt(0));
}
