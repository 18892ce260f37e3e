/** The demo page: drop files, switch decoders, zoom, compare with what the browser decodes itself. */

import { decode, model } from './client.js';

const MOST_ZOOM = 32;
const find = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const [stage, ours, theirs, chosen] = ['stage', 'ours', 'theirs', 'decoder'].map(find);
const view = { x: 0, y: 0, zoom: 1 };
/** @type {File | null} */
let stream = null;
/** @type {AbortController | null} */
let running = null;

async function show() {
  if (!stream) return;
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  find('said').textContent = '';
  const start = performance.now();
  try {
    const bitmap = await decode(stream, { decoder: chosen.value, signal });
    const took = performance.now() - start;
    const { width, height } = bitmap;
    const fresh = ours.width !== width || ours.height !== height;
    [ours.width, ours.height] = [width, height];
    ours.getContext('2d').drawImage(bitmap, 0, 0);
    bitmap.close();
    find('facts').textContent =
      `${chosen.value}: ${width} × ${height}, ${facts(stream, width * height)}, ${took.toFixed(0)} ms`;
    if (fresh) fit(width, height);
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    if (name !== 'Cancelled') find('said').textContent = `${stream.name}: ${message}`;
  }
}

/**
 * @param {File} file
 * @param {number} pixels
 */
function facts({ name, size }, pixels) {
  return `${name}, ${(size / 1000).toFixed(1)} kB, ${((8 * size) / pixels).toFixed(3)} bpp`;
}

/** @param {Iterable<File>} files */
function take(files) {
  for (const file of files) {
    if (file.name.endsWith('.tlc')) {
      stream = file;
      show();
      continue;
    }
    URL.revokeObjectURL(theirs.src);
    theirs.src = URL.createObjectURL(file);
    theirs.onload = () => {
      find('other').textContent = facts(file, theirs.naturalWidth * theirs.naturalHeight);
      fit(ours.width || theirs.naturalWidth, ours.height || theirs.naturalHeight);
    };
    theirs.onerror = () => (find('said').textContent = `${file.name}: this browser cannot show it`);
    find('beside').hidden = false;
  }
}

/**
 * @param {number} width
 * @param {number} height
 */
function fit(width, height) {
  const pane = stage.firstElementChild.getBoundingClientRect();
  view.zoom = Math.min(1, pane.width / width, pane.height / height);
  view.x = (pane.width - width * view.zoom) / 2;
  view.y = (pane.height - height * view.zoom) / 2;
  place();
}

function place() {
  const { x, y, zoom } = view;
  for (const element of [ours, theirs]) {
    element.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    element.parentElement.classList.toggle('close', zoom > 2);
  }
}

/**
 * @param {number} by
 * @param {number} x in the pane
 * @param {number} y
 */
function zoom(by, x, y) {
  const zoomed = Math.min(MOST_ZOOM, Math.max(1 / MOST_ZOOM, view.zoom * by));
  view.x = x - ((x - view.x) * zoomed) / view.zoom;
  view.y = y - ((y - view.y) * zoomed) / view.zoom;
  view.zoom = zoomed;
  place();
}

/** @type {Map<number, PointerEvent>} */
const pointers = new Map();
for (const pane of stage.children) {
  pane.addEventListener('wheel', (/** @type {WheelEvent} */ event) => {
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    zoom(2 ** (-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  });
  pane.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
    pane.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
  });
  pane.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, event);
    if (pointers.size === 1) {
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      place();
      return;
    }
    const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    if (!other) return;
    const apart = (/** @type {PointerEvent} */ one) =>
      Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    const box = pane.getBoundingClientRect();
    zoom(apart(event) / apart(before), other.clientX - box.left, other.clientY - box.top);
  });
  for (const end of ['pointerup', 'pointercancel']) {
    pane.addEventListener(end, (/** @type {any} */ event) => pointers.delete(event.pointerId));
  }
}

addEventListener('dragover', (event) => {
  event.preventDefault();
  stage.classList.add('over');
});
addEventListener('dragleave', () => stage.classList.remove('over'));
addEventListener('drop', (event) => {
  event.preventDefault();
  stage.classList.remove('over');
  take(event.dataTransfer?.files ?? []);
});
find('file').addEventListener('change', (/** @type {any} */ event) => take(event.target.files));
chosen.addEventListener('change', show);

const { decoders, defaultDecoder } = await model();
for (const [name, { scale, purpose }] of Object.entries(decoders)) {
  if (scale === 1) chosen.add(new Option(name, name, false, name === defaultDecoder));
  chosen.lastElementChild?.setAttribute('title', purpose);
}
if (!stream) take(find('file').files); // chosen before this script was there
