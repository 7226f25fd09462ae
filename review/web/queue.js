// The list of clips, a page at a time, worst first.

import { source } from "./api.js";
import { $, element, scoreText } from "./util.js";

const PAGE = 60;
export const FILTERS = [
  ["open", "To do"],
  ["accept", "✓"],
  ["reject", "✗"],
  ["skip", "Skipped"],
  ["any", "All"],
];
const FILTER_NAMES = { accept: "Accepted", reject: "Rejected", open: "To do", skip: "Skipped", any: "All", conflict: "Reviewers disagree" };
const MARKS = { accept: "✓", reject: "✗", skip: "–" };

const FIRST = { sort: "overall", best_first: "false", verdict: source.readOnly ? "any" : "open", search: "", status: "accepted" };

export class Queue {
  // The page that is shown first, asked for while the page itself is still being set up.
  static first() {
    const page = source.queue({ ...FIRST, offset: 0, limit: PAGE });
    page.catch(() => {});
    return page;
  }

  constructor(session, onOpen) {
    this.session = session;
    this.onOpen = onOpen;
    this.rows = [];
    this.total = 0;
    this.current = null;
    this.loading = null;
    this.query = { ...FIRST };
    this.generation = 0;
    this.controls();
  }

  controls() {
    for (const score of this.session.scores) {
      $("sort").append(element("option", { value: score.name, text: score.label }));
    }
    $("sort").addEventListener("change", () => this.change({ sort: $("sort").value }));
    $("direction").addEventListener("click", () => {
      const best = this.query.best_first !== "true";
      $("direction").setAttribute("aria-pressed", String(best));
      $("direction").textContent = best ? "↓" : "↑";
      this.change({ best_first: String(best) });
    });
    let timer = 0;
    $("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.change({ search: $("search").value }), 180);
    });
    this.filters = new Map();
    for (const [name, label] of FILTERS) {
      const count = element("span", { class: "count" });
      const button = element(
        "button",
        { type: "button", role: "radio", "aria-checked": String(name === this.query.verdict), title: FILTER_NAMES[name],
          "aria-label": FILTER_NAMES[name], onclick: () => this.filter(name) },
        label, count,
      );
      this.filters.set(name, { button, count });
      $("verdicts").append(button);
    }
    for (const [name, values] of Object.entries(this.session.facets)) {
      if (values.length < 2) continue;
      const select = element("select", { "aria-label": `Only this ${name}`, title: name, onchange: () => this.change({ [name]: select.value }) });
      select.append(element("option", { value: "", text: name.replace("_", " ") }));
      for (const value of values) select.append(element("option", { value, text: value }));
      if (name === "status") {
        select.value = this.query.status;
      }
      $("facets").append(select);
    }
    $("list").addEventListener("scroll", () => this.more());
    $("list").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.move(step);
    });
  }

  filter(name) {
    for (const [other, { button }] of this.filters) button.setAttribute("aria-checked", String(other === name));
    return this.change({ verdict: name });
  }

  change(values) {
    Object.assign(this.query, values);
    return this.reload();
  }

  async reload(asked = null) {
    const mine = ++this.generation;
    this.loading = null;
    const page = await (asked ?? this.fetch(0));
    if (mine !== this.generation) return;
    this.rows = page.rows;
    this.total = page.total;
    this.counts = page.counts;
    $("list").replaceChildren(...this.rows.map((row) => this.item(row)));
    $("list").scrollTop = 0;
    this.foot();
    this.select(this.current);
  }

  fetch(offset) {
    const query = Object.fromEntries(Object.entries(this.query).filter(([, value]) => value !== ""));
    return source.queue({ ...query, offset, limit: PAGE });
  }

  // Rows that were judged since left an "open" list on the server: the next page begins after those that remain.
  get offset() {
    return this.rows.filter((row) => this.query.verdict === "any" || (row.verdict ?? "open") === this.query.verdict).length;
  }

  more(force = false) {
    const list = $("list");
    const near = list.scrollTop + list.clientHeight > list.scrollHeight - 400;
    if (this.loading || (!near && !force) || this.rows.length >= this.total) return this.loading;
    const mine = this.generation;
    this.loading = this.fetch(this.offset).then((page) => {
      if (mine !== this.generation) return;
      this.loading = null;
      const known = new Set(this.rows.map((row) => row.clip_id));
      const fresh = page.rows.filter((row) => !known.has(row.clip_id));
      this.rows.push(...fresh);
      if (!fresh.length) this.total = this.rows.length;
      list.append(...fresh.map((row) => this.item(row)));
      this.foot();
    });
    return this.loading;
  }

  item(row) {
    const name = row.transcript || row.source_uri?.split("/").pop() || row.clip_id;
    const score = scoreText(this.query.sort, row.score);
    const length = row.end_us === null || row.end_us === undefined ? "" : `${((row.end_us - row.start_us) / 1e6).toFixed(1)} s`;
    const about = [row.speaker, length, row.reason].filter(Boolean).join(" · ");
    const why = this.query.sort === "overall" && row.worst ? this.label(row.worst) : "";
    const made = element(
      "div",
      { class: "item", role: "option", id: `row-${row.clip_id}`, "aria-selected": "false", onclick: () => this.onOpen(row.clip_id) },
      element("span", { class: "mark", "aria-hidden": "true" }),
      element("span", { class: "name", text: name }),
      element("span", { class: "score", text: score, title: why }),
      element("span", { class: "about", text: about || row.status }),
      element("span", { class: "worst", text: why }),
    );
    this.paint(made, row);
    return made;
  }

  label(name) {
    return this.session.scores.find((score) => score.name === name)?.label ?? name;
  }

  paint(item, row) {
    const verdict = row.verdict ?? "";
    item.dataset.verdict = row.outcome === "conflict" ? "conflict" : verdict;
    item.querySelector(".mark").textContent = row.outcome === "conflict" ? "≠" : (MARKS[verdict] ?? "");
    item.setAttribute("aria-label", `${row.transcript || row.clip_id}, ${verdict || "to do"}, ${scoreText(this.query.sort, row.score)}`);
  }

  // Show a new verdict without asking the server again.
  decided(clipId, verdict, outcome) {
    const row = this.rows.find((item) => item.clip_id === clipId);
    if (!row) return;
    if (this.counts) {
      this.counts[row.verdict ?? "open"] -= 1;
      this.counts[verdict ?? "open"] += 1;
    }
    row.verdict = verdict;
    if (outcome !== undefined) row.outcome = outcome;
    const item = document.getElementById(`row-${clipId}`);
    if (item) this.paint(item, row);
    this.foot();
  }

  foot() {
    const shown = this.total === 1 ? "1 clip" : `${this.total.toLocaleString("en")} clips`;
    $("queue-foot").textContent = this.rows.length ? shown : "No clips here";
  }

  select(clipId) {
    this.current = clipId;
    for (const item of $("list").querySelectorAll('[aria-selected="true"]')) item.setAttribute("aria-selected", "false");
    const item = clipId && document.getElementById(`row-${clipId}`);
    $("list").setAttribute("aria-activedescendant", item ? item.id : "");
    if (!item) return;
    item.setAttribute("aria-selected", "true");
    item.scrollIntoView({ block: "nearest" });
  }

  place(clipId = this.current) {
    return this.rows.findIndex((row) => row.clip_id === clipId);
  }

  // The next clip without a verdict after a clip, else the first one; null when nothing is left.
  async nextOpen(clipId = this.current) {
    for (;;) {
      const from = this.place(clipId);
      const open = (row) => !row.verdict && row.clip_id !== clipId;
      const found = this.rows.slice(from + 1).find(open);
      if (found) return found.clip_id;
      const before = this.rows.length;
      if (before < this.total) await this.more(true);
      if (this.rows.length === before) return this.rows.find(open)?.clip_id ?? null;
    }
  }

  // What will probably be opened next, as far as it is loaded.
  get upcoming() {
    return this.rows.slice(this.place() + 1).find((row) => !row.verdict)?.clip_id ?? null;
  }

  async move(step) {
    const target = this.place() + step;
    if (target >= this.rows.length) await this.more(true);
    const row = this.rows[target];
    if (row) this.onOpen(row.clip_id);
  }
}
