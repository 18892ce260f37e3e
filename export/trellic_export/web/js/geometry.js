/**
 * Rectangles, planes and slices: of pixels, latents or hyper-latents.
 *
 * @typedef {{top: number, bottom: number, left: number, right: number}} Rectangle ends excluded
 */

export const BLOCK = 16; // pixels a side: what slices are measured in, whatever the model's strides

/** Latent planes of one picture. */
export class Plane {
  /**
   * @param {number} width of the picture, in pixels
   * @param {number} height
   * @param {number} stride pixels per latent, each way
   * @param {number} cell latents per hyper-latent, each way
   */
  constructor(width, height, stride, cell) {
    this.width = width;
    this.height = height;
    this.stride = stride;
    this.cell = cell;
    const hyperStride = stride * cell;
    this.hyperRows = Math.ceil(height / hyperStride);
    this.hyperColumns = Math.ceil(width / hyperStride);
    this.rows = this.hyperRows * cell;
    this.columns = this.hyperColumns * cell;
    /** Latents that touch the picture; those beyond are not coded. */
    this.codedRows = Math.ceil(height / stride);
    this.codedColumns = Math.ceil(width / stride);
  }

  /** @returns {Rectangle} all latents */
  get all() {
    return { top: 0, bottom: this.rows, left: 0, right: this.columns };
  }
}

/**
 * Slices of a plane of latents, in slice (raster) order.
 *
 * @param {Plane} plane
 * @param {number} side of a slice, in latents
 * @returns {Rectangle[]}
 */
export function sliceGrid(plane, side) {
  const grid = [];
  for (let top = 0; top < plane.rows; top += side) {
    for (let left = 0; left < plane.columns; left += side) {
      grid.push({
        top,
        bottom: Math.min(top + side, plane.rows),
        left,
        right: Math.min(left + side, plane.columns),
      });
    }
  }
  return grid;
}

/**
 * @param {Rectangle} part
 * @returns {[number, number]} rows and columns
 */
export function shapeOf(part) {
  return [part.bottom - part.top, part.right - part.left];
}

/**
 * @param {Rectangle} part
 * @param {number} by
 * @returns {Rectangle} with a margin all round
 */
export function grown(part, by) {
  return {
    top: part.top - by,
    bottom: part.bottom + by,
    left: part.left - by,
    right: part.right + by,
  };
}

/**
 * @param {Rectangle} part
 * @param {Rectangle} other
 * @returns {Rectangle} what both share
 */
export function within(part, other) {
  return {
    top: Math.max(part.top, other.top),
    bottom: Math.min(part.bottom, other.bottom),
    left: Math.max(part.left, other.left),
    right: Math.min(part.right, other.right),
  };
}

/**
 * @param {Rectangle} part
 * @param {Rectangle} other
 * @returns {boolean} whether they share anything
 */
export function meet(part, other) {
  const [rows, columns] = shapeOf(within(part, other));
  return rows > 0 && columns > 0;
}

/**
 * @param {Rectangle} part
 * @param {number} by
 * @returns {Rectangle} the same in units `by` times as small
 */
export function finer(part, by) {
  return {
    top: part.top * by,
    bottom: part.bottom * by,
    left: part.left * by,
    right: part.right * by,
  };
}

/**
 * @param {Rectangle} part
 * @param {number} by
 * @returns {Rectangle} the least rectangle around it in units `by` times as large
 */
export function coarser(part, by) {
  return {
    top: Math.floor(part.top / by),
    bottom: Math.ceil(part.bottom / by),
    left: Math.floor(part.left / by),
    right: Math.ceil(part.right / by),
  };
}
