// Small helpers of all modules.

export const $ = (id) => document.getElementById(id);

// An element whose text is set as text, never as markup.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// Position of the last value <= x in a rising list, 0 where all are larger.
export function lastAtMost(list, x) {
  let low = 0;
  let high = list.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (list[middle] <= x) low = middle;
    else high = middle - 1;
  }
  return low;
}

// Position of the value nearest to x in a rising list.
export function nearest(list, x) {
  const place = lastAtMost(list, x);
  return place + 1 < list.length && list[place + 1] - x < x - list[place] ? place + 1 : place;
}

export const seconds = (us) => (us / 1e6).toFixed(3);

// A score as people read it: shares and normalised errors in percent.
export function scoreText(name, value) {
  if (value === null || value === undefined) return "–";
  if (name === "overall") return value.toFixed(1);
  if (/nme/.test(name)) return (100 * value).toFixed(2) + " %";
  if (/ratio/.test(name)) return (100 * value).toFixed(0) + " %";
  if (/_px$/.test(name)) return value.toFixed(2) + " px";
  if (/_mm$/.test(name)) return value.toFixed(1) + " mm";
  if (/_ms$/.test(name)) return value.toFixed(0) + " ms";
  if (/_db$/.test(name)) return value.toFixed(1) + " dB";
  return value.toFixed(2);
}

const colours = new Map();

// A colour of the style sheet; asked for with every frame, so kept until the theme changes.
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}

export const forgetColours = () => colours.clear();

// Make a canvas as sharp as the screen; returns its size in CSS pixels and the context.
export function fitted(canvas) {
  const box = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(box.width * scale));
  const height = Math.max(1, Math.round(box.height * scale));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { width: box.width, height: box.height, context };
}
