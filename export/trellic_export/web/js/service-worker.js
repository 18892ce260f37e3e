/**
 * A service worker that keeps the decoder and its model, so that a second visit fetches nothing.
 *
 * It looks after the files of its own folder alone, and only for pages within its scope. What it
 * keeps hangs on the stream id and on the hashes of model.json, which is asked for anew each time
 * there is a network.
 */

const FOLDER = new URL('./', self.location.href).href;
const PREFIX = 'trellic:';
const MANIFEST = `${FOLDER}model.json`;
const scope = /** @type {any} */ (self);

scope.addEventListener('install', () => scope.skipWaiting());
scope.addEventListener('activate', (/** @type {any} */ event) => {
  event.waitUntil(scope.clients.claim());
});
scope.addEventListener('fetch', (/** @type {any} */ event) => {
  const { method, url } = event.request;
  if (method !== 'GET' || !url.startsWith(FOLDER) || new URL(url).pathname.endsWith('.tlc')) return;
  event.respondWith(url === MANIFEST ? manifest(event.request) : kept(event.request));
});

/**
 * model.json from the network, or the one that is kept; a new one throws away what hung on the old.
 *
 * @param {Request} request
 */
async function manifest(request) {
  const response = await fetch(request, { cache: 'no-cache' }).catch(() => null);
  if (!response?.ok) return (await caches.match(request)) ?? response ?? Response.error();
  const name = await nameFor(response.clone());
  for (const other of await caches.keys()) {
    if (other.startsWith(PREFIX) && other !== name) await caches.delete(other);
  }
  await (await caches.open(name)).put(request, response.clone());
  return response;
}

/** @param {Response} response */
async function nameFor(response) {
  const hash = await crypto.subtle.digest('SHA-256', await response.arrayBuffer());
  return `${PREFIX}${new Uint8Array(hash).slice(0, 8).join('.')}`;
}

/**
 * A file from the cache, or from the network into the cache.
 *
 * @param {Request} request
 */
async function kept(request) {
  const found = await caches.match(request);
  if (found) return found;
  const response = await fetch(request);
  const name = (await caches.keys()).find((key) => key.startsWith(PREFIX));
  if (response.ok && name) await (await caches.open(name)).put(request, response.clone());
  return response;
}
