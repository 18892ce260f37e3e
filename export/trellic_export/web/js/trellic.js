/**
 * One script tag, and `.tlc` shows: `<script type="module" src="trellic.js"></script>`.
 *
 * Images, pictures and backgrounds of the page are watched, those that are added later too. Options
 * are part of the address: `trellic.js?decoder=quality&maxPixels=50000000&offline`.
 */

import { Backgrounds } from './backgrounds.js';
import { Images } from './images.js';

export * from './client.js';

const query = new URL(import.meta.url).searchParams;
const options = {
  decoder: query.get('decoder') ?? undefined,
  maxPixels: query.has('maxPixels') ? Number(query.get('maxPixels')) : undefined,
};
const images = new Images(options);
const backgrounds = new Backgrounds(options);

/** @param {Node} node */
function added(node) {
  if (!(node instanceof Element)) return;
  for (const image of node.querySelectorAll('img')) images.consider(image);
  if (node instanceof HTMLImageElement) images.consider(node);
  if (node instanceof HTMLSourceElement) changed(node);
  const styled = '[style*=".tlc"]';
  if (node.matches(styled)) backgrounds.scanElement(node);
  for (const element of node.querySelectorAll(styled)) backgrounds.scanElement(element);
  const sheets = 'style, link[rel~="stylesheet"]';
  const links = node.matches(sheets) ? [node] : node.querySelectorAll(sheets);
  for (const element of links) {
    backgrounds.scan();
    element.addEventListener('load', () => backgrounds.scan(), { once: true });
  }
}

/** @param {Element} element whose attribute changed */
function changed(element) {
  if (element instanceof HTMLImageElement) images.consider(element);
  else if (element.tagName !== 'SOURCE') backgrounds.scanElement(element);
  else if (element.parentElement) {
    for (const image of element.parentElement.querySelectorAll('img')) images.consider(image);
  }
}

new MutationObserver((records) => {
  for (const { type, target, addedNodes } of records) {
    if (type === 'attributes') changed(/** @type {Element} */ (target));
    else addedNodes.forEach(added);
  }
}).observe(document, {
  subtree: true,
  childList: true,
  attributeFilter: ['src', 'srcset', 'style'],
});
addEventListener('resize', () => {
  for (const image of document.querySelectorAll('picture img')) {
    images.consider(/** @type {HTMLImageElement} */ (image));
  }
});
const watched = Array.from(document.images, (image) => images.consider(image)).some(Boolean);
// Images near the screen come first; they are found when a frame is drawn.
(watched ? images.looked : Promise.resolve()).then(() => backgrounds.scan());

if (query.has('offline')) {
  navigator.serviceWorker
    ?.register(new URL('service-worker.js', import.meta.url), { type: 'module' })
    .catch((error) => console.warn(`trellic: no service worker (${error.message})`));
}
