// Where data comes from: the server, or a folder that `talkset review --export` wrote. Decisions wait here until saved.

const MAGIC = "TSR1";
const OUTBOX = "talkset-review-outbox";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function told(response) {
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    const said = await response.json();
    message = said.error + (said.remedy ? `. ${said.remedy}` : "");
  } catch {
    // no JSON: the status has to do
  }
  throw new ApiError(message, response.status);
}

const getJson = async (path) => (await told(await fetch(path))).json();

async function post(path, body) {
  return (
    await told(
      await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Talkset-Review": "1" },
        body: JSON.stringify(body),
      }),
    )
  ).json();
}

// An array as review/clip_view.py packs it: {header, buffer, offset of the values}.
export function unpack(buffer) {
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (magic !== MAGIC) throw new ApiError(`an array begins with ${magic}`, 0);
  const length = new DataView(buffer).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  return { header, buffer, offset: 8 + length };
}

const clipPath = (id) => `api/clips/${encodeURIComponent(id)}`;

class ServerSource {
  readOnly = false;
  session = () => getJson("api/session");
  progress = () => getJson("api/progress");
  queue = (query) => getJson(`api/queue?${new URLSearchParams(query)}`);
  clip = (id) => getJson(clipPath(id));
  curves = (id) => getJson(`${clipPath(id)}/curves`);
  undo = () => post("api/undo", {});
  judge = (id, values) => post(`${clipPath(id)}/decision`, values);

  async array(id, kind, block) {
    const response = await told(await fetch(`${clipPath(id)}/${kind}/${block}`));
    return unpack(await response.arrayBuffer());
  }

  // The whole video at once: seeking then needs no server, and every frame is at hand.
  async video(id, rendered) {
    const path = `${rendered ? "overlay" : "media"}/${encodeURIComponent(id)}.mp4`;
    const response = await told(await fetch(path));
    return URL.createObjectURL(await response.blob());
  }
}

class FolderSource {
  readOnly = true;
  constructor(data) {
    this.data = data;
  }

  session = async () => this.data.session;
  progress = async () => this.data.progress;

  async queue(query) {
    const words = (query.search || "").toLowerCase().split(/\s+/).filter(Boolean);
    const passes = (row) =>
      words.every((word) => JSON.stringify(row).toLowerCase().includes(word)) &&
      (query.verdict === "any" || (row.verdict || "open") === query.verdict ||
        (query.verdict === "conflict" && row.outcome === "conflict")) &&
      ["status", "speaker", "split", "reason", "emotion"].every((name) => !query[name] || row[name] === query[name]);
    const rows = this.data.rows.filter(passes).map((row) => ({ ...row, score: row.scores[query.sort] ?? null }));
    const worse = this.data.session.scores.find((score) => score.name === query.sort)?.worse === "low" ? -1 : 1;
    const sign = (query.best_first === "true" ? 1 : -1) * worse;
    const key = (row) => (row.score === null ? Infinity : sign * row.score);
    rows.sort((one, other) => key(one) - key(other) || (one.clip_id < other.clip_id ? -1 : 1));
    const start = Number(query.offset || 0);
    const page = rows.slice(start, start + Number(query.limit || 50));
    return { rows: page, total: rows.length, counts: this.data.counts };
  }

  async load(id) {
    if (!this.data.clips[id]) {
      await new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${encodeURIComponent(id)}.js`;
        script.onload = resolve;
        script.onerror = () => reject(new ApiError(`data/${id}.js is missing`, 404));
        document.head.append(script);
      });
    }
    return this.data.clips[id];
  }

  clip = async (id) => (await this.load(id)).view;
  curves = async (id) => (await this.load(id)).curves;

  async array(id, kind, block) {
    const text = (await this.load(id)).arrays[`${kind}/${block}`] ?? this.data.arrays[`${kind}/${block}`];
    if (!text) throw new ApiError(`this export holds no ${kind} of the clip`, 404);
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return unpack(bytes.buffer);
  }

  video = async (id, rendered) => `${rendered ? "overlays" : "media"}/${encodeURIComponent(id)}.mp4`;
  judge = () => Promise.reject(new ApiError("this is an export: decisions are not saved", 403));
  undo = this.judge;
}

export const source = window.TALKSET_EXPORT ? new FolderSource(window.TALKSET_EXPORT) : new ServerSource();

// Decisions in the order they were made, kept in the browser until the server has confirmed them.
export class Outbox {
  constructor(onState, onAnswer) {
    this.onState = onState;
    this.onAnswer = onAnswer;
    this.waiting = [];
    this.sending = null;
    try {
      this.waiting = JSON.parse(localStorage.getItem(OUTBOX)) || [];
    } catch {
      this.waiting = [];
    }
    if (this.waiting.length) this.flush();
  }

  get ids() {
    return new Set(this.waiting.map((item) => item.id));
  }

  add(id, values) {
    this.waiting.push({ id, values });
    this.keep();
    return this.flush();
  }

  keep() {
    try {
      if (this.waiting.length) localStorage.setItem(OUTBOX, JSON.stringify(this.waiting));
      else localStorage.removeItem(OUTBOX);
    } catch {
      // private windows may have no storage: the decision still waits in memory
    }
  }

  flush() {
    this.sending ??= this.send().finally(() => {
      this.sending = null;
    });
    return this.sending;
  }

  async send() {
    while (this.waiting.length) {
      const { id, values } = this.waiting[0];
      this.onState("saving", this.waiting.length);
      let answer = null;
      try {
        answer = await source.judge(id, values);
      } catch (error) {
        const final = error instanceof ApiError && [400, 401, 403, 404, 413, 415, 421].includes(error.status);
        if (!final) {
          this.onState("failed", this.waiting.length, error.message);
          setTimeout(() => this.flush(), 3000);
          return;
        }
        this.waiting.shift();
        this.keep();
        this.onAnswer(id, null, error.message);
        continue;
      }
      this.waiting.shift();
      this.keep();
      this.onAnswer(id, answer, null);
    }
    this.onState("saved", 0);
  }
}
