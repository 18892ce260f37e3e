/**
 * Images of a page: streams are decoded near the screen, and shown in place of what they were.
 *
 * A preview first, then the picture; what leaves the screen is cancelled; what cannot be decoded
 * keeps its `alt` text, fires `error`, and says why in the console.
 */

import { decodeToBlob } from './client.js';
import { MIME, wantedBy } from './sources.js';

/**
 * @typedef {object} State
 * @property {import('./sources.js').Wanted} wanted
 * @property {'waiting' | 'decoding' | 'shown' | 'failed'} stage
 * @property {string} original value of the attribute
 * @property {string} ours address of what is shown in its place; empty before
 * @property {boolean} rough whether that is a preview
 * @property {boolean} told whether the page has had its error event
 * @property {AbortController | null} controller
 */

const NEAR = '50%'; // of the screen's height and width, around it

/** Watches the images of a document. */
export class Images {
  /** @type {WeakMap<HTMLImageElement, State>} */
  #states = new WeakMap();
  /** @type {WeakMap<Element, State>} by the element whose attribute was replaced */
  #replaced = new WeakMap();
  /** @type {Set<string>} addresses whose faults were told */
  #told = new Set();

  /** @param {import('./client.js').DecodeOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {() => void} */
    let tell = () => {};
    /** Kept when the first images near the screen have been found. */
    this.looked = new Promise((resolve) => (tell = () => resolve(null)));
    this.screen = new IntersectionObserver((entries) => {
      this.#moved(entries);
      tell();
    }, { rootMargin: NEAR });
    // Before the page's own listeners: a stream's own fate is ours to tell.
    document.addEventListener('load', (event) => this.#loaded(event), true);
    addEventListener('error', (event) => this.#failedToLoad(event), true);
  }

  /**
   * Look at an image, which is new or has changed.
   *
   * @param {HTMLImageElement} image
   * @returns {boolean} whether it is watched from now on
   */
  consider(image) {
    const wanted = wantedBy(image, (element) => this.#original(element));
    const state = this.#states.get(image);
    if (state && wanted && state.wanted.url === wanted.url && isAsLeft(state, wanted)) {
      return state.stage === 'waiting';
    }
    if (state) this.#forget(image, state);
    if (!wanted) return false;
    const original = wanted.element.getAttribute(wanted.attribute) ?? '';
    this.#states.set(image, {
      wanted,
      stage: 'waiting',
      original,
      ours: '',
      rough: false,
      told: false,
      controller: null,
    });
    this.screen.observe(image);
    return true;
  }

  /** @param {Element} element */
  #original(element) {
    const state = this.#replaced.get(element);
    return state && element.getAttribute(state.wanted.attribute) === state.ours ? state.wanted.url : null;
  }

  /**
   * @param {HTMLImageElement} image
   * @param {State} state
   */
  #forget(image, state) {
    state.controller?.abort();
    this.screen.unobserve(image);
    this.#states.delete(image);
    this.#replaced.delete(state.wanted.element);
    delete image.dataset.trellic;
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #moved(entries) {
    for (const { target, isIntersecting } of entries) {
      const image = /** @type {HTMLImageElement} */ (target);
      const state = this.#states.get(image);
      if (!state) continue;
      if (isIntersecting && state.stage === 'waiting') this.#start(image, state);
      if (!isIntersecting && state.stage === 'decoding') state.controller?.abort();
    }
  }

  /**
   * @param {HTMLImageElement} image
   * @param {State} state
   */
  async #start(image, state) {
    state.stage = 'decoding';
    state.controller = new AbortController();
    const current = () => this.#states.get(image) === state;
    try {
      const blob = await decodeToBlob(state.wanted.url, {
        ...this.options,
        signal: state.controller.signal,
        onPreview: (preview) => current() && this.#show(image, state, preview, true),
      });
      if (!current()) return;
      state.stage = 'shown';
      this.screen.unobserve(image);
      this.#show(image, state, blob, false);
    } catch (error) {
      if (!current()) return;
      if (state.controller.signal.aborted) state.stage = 'waiting';
      else this.#fail(image, state, /** @type {Error} */ (error));
    }
  }

  /**
   * @param {HTMLImageElement} image
   * @param {State} state
   * @param {Blob} blob
   * @param {boolean} rough
   */
  #show(image, state, blob, rough) {
    const { element, attribute } = state.wanted;
    state.ours = URL.createObjectURL(blob);
    state.rough = rough;
    this.#replaced.set(element, state);
    if (element !== image) element.removeAttribute('type');
    element.setAttribute(attribute, state.ours);
    image.dataset.trellic = rough ? 'preview' : 'shown';
  }

  /**
   * @param {HTMLImageElement} image
   * @param {State} state
   * @param {Error} error
   */
  #fail(image, state, error) {
    const { element, attribute, url } = state.wanted;
    state.stage = 'failed';
    this.screen.unobserve(image);
    image.dataset.trellic = 'error';
    if (!this.#told.has(url)) console.error(`${url}: ${error.name}: ${error.message}`);
    this.#told.add(url);
    if (state.ours) {
      state.ours = '';
      if (element !== image) element.setAttribute('type', MIME); // so that the next source is taken
      element.setAttribute(attribute, state.original); // which the browser cannot show, and says so
    } else if (element === image) {
      image.dispatchEvent(new Event('error'));
    }
  }

  /** @param {Event} event */
  #loaded(event) {
    const image = event.target;
    const state = image instanceof HTMLImageElement && this.#states.get(image);
    if (!state || image.currentSrc !== state.ours) return;
    URL.revokeObjectURL(state.ours);
    if (state.rough) event.stopImmediatePropagation();
  }

  /** @param {Event} event */
  #failedToLoad(event) {
    const image = event.target;
    const state = image instanceof HTMLImageElement && this.#states.get(image);
    if (!state) return;
    if (state.stage === 'failed' && !state.told) state.told = true;
    else event.stopImmediatePropagation(); // that the browser knows no streams is no news
  }
}

/**
 * Whether an attribute has the value that it was given here; a page may ask for the same again.
 *
 * @param {State} state
 * @param {import('./sources.js').Wanted} wanted
 */
function isAsLeft({ ours, original }, { element, attribute }) {
  return element.getAttribute(attribute) === (ours || original);
}
