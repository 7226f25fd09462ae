// Curves over the clip's time with words, phones and events beneath; a click jumps to that frame.

import { $, clamp, colour, element, fitted, lastAtMost, nearest, seconds } from "./util.js";

const LANES = [
  { name: "nme", label: "Error", unit: "%", second: "held_out_nme", tone: "--curve-error", worst: "max" },
  { name: "jitter_px", label: "Jitter", unit: "px", tone: "--curve-jitter", worst: "max" },
  { name: "mouth", label: "Mouth", unit: "%", tone: "--curve-mouth", worst: "max" },
  { name: "sound_db", label: "Sound", unit: "dB", tone: "--curve-sound", worst: "max", base: -60 },
  { name: "sync", label: "Sync", unit: "r", tone: "--curve-sync", worst: "min", low: -1, high: 1, line: 0 },
];
const LANE = 34;
const ROW = 19;

export class Strip {
  constructor(onSeek) {
    this.onSeek = onSeek;
    this.canvas = $("curves");
    this.clip = null;
    this.height = LANES.length * LANE + 2 * ROW + 4;
    this.curves = {};
    this.frame = 0;
    this.marks = [];
    this.pending = null;
    this.listen();
  }

  listen() {
    const frameAt = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return nearest(this.clip.pts_us, ((event.clientX - box.left) / box.width) * this.clip.duration_us);
    };
    let held = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (!this.clip?.pts_us.length) return;
      held = true;
      this.canvas.setPointerCapture(event.pointerId);
      this.onSeek(frameAt(event));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.clip?.pts_us.length) return;
      if (held) this.onSeek(frameAt(event));
      this.hint(frameAt(event), event);
    });
    const release = () => {
      held = false;
    };
    this.canvas.addEventListener("pointerup", release);
    this.canvas.addEventListener("pointerleave", () => {
      $("tip").hidden = true;
    });
  }

  hint(frame, event) {
    const lines = [`frame ${frame}  ${seconds(this.clip.pts_us[frame])} s`];
    for (const lane of this.lanes) {
      const value = this.curves[lane.name][frame];
      lines.push(`${lane.label} ${value === null ? "not measured" : `${value.toFixed(2)} ${lane.unit}`}`);
    }
    const tip = $("tip");
    tip.textContent = lines.join("\n");
    tip.hidden = false;
    const box = $("strip").getBoundingClientRect();
    const left = clamp(event.clientX - box.left + 12, 0, box.width - tip.offsetWidth - 4);
    tip.style.left = `${left}px`;
  }

  use(clip) {
    this.clip = clip;
    this.curves = {};
    this.add(clip.curves || {});
  }

  add(curves) {
    for (const [name, values] of Object.entries(curves)) if (Array.isArray(values)) this.curves[name] = values;
    this.lanes = LANES.filter((lane) => this.curves[lane.name]?.some((value) => value !== null));
    this.rows = [];
    for (const name of ["words", "phones", "events"]) {
      const items = this.clip[name]?.filter(timed);
      if (items?.length) this.rows.push({ name, items });
    }
    this.buttons();
    // never lower than before: the picture above would jump from clip to clip
    this.height = Math.max(this.height, this.lanes.length * LANE + this.rows.length * ROW + 4);
    this.canvas.style.height = `${this.height}px`;
  }

  // The frame where a curve is worst, null without one.
  worst(name) {
    const lane = LANES.find((item) => item.name === name);
    const values = this.curves[name];
    if (!lane || !values) return null;
    let best = null;
    values.forEach((value, frame) => {
      if (value === null) return;
      if (best === null || (lane.worst === "max" ? value > values[best] : value < values[best])) best = frame;
    });
    return best;
  }

  buttons() {
    const list = this.lanes.map((lane) => {
      const worst = this.worst(lane.name);
      const peak = this.curves[lane.name][worst];
      const title = `Jump to the ${lane.worst === "max" ? "highest" : "lowest"} value, frame ${worst}`;
      return element(
        "button",
        { type: "button", class: "lane", title, "aria-label": `${lane.label}: ${title}`, onclick: () => this.onSeek(worst) },
        element("span", { text: lane.label }),
        element("span", { class: "figure", text: `${peak.toFixed(lane.unit === "dB" ? 0 : 2)} ${lane.unit}` }),
      );
    });
    const rows = this.rows.map((row) => element("div", { class: "lane row-name", text: row.name }));
    $("lanes").replaceChildren(...list, ...rows);
  }

  set(frame, marks, pending) {
    this.frame = frame;
    this.marks = marks;
    this.pending = pending;
    this.draw();
  }

  draw() {
    if (!this.clip) return;
    const { context: c, width, height } = fitted(this.canvas);
    c.clearRect(0, 0, width, height);
    const length = this.clip.duration_us || 1;
    const x = (us) => (us / length) * width;
    this.shade(c, x, height);
    this.lanes.forEach((lane, place) => this.lane(c, lane, place * LANE, width, x));
    this.rows.forEach((row, place) => this.row(c, row, this.lanes.length * LANE + place * ROW, x));
    const now = this.clip.pts_us[this.frame];
    if (now !== undefined) {
      const next = this.clip.pts_us[this.frame + 1] ?? length;
      c.fillStyle = colour("--playhead-soft");
      c.fillRect(x(now), 0, Math.max(1, x(next) - x(now)), height);
      c.fillStyle = colour("--playhead");
      c.fillRect(x((now + next) / 2) - 0.75, 0, 1.5, height);
    }
  }

  shade(c, x, height) {
    const { pts_us: pts, valid, duration_us: length } = this.clip;
    c.fillStyle = colour("--invalid");
    valid?.forEach((good, frame) => {
      if (!good) c.fillRect(x(pts[frame]), 0, Math.max(1, x((pts[frame + 1] ?? length) - pts[frame])), height);
    });
    const spans = [...this.marks];
    if (this.pending !== null) spans.push({ start_us: pts[this.pending], end_us: pts[this.frame + 1] ?? length });
    for (const { start_us: start, end_us: end } of spans) {
      c.fillStyle = colour("--mark");
      c.fillRect(x(start), 0, Math.max(2, x(end) - x(start)), height);
      c.fillStyle = colour("--bad");
      c.fillRect(x(start), 0, Math.max(2, x(end) - x(start)), 3);
    }
  }

  lane(c, lane, top, width, x) {
    const values = this.curves[lane.name];
    const second = lane.second && this.curves[lane.second];
    const known = [...values, ...(second || [])].filter((value) => value !== null);
    const low = lane.low ?? lane.base ?? 0;
    const high = lane.high ?? Math.max(low + 1e-6, ...known) * (lane.base === undefined ? 1.08 : 1);
    const span = (lane.base === undefined ? high : Math.max(high, lane.base / 4)) - low;
    const y = (value) => top + LANE - 3 - clamp((value - low) / span, 0, 1) * (LANE - 8);
    c.fillStyle = colour("--rule");
    c.fillRect(0, top + LANE - 1, width, 1);
    if (lane.line !== undefined) c.fillRect(0, y(lane.line), width, 1);
    const path = (list, tone, thin) => {
      c.strokeStyle = tone;
      c.lineWidth = thin ? 1 : 1.6;
      c.beginPath();
      let open = false;
      list.forEach((value, frame) => {
        if (value === null) {
          open = false;
          return;
        }
        const here = this.middle(frame, x);
        if (open) c.lineTo(here, y(value));
        else c.moveTo(here, y(value));
        open = true;
      });
      c.stroke();
    };
    if (second) path(second, colour("--curve-second"), true);
    path(values, colour(lane.tone), false);
    const worst = this.worst(lane.name);
    c.fillStyle = colour(lane.tone);
    c.beginPath();
    c.arc(this.middle(worst, x), y(values[worst]), 3, 0, 7);
    c.fill();
  }

  middle(frame, x) {
    const { pts_us: pts, duration_us: length } = this.clip;
    return x((pts[frame] + (pts[frame + 1] ?? length)) / 2);
  }

  row(c, row, top, x) {
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.textAlign = "center";
    const now = this.clip.pts_us[this.frame];
    for (const item of row.items) {
      const left = x(item.start_us);
      const wide = Math.max(1, x(item.end_us) - left - 1);
      const here = item.start_us <= now && now < item.end_us;
      c.fillStyle = colour(here ? "--label-now" : item.interpolated ? "--label-guess" : "--label");
      c.fillRect(left, top + 2, wide, ROW - 3);
      const text = row.name === "events" ? `${item.kind}: ${item.label}` : item.label;
      if (c.measureText(text).width <= wide - 2) {
        c.fillStyle = colour(here ? "--label-now-text" : "--text");
        c.fillText(text, left + wide / 2, top + ROW / 2 + 1);
      }
    }
  }
}

// Words that are said, but nobody knows when, have no times.
function timed(item) {
  return item.start_us !== null;
}

function style(word) {
  if (!timed(word)) return "word untimed";
  return word.interpolated ? "word guess" : "word";
}

// The word and phones at a time, as text beneath the picture.
export function showSpoken(clip, us) {
  const box = $("spoken");
  if (!clip?.words.length) {
    const said = clip?.index.transcript;
    box.replaceChildren(element("span", { class: "muted", text: said ? `${said} (not aligned)` : "No words" }));
    return;
  }
  if (box.clip !== clip) {
    box.clip = clip;
    box.replaceChildren(
      element("span", { class: "phone" }),
      ...clip.words.map((word) => element("span", { class: style(word), text: word.label })),
    );
    box.current = -2;
  }
  const starts = (box.starts ??= new WeakMap());
  if (!starts.has(clip)) {
    const words = clip.words.filter(timed);
    starts.set(clip, { timed: words, words: words.map((w) => w.start_us), phones: clip.phones.map((p) => p.start_us) });
  }
  const at = (items, list) => {
    if (!items.length) return -1;
    const place = lastAtMost(list, us);
    return items[place].start_us <= us && us < items[place].end_us ? place : -1;
  };
  const known = starts.get(clip);
  const spoken = at(known.timed, known.words);
  const word = spoken < 0 ? -1 : clip.words.indexOf(known.timed[spoken]);
  const phone = at(clip.phones, known.phones);
  if (word !== box.current) {
    box.children[box.current + 1]?.classList.toggle("now", false);
    if (word >= 0) {
      const active = box.children[word + 1];
      active.classList.add("now");
      box.scrollLeft = active.offsetLeft - box.clientWidth / 2;
    }
    box.current = word;
  }
  box.children[0].textContent = phone >= 0 ? clip.phones[phone].label : "·";
}
