// The decision at hand: verdict, reasons, marks, comment, corrections; drafts survive a reload.

import { $, element, seconds } from "./util.js";

const DRAFT = "talkset-review-draft-";
const FIXES = [
  ["emotion", "fix-emotion"],
  ["transcript", "fix-transcript"],
  ["sync_offset_ms", "fix-sync"],
];

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID().replaceAll("-", "");
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Judge {
  constructor(session, onChange) {
    this.session = session;
    this.onChange = onChange;
    this.clip = null;
    this.reasons = new Set();
    this.marks = [];
    this.pending = null;
    this.seen = null;
    this.opened = 0;
    session.reasons.forEach(({ code, label }, place) => {
      const button = element(
        "button",
        { type: "button", class: "reason", "aria-pressed": "false", "data-code": code, onclick: () => this.toggle(code) },
        element("kbd", { text: String(place + 1) }), element("span", { text: label }),
      );
      $("reasons").append(button);
    });
    for (const id of ["comment", ...FIXES.map(([, name]) => name)]) {
      $(id).addEventListener("input", () => this.changed());
    }
  }

  use(clip) {
    this.clip = clip;
    this.opened = performance.now();
    this.pending = null;
    this.seen = clip.mine?.decision_id ?? null;
    this.fill(clip.mine && !clip.mine.stale ? clip.mine : {});
    const draft = this.stored();
    if (draft) this.fill(draft);
    this.show();
  }

  fill(values) {
    this.reasons = new Set(values.reasons ?? []);
    this.marks = [...(values.marks ?? [])];
    $("comment").value = values.comment ?? "";
    const fixes = values.corrections ?? {};
    for (const [name, id] of FIXES) $(id).value = fixes[name] ?? this.clip.index[name] ?? "";
    $("corrections").open = Object.keys(fixes).length > 0;
  }

  get draftKey() {
    return DRAFT + this.clip.content_sha256;
  }

  stored() {
    try {
      return JSON.parse(localStorage.getItem(this.draftKey));
    } catch {
      return null;
    }
  }

  forget() {
    try {
      localStorage.removeItem(this.draftKey);
    } catch {
      // no storage, no draft
    }
  }

  changed() {
    if (!this.clip) return;
    try {
      localStorage.setItem(this.draftKey, JSON.stringify(this.values()));
    } catch {
      // no storage: the draft lives as long as the page
    }
    this.show();
    this.onChange();
  }

  corrections() {
    const found = {};
    for (const [name, id] of FIXES) {
      const text = $(id).value.trim();
      const known = this.clip.index[name];
      const value = name === "sync_offset_ms" ? (text === "" ? null : Number(text)) : text;
      if (value === null || value === "" || value === known || (typeof value === "number" && !Number.isFinite(value))) continue;
      found[name] = value;
    }
    return found;
  }

  values() {
    return {
      reasons: [...this.reasons],
      marks: this.marks,
      comment: $("comment").value.trim(),
      corrections: this.corrections(),
    };
  }

  // What is sent for a verdict.
  decision(verdict) {
    return {
      ...this.values(),
      verdict,
      seconds: (performance.now() - this.opened) / 1000,
      decision_id: newId(),
      seen: this.seen,
    };
  }

  toggle(code, on) {
    const now = on ?? !this.reasons.has(code);
    if (now) this.reasons.add(code);
    else this.reasons.delete(code);
    this.changed();
  }

  markStart(frame) {
    this.pending = frame;
    this.show();
    this.onChange();
  }

  markEnd(frame) {
    const pts = this.clip.pts_us;
    const [from, to] = [this.pending ?? frame, frame].sort((one, other) => one - other);
    const reason = this.reasons.size === 1 ? [...this.reasons][0] : null;
    this.marks.push({ start_us: pts[from], end_us: pts[to + 1] ?? this.clip.duration_us, reason });
    this.marks.sort((one, other) => one.start_us - other.start_us);
    this.pending = null;
    this.changed();
  }

  show() {
    for (const button of $("reasons").children) {
      button.setAttribute("aria-pressed", String(this.reasons.has(button.dataset.code)));
    }
    const label = (code) => this.session.reasons.find((reason) => reason.code === code)?.label ?? "";
    $("mark-list").replaceChildren(
      ...this.marks.map((mark, place) =>
        element(
          "li", {},
          element("span", { text: `${seconds(mark.start_us)}–${seconds(mark.end_us)} s ${label(mark.reason)}` }),
          element("button", { type: "button", class: "small", "aria-label": "Remove this mark", text: "×", onclick: () => {
            this.marks.splice(place, 1);
            this.changed();
          } }),
        ),
      ),
    );
    $("mark-start").setAttribute("aria-pressed", String(this.pending !== null));
    const count = Object.keys(this.corrections()).length;
    $("corrections-count").textContent = count ? `(${count})` : "";
    this.showState();
  }

  showState() {
    const { mine, others } = this.clip;
    const words = { accept: "accepted", reject: "rejected", skip: "skipped" };
    const lines = [];
    if (mine?.verdict) {
      lines.push([mine.verdict, mine.stale ? `You ${words[mine.verdict]} an earlier fit of this clip` : `You ${words[mine.verdict]} this clip`]);
    }
    for (const other of others ?? []) {
      const who = other.round === 2 ? `${other.reviewer} (second look)` : other.reviewer;
      lines.push([other.verdict, `${who}: ${words[other.verdict] ?? "not judged"}${other.comment ? ` – ${other.comment}` : ""}`]);
    }
    $("state").replaceChildren(...lines.map(([verdict, text]) => element("div", { class: `said ${verdict}`, text })));
    $("accept").setAttribute("aria-pressed", String(mine?.verdict === "accept" && !mine.stale));
    $("reject").setAttribute("aria-pressed", String(mine?.verdict === "reject" && !mine.stale));
    $("skip").setAttribute("aria-pressed", String(mine?.verdict === "skip" && !mine.stale));
  }
}
