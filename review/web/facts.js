// What is known of a clip: why it is where it is in the queue, its scores beside the median, where it came from.

import { $, element, scoreText } from "./util.js";

const GROUPS = [
  ["Fit", ["head_model", "model_sha256", "detector"]],
  ["Source", ["clip_id", "source_uri", "source_sha256", "start_us", "end_us", "width", "height", "track", "licence"]],
  ["Place", ["shard", "row", "split"]],
  ["Speech", ["speaker", "language", "emotion", "sync_offset_ms", "transcript"]],
];
const SHOWN = new Set(GROUPS.flatMap(([, names]) => names));
const HIDDEN = new Set(["status", "reason", "warnings", "review", "fps_num", "fps_den", "num_frames"]);

export function showWhy(clip, session, onJump) {
  const box = $("why");
  const label = (name) => session.scores.find((score) => score.name === name)?.label ?? name;
  const parts = [];
  const { status, reason, warnings } = clip.index;
  if (status !== "accepted") {
    parts.push(element("span", { class: "badge bad", text: `${status}${reason ? `: ${reason}` : ""}` }));
  }
  const worst = clip.scores.find((score) => score.name === clip.why);
  if (worst && status === "accepted") {
    const calm = worst.distance < 1;
    const times = worst.distance >= 10 ? worst.distance.toFixed(0) : worst.distance.toFixed(1);
    const text = calm
      ? "Ordinary in every score"
      : `${label(worst.name)} ${scoreText(worst.name, worst.value)}, median ${scoreText(worst.name, worst.median)}`;
    parts.push(element("span", { class: calm ? "badge" : worst.distance > 3 ? "badge bad" : "badge warn", text: calm ? "–" : `${times}× spread`, title: "Distance from the median of all clips, in interquartile ranges" }));
    parts.push(element("span", { class: "because", text }));
  }
  if (clip.worst_frame !== null && clip.worst_frame !== undefined) {
    const value = clip.curves.nme[clip.worst_frame];
    const text = `worst frame ${clip.worst_frame}: ${value.toFixed(2)} %`;
    parts.push(element("button", { type: "button", class: "jump", title: "Jump to the worst frame (W)", onclick: onJump }, text, element("kbd", { text: "W" })));
  }
  if (warnings) parts.push(element("span", { class: "warning", text: warnings, title: warnings }));
  if (clip.media.warning) parts.push(element("span", { class: "warning", text: clip.media.warning }));
  box.replaceChildren(...parts);
}

export function showFacts(clip, session) {
  const score = (row) => {
    const about = session.scores.find((item) => item.name === row.name);
    const far = row.distance ?? 0;
    const width = Math.min(100, Math.max(0, far / 4) * 100);
    const bar = element("span", { class: far > 3 ? "bar-fill bad" : far > 1 ? "bar-fill warn" : "bar-fill" });
    bar.style.width = `${width}%`;
    return element(
      "tr", { class: row.name === clip.why ? "worst" : "" },
      element("th", { scope: "row", text: about?.label ?? row.name }),
      element("td", { text: scoreText(row.name, row.value) }),
      element("td", { class: "muted", text: scoreText(row.name, row.median) }),
      element("td", { class: "bar-cell" }, bar),
    );
  };
  const scores = element(
    "table", { class: "scores" },
    element("caption", { text: "Scores" }),
    element("thead", {}, element("tr", {}, element("th", { text: "" }), element("th", { scope: "col", text: "clip" }), element("th", { scope: "col", text: "median" }), element("th", { scope: "col" }, element("span", { class: "hidden", text: "distance from the median" })))),
    element("tbody", {}, ...clip.scores.map(score)),
  );
  const known = new Set(clip.scores.map((row) => row.name));
  const rest = Object.keys(clip.index).filter((name) => !SHOWN.has(name) && !HIDDEN.has(name) && !known.has(name) && clip.index[name] !== null);
  const groups = [...GROUPS, ["More", rest]].map(([title, names]) => {
    const rows = names.filter((name) => clip.index[name] !== null && clip.index[name] !== undefined);
    if (!rows.length) return null;
    const pairs = rows.flatMap((name) => {
      const value = String(clip.index[name]);
      return [element("dt", { text: name.replaceAll("_", " ") }), element("dd", { text: value, title: value })];
    });
    return element("details", { open: title === "Fit" || title === "Speech" ? "" : undefined }, element("summary", { text: title }), element("dl", {}, ...pairs));
  });
  const content = element("details", {}, element("summary", { text: "Content" }), element("dl", {}, element("dt", { text: "sha256" }), element("dd", { text: clip.content_sha256, title: clip.content_sha256 })));
  $("facts").replaceChildren(clip.scores.length ? scores : "", ...groups.filter(Boolean), content);
}

export function showStatistics(progress, session) {
  const { agreement } = progress;
  const reasons = session.reasons.filter(({ code }) => progress.reasons[code]);
  const most = Math.max(1, ...reasons.map(({ code }) => progress.reasons[code]));
  const kappa = agreement.kappa === null ? "–" : agreement.kappa.toFixed(2);
  const rows = [
    ["Accepted, rejected, skipped by you", `${progress.verdicts.accept}, ${progress.verdicts.reject}, ${progress.verdicts.skip}`],
    ["Pace", progress.clips_per_hour === null ? "–" : `${Math.round(progress.clips_per_hour)} clips an hour`],
    ["Looked at twice", `${agreement.clips} pairs, ${agreement.same} alike`],
    ["Cohen's kappa", kappa],
    ["Reviewers disagree", `${progress.conflicts} clips`],
  ];
  const body = [
    element("dl", { class: "wide" }, ...rows.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })])),
    element("h3", { text: "Reasons" }),
    reasons.length
      ? element("div", { class: "bars" }, ...reasons.flatMap(({ code, label }) => {
          const bar = element("span", { class: "bar-fill bad" });
          bar.style.width = `${(100 * progress.reasons[code]) / most}%`;
          return [element("span", { text: label }), element("span", { class: "bar-cell" }, bar), element("span", { text: String(progress.reasons[code]) })];
        }))
      : element("p", { class: "muted", text: "None so far" }),
  ];
  if (progress.damage.length) {
    body.push(element("h3", { text: "Damaged lines of the journal" }));
    body.push(element("ul", {}, ...progress.damage.map((item) => element("li", { text: `${item.file} line ${item.line}: ${item.message}` }))));
  }
  $("statistics-body").replaceChildren(...body);
}
