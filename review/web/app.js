// The page: wires queue, player, drawings and decisions together, and gives every action a key.

import { Outbox, source } from "./api.js";
import { showFacts, showStatistics, showWhy } from "./facts.js";
import { HeadView } from "./head3d.js";
import { Judge } from "./judge.js";
import { KEYS } from "./keys.js";
import { MeshSource, PosedMesh, webglProblem } from "./mesh.js";
import { Player } from "./player.js";
import { Queue } from "./queue.js";
import { Stage, VIEWS } from "./stage.js";
import { Strip, showSpoken } from "./strip.js";
import { loadThree } from "./three.js";
import { $, element, forgetColours, seconds } from "./util.js";

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2];
const KEPT = 12;
const HALF_LOOP_US = 500_000;

class App {
  async start() {
    this.cache = new Map();
    const firstPage = Queue.first();
    if (!location.hash) firstPage.then((page) => page.rows.length && this.load(page.rows[0].clip_id), () => {});
    this.session = await source.session();
    this.clip = null;
    this.posed = new PosedMesh();
    this.stage = new Stage(this.posed);
    this.head = new HeadView(this.posed);
    this.strip = new Strip((frame) => this.player.seek(frame));
    this.player = new Player($("video"), (frame) => this.showFrame(frame), () => this.showControls());
    this.judge = new Judge(this.session, () => this.drawStrip());
    this.queue = new Queue(this.session, (id) => this.open(id));
    this.outbox = new Outbox((...state) => this.showSaved(...state), (...answer) => this.answered(...answer));
    this.header();
    this.bind();
    await this.queue.reload(firstPage);
    const asked = decodeURIComponent(location.hash.slice(1));
    const first = asked || this.queue.rows.find((row) => !row.verdict && !this.outbox.ids.has(row.clip_id))?.clip_id;
    if (first) await this.open(first);
    else this.finished();
    this.showProgress();
    document.documentElement.dataset.ready = "true";
  }

  header() {
    const { name, version, reviewer, blind, save_problem: problem } = this.session;
    document.title = `${name} – talkset review`;
    $("dataset-name").textContent = `${name} ${version}${blind ? " · second look" : ""}`;
    $("reviewer").textContent = reviewer;
    if (problem) this.notice(`Decisions cannot be saved: ${problem}. Start talkset review with --journal FOLDER.`);
    if (source.readOnly) {
      this.notice("An export: everything can be looked at, decisions are made with talkset review.");
      for (const id of ["accept", "reject", "skip", "undo"]) $(id).disabled = true;
    }
    for (const speed of SPEEDS) $("speed").append(element("option", { value: speed, text: `${speed}×` }));
    $("speed").value = "1";
    for (const [name_, label] of VIEWS) {
      $("views").append(element("button", { type: "button", role: "radio", "data-view": name_, text: label, onclick: () => this.setView(name_) }));
    }
    this.showView();
  }

  notice(text) {
    $("notice").textContent = text;
    $("notice").hidden = false;
  }

  toast(text, tone = "") {
    const box = $("toast");
    box.textContent = text;
    box.className = `toast shown ${tone}`;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => box.classList.remove("shown"), 3200);
  }

  // Everything of a clip that is fetched, kept for going back and fetched ahead for going on.
  load(id) {
    const kept = this.cache.get(id);
    if (kept) {
      this.cache.delete(id);
      this.cache.set(id, kept);
      return kept;
    }
    const view = source.clip(id);
    const made = {
      view,
      curves: null,
      points: view.then((clip) => (clip.fitted ? source.array(id, "landmarks", 0) : null)),
      video: view.then((clip) => (clip.media.problem ? null : source.video(id, false))),
    };
    for (const promise of [made.view, made.points, made.video]) promise.catch(() => {});
    this.cache.set(id, made);
    while (this.cache.size > KEPT) {
      const [oldest, dropped] = this.cache.entries().next().value;
      this.cache.delete(oldest);
      dropped.video.then((url) => url?.startsWith("blob:") && URL.revokeObjectURL(url), () => {});
    }
    return made;
  }

  meshOf(clip) {
    return new MeshSource(clip, this.session.block, () => {
      if (this.clip !== clip) return;
      const problem = this.meshes.problem;
      $("head-message").textContent = problem ?? "";
      $("head-message").hidden = !problem;
      this.draw();
    });
  }

  async open(id) {
    const began = performance.now();
    this.opening = id;
    const loaded = this.load(id);
    let clip = null;
    try {
      clip = await loaded.view;
    } catch (error) {
      this.cache.delete(id);
      if (this.opening === id) this.toast(error.message, "bad");
      return;
    }
    if (this.opening !== id) return;
    this.clip = clip;
    history.replaceState(null, "", `#${encodeURIComponent(id)}`);
    this.queue.select(id);
    this.player.part = null;
    this.stage.use(clip);
    this.head.use(clip);
    this.posed.use(null);
    this.judge.use(clip);
    showWhy(clip, this.session, () => this.jumpWorst());
    document.documentElement.dataset.clip = id;
    this.strip.use(clip);
    showFacts(clip, this.session);
    showSpoken(clip, 0);
    this.afterVideo(loaded, clip, began);
  }

  // A clip can be judged before its picture is there: keys are never lost to a slow video.
  async afterVideo(loaded, clip, began) {
    await this.openVideo(loaded, clip);
    if (this.clip !== clip) return;
    document.documentElement.dataset.shown = clip.clip_id;
    document.documentElement.dataset.openMs = (performance.now() - began).toFixed(1);
    this.later(loaded, clip);
  }

  async openVideo(loaded, clip) {
    const message = $("message");
    message.hidden = true;
    const rendered = this.stage.view === "rendered";
    try {
      if (!rendered && clip.media.problem) throw new Error(clip.media.problem);
      if (rendered) message.textContent = "Rendering …";
      message.hidden = !rendered;
      const url = rendered ? await (loaded.rendered ??= source.video(clip.clip_id, true)) : await loaded.video;
      if (this.clip !== clip) return;
      const pts = rendered ? clip.pts_us : clip.media.pts_us;
      const start = this.resume?.id === clip.clip_id ? this.resume.frame : (clip.worst_frame ?? 0);
      this.resume = null;
      this.player.video.playbackRate = Number($("speed").value);
      this.player.video.addEventListener("loadedmetadata", () => this.stage.layout(), { once: true });
      await this.player.load(url, pts, clip.duration_us ?? 0, start);
      this.player.video.playbackRate = Number($("speed").value);
      message.hidden = true;
    } catch (error) {
      if (rendered) loaded.rendered = null;
      if (this.clip !== clip) return;
      this.player.clear();
      message.textContent = error.message;
      message.hidden = false;
      this.showFrame(clip.worst_frame ?? 0);
      return;
    }
  }

  showMesh(loaded, clip) {
    this.meshes = webglProblem() ? { problem: webglProblem(), faces: null } : (loaded.meshes ??= this.meshOf(clip));
    $("head-message").textContent = this.meshes.problem ?? "";
    $("head-message").hidden = !this.meshes.problem;
    this.posed.use(this.meshes);
    loadThree().then(() => this.draw());
  }

  // What may come after the first picture: mesh, points, slow curves, the next clip.
  async later(loaded, clip) {
    this.showMesh(loaded, clip);
    loaded.points.then((points) => {
      if (points && this.clip === clip) {
        this.stage.setPoints(points);
        this.draw();
      }
    }, (error) => this.toast(error.message, "bad"));
    if (clip.fitted) {
      loaded.curves ??= source.curves(clip.clip_id);
      loaded.curves.then((curves) => {
        if (this.clip !== clip) return;
        this.strip.add(curves);
        this.drawStrip();
      }, () => {});
    }
    const next = this.queue.upcoming;
    if (!next) return;
    const ahead = this.load(next);
    const view = await ahead.view.catch(() => null);
    await Promise.allSettled([ahead.video, ahead.points]);
    if (view?.fitted && !webglProblem()) {
      ahead.meshes ??= this.meshOf(view);
      ahead.meshes.request?.(Math.floor((view.worst_frame ?? 0) / this.session.block));
      ahead.curves ??= source.curves(next);
      ahead.curves.catch(() => {});
    }
  }

  get frame() {
    return this.player.pts.length ? this.player.frame : this.stillFrame;
  }

  // The frame of the fit that is shown, by its time: the video may have other frames.
  showFrame(frame) {
    this.stillFrame = frame;
    const { clip } = this;
    if (!clip) return;
    this.draw();
    this.drawStrip();
    const us = (this.player.pts.length ? this.player.pts : clip.pts_us)[frame];
    if (us === undefined) return;
    showSpoken(clip, us);
    const count = this.player.pts.length || clip.pts_us.length;
    const parts = [`frame ${frame} of ${count}`, `${seconds(us)} s`];
    if (clip.valid && !clip.valid[frame]) parts.push("no face");
    if (this.player.inexact) parts.push("this browser shows a frame nearby");
    $("frame-tag").textContent = parts.join(" · ");
    document.documentElement.dataset.frame = String(frame);
  }

  draw() {
    const frame = this.frame;
    if (frame === undefined || frame < 0) return;
    if (this.stage.view !== "rendered") this.stage.draw(frame);
    this.drawLater();
  }

  drawStrip() {
    this.drawLater();
  }

  // The head in 3D and the curves follow the picture once a screen refresh, however often they are asked to.
  drawLater() {
    this.refresh ??= requestAnimationFrame(() => {
      this.refresh = null;
      const frame = Math.max(0, this.frame ?? 0);
      this.head.draw(frame);
      if (this.clip) this.strip.set(frame, this.judge.marks, this.judge.pending);
    });
  }

  jumpWorst(name = "nme") {
    const frame = this.strip.worst(name);
    if (frame !== null) this.player.seek(frame);
  }

  setView(view) {
    const before = this.stage.view;
    this.stage.view = view;
    this.showView();
    this.stage.layout();
    if ((view === "rendered") !== (before === "rendered") && this.clip) {
      this.resume = { id: this.clip.clip_id, frame: this.frame };
      this.stage.blank();
      this.openVideo(this.load(this.clip.clip_id), this.clip);
    } else this.draw();
  }

  showView() {
    for (const button of $("views").children) {
      button.setAttribute("aria-checked", String(button.dataset.view === this.stage.view));
    }
  }

  showControls() {
    const { playing } = this.player;
    $("play").dataset.playing = String(playing);
    $("play").setAttribute("aria-label", playing ? "Pause (Space)" : "Play (Space)");
    $("loop").setAttribute("aria-pressed", String(this.player.looping));
    $("mute").setAttribute("aria-pressed", String(this.player.video.muted));
    if (this.frame >= 0 && this.clip) this.showFrame(this.frame);
  }

  // Play the second around this frame over and over, or the whole clip again.
  loopHere() {
    const { player } = this;
    if (player.range || !player.pts.length) {
      player.part = null;
      this.toast("The whole clip plays");
      return;
    }
    const now = player.pts[Math.max(0, player.frame)];
    const near = player.pts.map((us, frame) => (Math.abs(us - now) <= HALF_LOOP_US ? frame : -1)).filter((frame) => frame >= 0);
    player.part = { start: near[0], stop: near[near.length - 1] + 1 };
    player.goTo(near[0]);
    player.play();
    this.toast("The second around this frame plays; L for the whole clip");
  }

  setSpeed(step) {
    const place = Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(Number($("speed").value)) + step));
    $("speed").value = String(SPEEDS[place]);
    this.player.video.playbackRate = SPEEDS[place];
  }

  setOpacity(change) {
    const box = $("opacity");
    if (change) box.value = String(Number(box.value) + change);
    this.stage.opacity = Number(box.value) / 100;
    this.draw();
  }

  // Judge the clip at hand and go on to the next one that is to do.
  async decide(verdict, reason) {
    const { clip } = this;
    if (!clip || source.readOnly || this.deciding) return;
    if (this.session.save_problem) {
      this.toast(`Not saved: ${this.session.save_problem}`, "bad");
      return;
    }
    this.deciding = true;
    try {
      if (reason) this.judge.toggle(reason, true);
      const decision = this.judge.decision(verdict);
      this.outbox.add(clip.clip_id, decision);
      this.judge.forget();
      clip.mine = { ...decision, stale: false, reviewer: this.session.reviewer };
      this.queue.decided(clip.clip_id, verdict);
      const next = await this.queue.nextOpen(clip.clip_id);
      if (next) await this.open(next);
      else this.finished();
    } finally {
      this.deciding = false;
    }
  }

  answered(id, answer, problem) {
    const kept = this.cache.get(id);
    if (problem) {
      this.toast(`Not saved (${id}): ${problem}`, "bad");
      kept?.view.then((clip) => {
        clip.mine = null;
      });
      this.queue.decided(id, null);
      return;
    }
    kept?.view.then((clip) => {
      clip.mine = answer.saved;
      if (this.clip === clip) {
        this.judge.seen = answer.saved.decision_id;
        this.judge.showState();
      }
    });
    if (answer.replaced) {
      const when = new Date(answer.replaced.time).toLocaleTimeString();
      this.toast(`Another tab had said ${answer.replaced.verdict} at ${when}; yours counts now, both are kept`, "warn");
    }
    clearTimeout(this.progressTimer);
    this.progressTimer = setTimeout(() => this.showProgress(), 250);
  }

  async undo() {
    if (source.readOnly) return;
    await this.outbox.flush();
    try {
      const { clip_id: id, verdict } = await source.undo();
      if (!id) {
        this.toast("Nothing to undo");
        return;
      }
      this.cache.delete(id);
      const view = await this.load(id).view;
      this.queue.decided(id, view.mine?.verdict ?? null);
      await this.open(id);
      this.toast(`Taken back: ${verdict}`);
      this.showProgress();
    } catch (error) {
      this.toast(error.message, "bad");
    }
  }

  finished() {
    this.toast(this.queue.rows.length ? "All clips of this list are judged" : "No clip is left to do in this list", "good");
    if (!this.clip) $("message").textContent = "Nothing is left to do here. Choose another list at the left.";
    $("message").hidden = Boolean(this.clip);
  }

  showSaved(state, waiting, problem) {
    const box = $("saved");
    box.dataset.state = state;
    if (state === "saved") box.textContent = "Saved";
    else if (state === "saving") box.textContent = "Saving …";
    else box.textContent = `${waiting} not saved yet, trying again`;
    box.title = problem ?? "";
    if (state === "failed") this.notice(`${waiting} decisions wait in this browser: ${problem}. They are sent again by themselves.`);
    else if (!this.session?.save_problem && !source.readOnly) $("notice").hidden = true;
  }

  async showProgress() {
    const progress = await source.progress().catch(() => null);
    if (!progress) return;
    this.progress = progress;
    const all = this.session.clips;
    const share = (count) => `${all ? (100 * count) / all : 0}%`;
    for (const name of ["accept", "reject", "skip"]) $(`meter-${name}`).style.width = share(progress.verdicts[name]);
    $("meter").setAttribute("aria-valuemax", String(all));
    $("meter").setAttribute("aria-valuenow", String(progress.decided));
    $("progress-text").textContent = `${progress.decided} of ${all.toLocaleString("en")}`;
    $("pace").textContent = progress.clips_per_hour === null ? "" : `${Math.round(progress.clips_per_hour)} / h`;
    if (progress.damage.length) {
      const { file, line } = progress.damage[0];
      this.notice(`${progress.damage.length} damaged line(s) in the journal (${file} line ${line}); all others count. See Statistics.`);
    }
  }

  openHelp() {
    const rows = KEYS.map(([keys, text]) => [
      element("dt", {}, ...keys.map((key) => element("kbd", { text: key }))),
      element("dd", { text }),
    ]);
    $("help-keys").replaceChildren(element("dl", { class: "keys" }, ...rows.flat()));
    $("help").showModal();
  }

  openStatistics() {
    if (this.progress) showStatistics(this.progress, this.session);
    $("statistics").showModal();
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    forgetColours();
    try {
      localStorage.setItem("talkset-review-theme", theme);
    } catch {
      // not kept
    }
    this.draw();
    this.drawStrip();
  }

  flipTheme() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    this.setTheme(now === "dark" ? "light" : "dark");
  }

  bind() {
    const click = (id, action) => $(id).addEventListener("click", action);
    click("accept", () => this.decide("accept"));
    click("reject", () => this.decide("reject"));
    click("skip", () => this.decide("skip"));
    click("undo", () => this.undo());
    click("first", () => this.player.seek(0));
    click("back", () => this.player.step(-1));
    click("forward", () => this.player.step(1));
    click("play", () => this.player.toggle());
    click("loop", () => this.act("o"));
    click("mute", () => this.act("x"));
    click("mark-start", () => this.act("["));
    click("mark-end", () => this.act("]"));
    click("theme", () => this.flipTheme());
    click("help-open", () => this.openHelp());
    click("statistics-open", () => this.openStatistics());
    click("head-still", () => this.act("h"));
    click("head-wire", () => this.toggleWire());
    click("head-front", () => this.head.front());
    click("pane", () => this.player.toggle());
    $("speed").addEventListener("change", () => this.setSpeed(0));
    $("opacity").addEventListener("input", () => this.setOpacity(0));
    document.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => {
      this.stage.layout();
      this.draw();
      this.drawStrip();
    }).observe($("stage"));
    window.addEventListener("beforeunload", (event) => {
      if (this.outbox.waiting.length) event.preventDefault();
    });
    window.addEventListener("hashchange", () => this.open(decodeURIComponent(location.hash.slice(1))));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      forgetColours();
      this.draw();
      this.drawStrip();
    });
  }

  toggleWire() {
    const on = $("head-wire").getAttribute("aria-pressed") !== "true";
    $("head-wire").setAttribute("aria-pressed", String(on));
    this.head.wire = on;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const field = event.target.closest?.("input:not([type=range]), textarea, select");
    if (field) {
      if (event.key === "Escape" || (event.key === "Enter" && field.tagName === "INPUT")) field.blur();
      return;
    }
    if (event.key === " " && event.target.closest?.("button, summary")) return;
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? /^Numpad([1-9])$/.exec(event.code)?.[1];
    if (digit) {
      const reason = this.session.reasons[Number(digit) - 1];
      if (event.shiftKey) this.decide("reject", reason.code);
      else this.judge.toggle(reason.code);
    } else if (!this.act(event.key.length === 1 ? event.key.toLowerCase() : event.key, event.shiftKey)) return;
    event.preventDefault();
  }

  // Carry out a key; false where it means nothing.
  act(key, shift = false) {
    const focus = (id) => {
      if ($("corrections").contains($(id))) $("corrections").open = true;
      $(id).focus();
      $(id).select?.();
    };
    const actions = {
      a: () => this.decide("accept"),
      r: () => this.decide("reject"),
      s: () => this.decide("skip"),
      u: () => this.undo(),
      " ": () => this.player.toggle(),
      ArrowLeft: () => this.player.step(shift ? -10 : -1),
      ArrowRight: () => this.player.step(shift ? 10 : 1),
      ArrowUp: () => this.queue.move(-1),
      ArrowDown: () => this.queue.move(1),
      k: () => this.queue.move(-1),
      j: () => this.queue.move(1),
      Home: () => this.player.seek(0),
      End: () => this.player.seek(Number.MAX_SAFE_INTEGER),
      w: () => this.jumpWorst(shift ? "jitter_px" : "nme"),
      o: () => {
        this.player.loops = !this.player.looping;
      },
      l: () => this.loopHere(),
      x: () => {
        this.player.video.muted = !this.player.video.muted;
        this.showControls();
      },
      ",": () => this.setSpeed(-1),
      ".": () => this.setSpeed(1),
      v: () => {
        const names = VIEWS.map(([name]) => name).filter((name) => name !== "rendered");
        this.setView(names[(names.indexOf(this.stage.view) + 1) % names.length]);
      },
      b: () => this.setView(this.stage.view === "source" ? "both" : "source"),
      z: () => this.setOpacity(-10),
      c: () => this.setOpacity(10),
      "[": () => this.judge.markStart(this.frame),
      "]": () => this.judge.markEnd(this.frame),
      n: () => focus("comment"),
      e: () => focus("fix-emotion"),
      t: () => focus("fix-transcript"),
      y: () => focus("fix-sync"),
      h: () => {
        this.head.still = !this.head.still;
        $("head-still").setAttribute("aria-pressed", String(this.head.still));
        this.head.draw(this.frame);
      },
      "/": () => focus("search"),
      g: () => $("sort").focus(),
      f: () => $("facts").scrollIntoView(),
      d: () => this.flipTheme(),
      i: () => this.openStatistics(),
      "?": () => this.openHelp(),
      Escape: () => document.activeElement?.blur(),
    };
    const action = actions[key];
    if (!action || (!this.clip && !["?", "d", "/", "g", "i"].includes(key))) return false;
    action();
    return true;
  }
}

try {
  const theme = localStorage.getItem("talkset-review-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // the system's theme
}

const app = new App();
app.start().catch((error) => {
  $("notice").textContent = `The review cannot start: ${error.message}`;
  $("notice").hidden = false;
});
