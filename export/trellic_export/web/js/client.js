/**
 * What programs call: `decode` gives an ImageBitmap, `decodeToBlob` an image file.
 *
 * All work is done in one worker, which is started by the first call.
 */

import { Cancelled, EngineError, revived } from './errors.js';

export * from './errors.js';

/**
 * @typedef {object} DecodeOptions
 * @property {string} [decoder] `NAME`, or `NAME:x` for x parts of it and 1 - x of its base
 * @property {[number, number, number, number]} [region] x, y, width and height in pixels
 * @property {number} [layers] decode the first ones alone, of a progressive file
 * @property {number} [maxPixels] larger pictures are refused; 2^26 if left out
 * @property {AbortSignal} [signal] ends the work when nobody wants the picture any more
 * @property {(preview: Blob) => void} [onPreview] told of an image of full size that is rough
 *
 * @typedef {string | URL | Blob | ArrayBuffer | Uint8Array} Source address or content of a stream
 */

/** @type {Worker | null} */
let worker = null;
/** @type {Map<number, {resolve: Function, reject: Function, onPreview?: (preview: Blob) => void}>} */
const waiting = new Map();
let lastId = 0;

/**
 * Decode a stream.
 *
 * @param {Source} source
 * @param {DecodeOptions} [options]
 * @returns {Promise<ImageBitmap>} its colours brought to sRGB by the browser
 * @throws {import('./errors.js').TrellicError} of the same kinds as those of the Python package
 */
export function decode(source, options) {
  return request('bitmap', source, options);
}

/**
 * Decode a stream to an image file that browsers show: a PNG, with the ICC profile that it has.
 *
 * @param {Source} source
 * @param {DecodeOptions} [options]
 * @returns {Promise<Blob>}
 * @throws {import('./errors.js').TrellicError}
 */
export function decodeToBlob(source, options) {
  return request('png', source, options);
}

/**
 * What `model.json` says of the model: its name, stream id and decoders.
 *
 * @returns {Promise<import('./model.js').Manifest>}
 */
export async function model() {
  return (await fetch(new URL('model.json', import.meta.url))).json();
}

/**
 * @param {'png' | 'bitmap'} as
 * @param {Source} source
 * @param {DecodeOptions} [options]
 * @returns {Promise<any>}
 */
async function request(as, source, { signal, onPreview, ...options } = {}) {
  const plain = await plainly(source);
  if (signal?.aborted) throw new Cancelled('nobody wants the picture');
  worker ??= start();
  const id = ++lastId;
  const cancel = () => worker?.postMessage({ cancel: id });
  signal?.addEventListener('abort', cancel);
  try {
    return await new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject, onPreview });
      worker?.postMessage({ id, source: plain, as, preview: Boolean(onPreview), options });
    });
  } finally {
    waiting.delete(id);
    signal?.removeEventListener('abort', cancel);
  }
}

/**
 * @param {Source} source
 * @returns {Promise<string | Uint8Array>} an absolute address, or bytes
 */
async function plainly(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  return new URL(source, document.baseURI).href;
}

function start() {
  const address = new URL('worker.js', import.meta.url);
  const own = address.origin === location.origin;
  // A worker has to come from the page's own origin; a module that it imports need not.
  const text = new Blob([`import ${JSON.stringify(address.href)};`], { type: 'text/javascript' });
  const made = new Worker(own ? address : URL.createObjectURL(text), { type: 'module' });
  made.addEventListener('message', ({ data }) => receive(data));
  made.addEventListener('error', (event) => {
    const why = event.message || 'its script cannot be loaded';
    for (const { reject } of waiting.values()) reject(new EngineError(`the worker failed: ${why}`));
    made.terminate();
    worker = null;
  });
  return made;
}

/** @param {import('./worker.js').Answer} answer */
function receive({ id, preview, result, error }) {
  const caller = waiting.get(id);
  if (!caller) return;
  if (preview) caller.onPreview?.(preview);
  else if (error) caller.reject(revived(error));
  else caller.resolve(result);
}
