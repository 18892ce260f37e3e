/**
 * The errors of the decoder: the same kinds, under the same names, as those of `trellic.errors`.
 *
 * A message says what was seen, what was expected and what can be done, in one line.
 */

/** Base of every error that the decoder raises on purpose. */
export class TrellicError extends Error {
  /**
   * @param {string} seen what was found
   * @param {{expected?: string, remedy?: string}} [more] what would have been right; what helps
   */
  constructor(seen, { expected = '', remedy = '' } = {}) {
    super([seen, expected && `expected ${expected}`, remedy].filter(Boolean).join('; '));
    this.name = new.target.kind;
  }

  /** Name of the class, which a minifier would change. */
  static kind = 'TrellicError';
}

/** Base of all that can be wrong with the bytes of a stream. */
export class StreamError extends TrellicError {
  static kind = 'StreamError';
}

/** The bytes do not begin with the signature of a `.tlc` file. */
export class NotATrellicFile extends StreamError {
  static kind = 'NotATrellicFile';
}

/** The stream ends before the bytes that its header promises. */
export class TruncatedStream extends StreamError {
  static kind = 'TruncatedStream';
}

/** A checksum, a length, a rANS state or a reserved bit is wrong. */
export class CorruptStream extends StreamError {
  static kind = 'CorruptStream';
}

/** The stream is of a format version, or has a feature, that is not known here. */
export class UnsupportedVersion extends StreamError {
  static kind = 'UnsupportedVersion';
}

/** The stream was made with another model than the one that is here. */
export class UnknownModel extends StreamError {
  static kind = 'UnknownModel';
}

/** The picture has more pixels than the caller allows. */
export class ImageTooLarge extends StreamError {
  static kind = 'ImageTooLarge';
}

/** An argument is outside its range. */
export class BadParameter extends TrellicError {
  static kind = 'BadParameter';
}

/** The model has no decoder of that name. */
export class UnknownDecoder extends BadParameter {
  static kind = 'UnknownDecoder';
}

/** The model's files are damaged, incomplete or do not fit together. */
export class BadBundle extends TrellicError {
  static kind = 'BadBundle';
}

/** An engine cannot load or run a graph, or its integers are wrong. */
export class EngineError extends TrellicError {
  static kind = 'EngineError';
}

/** The caller no longer wants the picture. */
export class Cancelled extends TrellicError {
  static kind = 'Cancelled';
}

/** @type {Record<string, typeof TrellicError>} */
const KINDS = {
  TrellicError,
  StreamError,
  NotATrellicFile,
  TruncatedStream,
  CorruptStream,
  UnsupportedVersion,
  UnknownModel,
  ImageTooLarge,
  BadParameter,
  UnknownDecoder,
  BadBundle,
  EngineError,
  Cancelled,
};

/**
 * Make an error again that came as plain data from a worker.
 *
 * @param {{name: string, message: string}} plain
 * @returns {Error}
 */
export function revived(plain) {
  const Kind = KINDS[plain.name];
  return Kind ? new Kind(plain.message) : new Error(`${plain.name}: ${plain.message}`);
}
