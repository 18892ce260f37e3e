/** What programs call; client.js says more. */

/** Address or content of a stream. */
export type Source = string | URL | Blob | ArrayBuffer | Uint8Array;

export interface DecodeOptions {
  /** `NAME`, or `NAME:x` for x parts of it and 1 - x of its base. */
  decoder?: string;
  /** x, y, width and height in pixels. */
  region?: [number, number, number, number];
  /** Decode the first layers alone, of a progressive file. */
  layers?: number;
  /** Larger pictures are refused; 2^26 if left out. */
  maxPixels?: number;
  /** Ends the work when nobody wants the picture any more. */
  signal?: AbortSignal;
  /** Told of an image of full size that is rough. */
  onPreview?: (preview: Blob) => void;
}

export interface DecoderInfo {
  purpose: string;
  scale: number;
  base: string | null;
}

export interface Manifest {
  name: string;
  streamId: string;
  licence: string;
  decoders: Record<string, DecoderInfo>;
  defaultDecoder: string;
}

/** Decode a stream; colours are brought to sRGB by the browser. */
export function decode(source: Source, options?: DecodeOptions): Promise<ImageBitmap>;
/** Decode a stream to a PNG, with the ICC profile that it has. */
export function decodeToBlob(source: Source, options?: DecodeOptions): Promise<Blob>;
/** What model.json says of the model. */
export function model(): Promise<Manifest>;

/** Base of every error that the decoder raises on purpose; `name` says which kind it is. */
export class TrellicError extends Error {}
export class StreamError extends TrellicError {}
export class NotATrellicFile extends StreamError {}
export class TruncatedStream extends StreamError {}
export class CorruptStream extends StreamError {}
export class UnsupportedVersion extends StreamError {}
export class UnknownModel extends StreamError {}
export class ImageTooLarge extends StreamError {}
export class BadParameter extends TrellicError {}
export class UnknownDecoder extends BadParameter {}
export class BadBundle extends TrellicError {}
export class EngineError extends TrellicError {}
export class Cancelled extends TrellicError {}
