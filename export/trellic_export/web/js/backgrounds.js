/** Backgrounds in style sheets and `style` attributes whose addresses are those of streams. */

import { decodeToBlob } from './client.js';
import { isStream } from './sources.js';

const ADDRESS = /url\((?:"([^"]*)"|'([^']*)'|([^)"']*))\)/g;
const PROPERTY = 'background-image';

/** Replaces backgrounds of a document. */
export class Backgrounds {
  /** @type {Map<string, Promise<string>>} address of an image by that of its stream */
  #images = new Map();

  /** @param {import('./client.js').DecodeOptions} options */
  constructor(options) {
    this.options = options;
  }

  /** Look at all style sheets, and at all elements with a style of their own. */
  scan() {
    for (const sheet of document.styleSheets) this.scanSheet(sheet);
    for (const element of document.querySelectorAll('[style*=".tlc"]')) this.scanElement(element);
  }

  /** @param {CSSStyleSheet} sheet */
  scanSheet(sheet) {
    try {
      this.#scanRules(sheet.cssRules, sheet.href ?? document.baseURI);
    } catch (error) {
      // A sheet of another origin may not be looked into.
      if (/** @type {Error} */ (error).name !== 'SecurityError') throw error;
    }
  }

  /** @param {Element} element */
  scanElement(element) {
    if (element instanceof HTMLElement) this.#replace(element.style, document.baseURI);
  }

  /**
   * @param {CSSRuleList} rules
   * @param {string} base
   */
  #scanRules(rules, base) {
    for (const rule of rules) {
      const { style, cssRules, styleSheet } = /** @type {any} */ (rule);
      if (style) this.#replace(style, base);
      if (cssRules) this.#scanRules(cssRules, base);
      if (styleSheet) this.scanSheet(styleSheet);
    }
  }

  /**
   * @param {CSSStyleDeclaration} style
   * @param {string} base
   */
  #replace(style, base) {
    const value = style.getPropertyValue(PROPERTY);
    if (!value.includes('.tlc')) return;
    for (const [text, ...forms] of value.matchAll(ADDRESS)) {
      const url = forms.find(Boolean) ?? '';
      if (!isStream(url, base)) continue;
      this.#image(new URL(url, base).href).then(
        (image) => {
          const now = style.getPropertyValue(PROPERTY);
          const priority = style.getPropertyPriority(PROPERTY);
          style.setProperty(PROPERTY, now.replaceAll(text, `url("${image}")`), priority);
        },
        () => {}, // said once, where it was decoded
      );
    }
  }

  /** @param {string} url */
  #image(url) {
    let found = this.#images.get(url);
    if (!found) {
      found = decodeToBlob(url, this.options).then((blob) => URL.createObjectURL(blob));
      this.#images.set(url, found);
      found.catch((error) => console.error(`${url}: ${error.name}: ${error.message}`));
    }
    return found;
  }
}
