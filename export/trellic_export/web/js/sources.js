/** Which address an element of a page asks for, if it is one of a `.tlc` stream. */

export const MIME = 'image/x-trellic';

/**
 * Whether an address is that of a stream, by its name.
 *
 * @param {string} url
 * @param {string} [base]
 * @returns {boolean}
 */
export function isStream(url, base = document.baseURI) {
  return URL.canParse(url, base) && new URL(url, base).pathname.endsWith('.tlc');
}

/**
 * Choose from a `srcset`: the least density that is enough for the screen, or the largest.
 *
 * @param {string} srcset
 * @param {number} width in CSS pixels that the image takes
 * @param {number} density of the screen
 * @returns {string} an address; empty if there is none
 */
export function candidate(srcset, width, density) {
  const found = srcset
    .split(/,\s+|,$/)
    .map((text) => text.trim().split(/\s+/))
    .filter(([url]) => url)
    .map(([url, size = '1x']) => ({
      url,
      density: size.endsWith('w') ? parseFloat(size) / (width || 1) : parseFloat(size),
    }))
    .sort((a, b) => a.density - b.density);
  const best = found.find((entry) => entry.density >= density) ?? found[found.length - 1];
  return best ? best.url : '';
}

/**
 * @typedef {{element: HTMLImageElement | HTMLSourceElement, attribute: 'src' | 'srcset',
 *   url: string}} Wanted
 */

/**
 * Say what an image asks for, and which attribute says so; null where it is no stream.
 *
 * @param {HTMLImageElement} image
 * @param {(element: Element) => string | null} original value of an attribute that was replaced
 * @returns {Wanted | null}
 */
export function wantedBy(image, original) {
  const parent = image.parentElement;
  const sources = parent?.tagName === 'PICTURE' ? parent.querySelectorAll('source') : [];
  const width = image.clientWidth || innerWidth;
  for (const element of sources) {
    if (element.media && !matchMedia(element.media).matches) continue;
    const ours = original(element);
    if (!ours && element.type && element.type !== MIME) return null; // the browser's own choice
    const url = candidate(ours ?? element.srcset, width, devicePixelRatio);
    if (url && (ours || element.type === MIME || isStream(url))) {
      return { element, attribute: 'srcset', url: absolute(url) };
    }
    return null;
  }
  const ours = original(image);
  const srcset = image.getAttribute('srcset');
  const fromSet = !ours && srcset ? candidate(srcset, width, devicePixelRatio) : '';
  if (fromSet) {
    return isStream(fromSet) ? { element: image, attribute: 'srcset', url: absolute(fromSet) } : null;
  }
  const url = ours ?? image.getAttribute('src') ?? '';
  return url && isStream(url) ? { element: image, attribute: 'src', url: absolute(url) } : null;
}

/** @param {string} url */
function absolute(url) {
  return new URL(url, document.baseURI).href;
}
