// A video stepped by its frames: which frame is on screen is read from the browser, never computed from a frame rate.
//
// Browsers seek to a time, not to a frame, and round at frame borders. So a seek goes to the middle of the frame's
// interval of presentation times, and requestVideoFrameCallback tells what was really shown.

import { lastAtMost, nearest } from "./util.js";

const PLACES = [0.5, 0.3, 0.7];
const WAIT_MS = 700;

export class Player {
  constructor(video, onFrame, onState) {
    this.video = video;
    this.onFrame = onFrame;
    this.onState = onState;
    this.pts = [];
    this.endUs = 0;
    this.frame = -1;
    this.looping = true;
    this.wanted = false; // whether it is to play: the element itself is paused for a moment where a range begins again
    this.range = null;
    this.target = null;
    this.pumping = null;
    this.waiter = null;
    this.inexact = false;
    this.generation = 0;
    video.addEventListener("play", () => this.onState());
    video.addEventListener("pause", () => this.onState());
    video.addEventListener("ended", () => this.atEnd());
    this.listen();
  }

  get playing() {
    return this.wanted;
  }

  get ready() {
    return this.pts.length > 0 && this.video.readyState >= 2;
  }

  listen() {
    if (!this.video.requestVideoFrameCallback) {
      this.video.addEventListener("timeupdate", () => this.shown(this.video.currentTime, false));
      return;
    }
    const step = (_, facts) => {
      this.shown(facts.mediaTime, true);
      this.video.requestVideoFrameCallback(step);
    };
    this.video.requestVideoFrameCallback(step);
  }

  // Load a video and show a frame of it; resolves once that is on screen, or another video was asked for.
  async load(url, pts, endUs, frame) {
    const mine = ++this.generation;
    this.stop();
    this.pts = pts;
    this.endUs = endUs;
    this.frame = -1;
    this.target = null;
    this.inexact = false;
    this.answer(null);
    const done = new Promise((resolve, reject) => {
      const stop = () => {
        this.video.removeEventListener("loadeddata", good);
        this.video.removeEventListener("error", bad);
      };
      const good = () => (stop(), resolve());
      const bad = () => (stop(), reject(new Error("the browser cannot play this video")));
      this.video.addEventListener("loadeddata", good);
      this.video.addEventListener("error", bad);
    });
    const first = Math.min(pts.length - 1, Math.max(0, frame));
    this.video.src = url;
    this.video.currentTime = this.middle(first); // decoding begins there, not at the start
    const shown = new Promise((resolve) => {
      this.waiter = resolve;
      setTimeout(resolve, WAIT_MS);
    });
    await done;
    await shown;
    if (mine === this.generation && this.frame !== first) await this.goTo(first);
  }

  clear() {
    this.generation++;
    this.wanted = false;
    this.pts = [];
    this.frame = -1;
    this.target = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  shown(mediaTime, exact) {
    if (!this.pts.length) return;
    const us = mediaTime * 1e6;
    this.frame = exact ? nearest(this.pts, us) : lastAtMost(this.pts, us + 1);
    this.onFrame(this.frame);
    this.answer(this.frame);
    const stop = this.range?.stop;
    if (stop !== undefined && this.wanted && !this.video.paused && this.frame >= stop - 1) this.atEnd();
  }

  answer(frame) {
    const waiter = this.waiter;
    this.waiter = null;
    waiter?.(frame);
  }

  middle(frame, place = 0.5) {
    const start = this.pts[frame];
    const end = frame + 1 < this.pts.length ? this.pts[frame + 1] : Math.max(this.endUs, start + 1000);
    return (start + place * (end - start)) / 1e6;
  }

  // Show a frame; the last of several wishes wins. Resolves when it is on screen.
  seek(frame) {
    if (!this.pts.length) return Promise.resolve(false);
    this.stop();
    return this.goTo(frame);
  }

  goTo(frame) {
    this.target = Math.min(this.pts.length - 1, Math.max(0, frame));
    this.pumping ??= this.pump().finally(() => {
      this.pumping = null;
    });
    return this.pumping;
  }

  step(frames) {
    const from = this.target ?? this.frame;
    return this.seek(from + frames);
  }

  async pump() {
    while (this.target !== null) {
      const wanted = this.target;
      const mine = this.generation;
      if (this.frame !== wanted) await this.show(wanted);
      if (mine !== this.generation) return;
      if (this.target === wanted) this.target = null;
    }
  }

  async show(wanted) {
    for (const place of PLACES) {
      const shown = await this.seekTime(this.middle(wanted, place));
      if (shown === null || this.target !== wanted) return;
      if (shown === wanted) {
        this.inexact = false;
        return;
      }
    }
    this.inexact = true;
    this.onState();
  }

  seekTime(time) {
    return new Promise((resolve) => {
      let timer = 0;
      const finish = (frame) => {
        clearTimeout(timer);
        resolve(frame);
      };
      this.waiter = finish;
      timer = setTimeout(() => {
        // no picture was presented, as in a hidden tab: the element's own time has to do
        if (this.waiter !== finish) return;
        this.shown(this.video.currentTime, false);
      }, WAIT_MS);
      this.video.currentTime = time;
    });
  }

  stop() {
    this.wanted = false;
    this.video.pause();
    this.onState();
  }

  async play() {
    this.wanted = true;
    this.video.loop = this.looping && !this.range;
    this.onState();
    await this.pumping; // a step that is under way ends first
    if (this.wanted) await this.video.play().catch(() => this.stop());
  }

  async toggle() {
    if (!this.pts.length) return;
    if (this.wanted) {
      this.stop();
      return;
    }
    const { start, stop } = this.span;
    if (this.frame >= stop - 1 || this.frame < start) this.goTo(start);
    await this.play();
  }

  set loops(on) {
    this.looping = on;
    this.video.loop = on && !this.range;
    this.onState();
  }

  // Frames [start, stop) to play, or null for all.
  set part(range) {
    this.range = range;
    this.video.loop = this.looping && !range;
    this.onState();
  }

  get span() {
    return this.range ?? { start: 0, stop: this.pts.length };
  }

  async atEnd() {
    if (!this.looping || !this.wanted) {
      this.stop();
      return;
    }
    this.video.pause();
    await this.goTo(this.span.start);
    if (this.wanted) await this.play();
  }
}
