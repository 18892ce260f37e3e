/**
 * The worker: fetches streams, decodes one at a time, and hands over images.
 *
 * @typedef {object} Request
 * @property {number} id
 * @property {string | Uint8Array} source address or bytes
 * @property {'png' | 'bitmap'} as
 * @property {boolean} preview whether a preview is wanted first
 * @property {{decoder?: string, region?: number[], layers?: number, maxPixels?: number}} options
 *
 * @typedef {{id: number, preview?: Blob, result?: Blob | ImageBitmap,
 *   error?: {name: string, message: string}}} Answer
 */

import { readContents } from './container.js';
import { Decoder, MAX_PIXELS } from './decoder.js';
import { WebEngines, fetching } from './engine.js';
import { BadBundle, Cancelled } from './errors.js';
import { collect } from './incoming.js';
import { Model } from './model.js';
import { toPng } from './png.js';

const MANIFEST = 'model.json';
const LARGE = 2 ** 20; // pixels that are worth a preview even if nothing has to be waited for
const GRACE = 10; // ms, in which the rest of a small file follows
const PIECE = 8192; // bytes that fit one call

/** @type {Map<number, AbortController>} */
const jobs = new Map();
/** @type {Promise<unknown>} the last decoding in line */
let last = Promise.resolve();
/** @type {Promise<Decoder> | null} */
let opened = null;

self.addEventListener('message', ({ data }) => {
  if (data.cancel !== undefined) jobs.get(data.cancel)?.abort();
  else answer(data);
});

/** @param {Request} request */
async function answer(request) {
  const { id } = request;
  const controller = new AbortController();
  jobs.set(id, controller);
  try {
    const result = await decode(request, controller.signal);
    const moved = result instanceof Blob ? [] : [result];
    self.postMessage({ id, result }, { transfer: moved });
  } catch (error) {
    const plain = controller.signal.aborted ? new Cancelled('nobody wants the picture') : error;
    const { name, message } = /** @type {Error} */ (plain);
    self.postMessage({ id, error: { name, message } });
  } finally {
    jobs.delete(id);
  }
}

/**
 * @param {Request} request
 * @param {AbortSignal} signal
 * @returns {Promise<Blob | ImageBitmap>}
 */
async function decode({ id, source, as, preview, options }, signal) {
  const response =
    typeof source === 'string' ? await fetch(source, { signal }) : new Response(/** @type {any} */ (source));
  const decoder = await open();
  const { layout, manifest } = decoder.model;
  const small = preview ? previewer(manifest.decoders) : null;
  const steps = small ? manifest.decoders[small].steps : 0;
  const { maxPixels = MAX_PIXELS } = options;
  const pause = () => breathe(signal);
  let pixels = Infinity; // until all is there
  const isQuick = () => pixels <= LARGE && decoder.isWarm(options.decoder);
  const show = async (/** @type {Uint8Array} */ prefix) => {
    await Promise.race([delay(GRACE), whole]);
    if (isQuick()) return;
    const picture = await decoder.decode(prefix, { decoder: small ?? '', layers: 1, maxPixels, pause });
    const { width, height } = readContents(prefix).header;
    self.postMessage({ id, preview: enlarged(picture, width, height) });
  };
  const whole = collect(response, { maxPixels, layout, steps }, (prefix) => {
    inLine(() => show(prefix)).catch(() => {}); // what is wrong there is wrong with the picture too
  }).then((data) => {
    const { header } = readContents(data);
    pixels = header.width * header.height;
    return data;
  });
  const data = await whole;
  const picture = await inLine(() => decoder.decode(data, { ...options, maxPixels, pause }));
  const png = new Blob([toPng(picture)], { type: 'image/png' });
  return as === 'png' ? png : createImageBitmap(png);
}

/** Load the model, once; another try may fare better than one that failed. */
function open() {
  opened ??= (async () => {
    const base = new URL(MANIFEST, import.meta.url);
    const response = await fetch(base);
    if (!response.ok) throw new BadBundle(`${MANIFEST} cannot be fetched: status ${response.status}`);
    const manifest = await response.json();
    const engines = new WebEngines(manifest, fetching(base));
    engines.prepare();
    const model = new Model(manifest, await engines.file(manifest.integers));
    return new Decoder(model, {
      exact: (network) => engines.exact(network),
      decoder: (name) => engines.decoder(name),
    });
  })();
  opened.catch(() => (opened = null));
  return opened;
}

/**
 * Name of the decoder that makes the cheapest small picture; null if there is none.
 *
 * @param {Record<string, import('./model.js').DecoderInfo>} decoders
 */
function previewer(decoders) {
  const small = Object.entries(decoders).filter(([, info]) => info.scale > 1);
  small.sort(([, a], [, b]) => a.steps - b.steps || b.scale - a.scale);
  return small.length ? small[0][0] : null;
}

/**
 * A small picture as an image of full size, so that nothing moves when the picture follows.
 *
 * @param {import('./decoder.js').Picture} picture
 * @param {number} width
 * @param {number} height
 */
function enlarged(picture, width, height) {
  const scale = Math.ceil(width / picture.width);
  const png = toPng(picture);
  let text = '';
  for (let i = 0; i < png.length; i += PIECE) {
    text += String.fromCharCode(...png.subarray(i, i + PIECE));
  }
  const size = `width="${picture.width * scale}" height="${picture.height * scale}"`;
  const image = `<image ${size} preserveAspectRatio="none" href="data:image/png;base64,${btoa(text)}"/>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${image}</svg>`;
  return new Blob([svg], { type: 'image/svg+xml' });
}

/**
 * Let messages in, such as one that cancels.
 *
 * @param {AbortSignal} signal
 * @throws {Cancelled}
 */
async function breathe(signal) {
  await new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve(null);
    };
    port2.postMessage(null);
  });
  if (signal.aborted) throw new Cancelled('nobody wants the picture');
}

/** @param {number} milliseconds */
function delay(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/**
 * Wait for all decodings that were asked for before.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
function inLine(work) {
  const result = last.then(work);
  last = result.catch(() => {});
  return result;
}
