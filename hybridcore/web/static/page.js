// The page: hears of the caches as events, and shows them. Every value is set as text.
"use strict";

const POINTS = 300;
const SELECTED = "#cache="; // and the name, as a link has it
const byId = (id) => document.getElementById(id);
const part = (id, selector) => byId(id).querySelector(selector);
let source, interval = 2, heard = 0, points = [], shown = null;

// -- words ----------------------------------------------------------------------------------

const NONE = "–";
const whole = new Intl.NumberFormat("en");
const number = (value) => value == null ? NONE : Math.abs(value) >= 100 || value === 0
  ? whole.format(Math.round(value)) : String(Number(value.toPrecision(3)));
const share = (value) => value == null ? NONE : `${(100 * value).toFixed(1)} %`;
const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

function duration(value) {
  if (value == null) return NONE;
  if (value === 0) return "0 s";
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]])
    if (value >= unit) return `${Number((value / unit).toPrecision(3))} ${name}`;
  return `${Math.round(value * 1e9)} ns`;
}

function size(value) {
  if (value == null) return NONE;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${Number(value.toPrecision(3))} ${unit}`;
    value /= 1024;
  }
  return `${Number(value.toPrecision(3))} TiB`;
}

const sized = (value, unit) => unit === "bytes" ? size(value) : `${number(value)} entries`;

function age(at) {
  const seconds = Math.max(0, Date.now() / 1000 - at);
  return seconds < 1 ? "now" : `${duration(Math.round(seconds))} ago`;
}

// -- tables: a row has a key, and stays the same element while there is one of its key --------

function fill(id, rows) {
  const body = part(id, "tbody");
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  rows.forEach(({ key, cells, kind }, place) => {
    let row = known.get(String(key));
    known.delete(String(key));
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
    }
    row.className = kind || "";
    cells.forEach((cell, column) => write(row, column, cell));
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] || null);
  });
  for (const row of known.values()) row.remove();
}

function write(row, column, cell) {
  const told = typeof cell === "string" ? { text: cell } : cell;
  let place = row.cells[column];
  if (!place) {
    place = document.createElement(column ? "td" : "th");
    if (!column) place.scope = "row";
    row.append(place);
    if (told.href) place.append(document.createElement("a"));
    if (told.act) {
      const button = document.createElement("button");
      button.type = "button";
      button.addEventListener("click", () => button.act());
      place.append(button);
    }
  }
  place.className = told.kind || "";
  const target = place.firstElementChild || place;
  if (target.textContent !== told.text) target.textContent = told.text;
  if (told.href) {
    target.href = told.href;
    if (told.current) target.setAttribute("aria-current", "true");
    else target.removeAttribute("aria-current");
  }
  if (told.act) {
    target.act = told.act;
    target.disabled = Boolean(told.disabled);
    target.setAttribute("aria-label", told.label);
  }
}

const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const text = (value, kind = "text") => ({ text: value, kind });

function show(id, wanted) {
  byId(id).hidden = !wanted;
  return wanted;
}

// -- charts -----------------------------------------------------------------------------------

const LINES = [
  ["memory", "memory", []], ["disk", "disk", [8, 4]], ["origin", "origin", [3, 3]],
  ["errors", "failed", [12, 3, 3, 3]],
];
const charts = {};
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function axis(values, more = {}) {
  return {
    stroke: colour("text"), font: "13px system-ui", grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 }, values, ...more,
  };
}

function draw(id, data, label, options) {
  const place = part(id, ".chart");
  place.setAttribute("aria-label", label);
  const width = Math.max(200, place.clientWidth);
  let chart = charts[id];
  if (chart && chart.width === width) {
    chart.setData(data);
    return;
  }
  if (chart) chart.destroy();
  chart = charts[id] = new uPlot({
    width, height: 220, cursor: { show: false }, legend: { live: false }, ...options(),
  }, data, place);
  for (const entry of place.querySelectorAll("*")) entry.removeAttribute("tabindex");
}

function redraw() {
  for (const id of Object.keys(charts)) {
    charts[id].destroy();
    delete charts[id];
  }
  if (shown) drawAll(shown);
}

function drawRequests() {
  // Drawn as the logarithm of one more, so that a few misses are seen beside many hits.
  const data = [points.map((point) => point[0])];
  LINES.forEach((_, line) => data.push(points.map((point) => Math.log10(1 + point[line + 1]))));
  const last = points[points.length - 1];
  const now = LINES.map(([, name], line) => `${name} ${number(last[line + 1])}`).join(", ");
  draw("requests", data, `A line each for memory, disk, origin and failures. Lookups a second now: ${now}.`, () => ({
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.05)] } },
    axes: [
      axis((_, ticks) => ticks.map(clock), { space: 90 }),
      axis((_, ticks) => ticks.map((tick) => number(Math.round(10 ** tick - 1))), {
        size: 65, splits: (chart, _, low, high) => [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7]
          .map((value) => Math.log10(1 + value)).filter((value) => value <= high),
      }),
    ],
    series: [{}, ...LINES.map(([name, label, dash]) => (
      { label, stroke: colour(name), width: 2, dash, points: { show: false } }))],
  }));
}

function drawCurve(curve) {
  const mark = (size) => curve.sizes.map((one, place) =>
    one === size ? 100 * curve.hit_ratios[place] : null);
  const now = `now ${sized(curve.current, curve.unit)}: ${share(curve.current_hit_ratio)}`;
  const advice = curve.recommended == null ? "no size is recommended"
    : `recommended ${sized(curve.recommended, curve.unit)}: ${share(curve.recommended_hit_ratio)}`;
  const data = [curve.sizes, curve.hit_ratios.map((ratio) => 100 * ratio),
    mark(curve.current), mark(curve.recommended)];
  draw("curve", data, `Hit ratio by size; ${now}; ${advice}.`, () => ({
    scales: { x: { distr: 3, time: false }, y: { range: [0, 100] } },
    axes: [
      axis((_, ticks) => ticks.map((tick) => tick == null ? "" : curve.unit === "bytes" ? size(tick) : number(tick)), { space: 70 }),
      axis((_, ticks) => ticks.map((tick) => `${tick} %`), { size: 60 }),
    ],
    series: [{},
      { label: "hit ratio", stroke: colour("memory"), width: 2, points: { show: false } },
      { label: "now", stroke: colour("origin"), width: 0, points: { show: true, size: 11, fill: colour("origin") } },
      { label: "recommended", stroke: colour("disk"), width: 0, points: { show: true, size: 11, fill: colour("ground"), width: 3 } },
    ],
  }));
  const seen = curve.requests == null ? "" : ` From ${number(curve.requests)} requests, policy ${curve.policy}.`;
  say(part("curve", "p"), `${now}; ${advice}.${seen}`);
}

function drawAll(cache) {
  if (show("requests", points.length > 0)) drawRequests();
  if (show("curve", cache.curve !== null)) drawCurve(cache.curve);
}

// -- what is shown ------------------------------------------------------------------------------

function hear(event) {
  const told = JSON.parse(event.data);
  const cache = told.cache;
  interval = told.interval;
  heard = Date.now();
  if (!shown || shown.name !== cache.name) points = [];
  points = points.filter((point) => point[0] <= told.after).concat(told.points).slice(-POINTS);
  shown = cache;
  fill("caches", told.caches.map((one) => ({
    key: one.name,
    kind: one.name === cache.name ? "selected" : "",
    cells: [
      { text: one.name, href: SELECTED + encodeURIComponent(one.name), current: one.name === cache.name },
      text(one.state, `text ${one.state}`), number(one.rate), share(one.hit_ratio), duration(one.p99),
      number(one.waiting), number(one.dead), number(one.alerts),
    ],
  })));
  byId("cache").hidden = false;
  say(byId("name"), cache.name);
  const since = cache.window == null ? "since it began" : `of the last ${duration(Math.round(cache.window))}`;
  say(byId("about"), [
    cache.state, ...cache.reasons, cache.source,
    cache.uptime == null ? null : `up ${duration(Math.round(cache.uptime))}`, cache.tiers.length ? since : null,
  ].filter((word) => word !== null).join(" · "));
  showAlerts(cache.alerts);
  if (show("tiers", cache.tiers.length)) fill("tiers", cache.tiers.map(tier));
  if (show("queue", cache.queue !== null)) showQueue(cache.queue);
  show("letters", cache.queue !== null && cache.queue.dead > 0);
  if (cache.queue !== null) showLetters(cache.name, cache.queue);
  if (show("warming", cache.warming.length)) fill("warming", cache.warming.map(strategy));
  if (show("invalidations", cache.invalidations.length))
    fill("invalidations", cache.invalidations.map((one) => ({
      key: one.number,
      cells: [String(one.number), clock(one.at), text(one.scope), text(one.what, "long"), text(one.cause)],
    })));
  drawAll(cache);
  tell();
}

function tier(one) {
  const [p50, p95, p99] = one.latencies || [null, null, null];
  const used = one.size == null ? NONE : one.bound == null ? number(one.size)
    : share(one.size / one.bound);
  return {
    key: one.name,
    cells: [one.name, share(one.hit_ratio), number(one.rate), duration(p50), duration(p95),
      duration(p99), number(one.errors), number(one.entries), used],
  };
}

function strategy(one) {
  return {
    key: one.name,
    cells: [one.name, one.is_on ? "yes" : "no", number(one.warmed), number(one.hits), number(one.wasted),
      number(one.failed), number(one.calls), duration(one.spent), duration(one.saved)],
  };
}

function showAlerts(alerts) {
  show("alerts", alerts.length);
  const list = part("alerts", "ul");
  const told = JSON.stringify(alerts);
  if (list.told === told) return;
  list.told = told;
  list.replaceChildren(...alerts.map((alert) => {
    const item = document.createElement("li");
    const severity = document.createElement("strong");
    severity.className = alert.severity;
    severity.textContent = `${alert.severity}: ${alert.rule} `;
    const link = document.createElement("a");
    if (/^https?:\/\//.test(alert.runbook)) link.href = alert.runbook;
    link.rel = "noreferrer";
    link.textContent = "what to do";
    item.append(severity, `${alert.summary} Since ${clock(alert.since)}. `, link);
    return item;
  }));
}

function showQueue(queue) {
  fill("queue", queue.levels.map((level) => ({
    key: level.name,
    cells: [level.name, number(level.items), size(level.bytes), duration(level.oldest)],
  })));
  const known = [["under way", queue.running], ["delayed", queue.delayed], ["dead letters", queue.dead]];
  say(part("queue", "p"), known.filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${number(value)}`).join(" · "));
}

function showLetters(cache, queue) {
  fill("letters", queue.letters.map((letter) => ({
    key: letter.id,
    cells: [String(letter.id), text(letter.key, "long"), text(letter.level), text(letter.reason),
      text(letter.error, "long"), number(letter.attempts), age(letter.died), {
        text: "Replay", label: `Replay letter ${letter.id}, key ${letter.key}`,
        disabled: !letter.replayable, act: () => replay(cache, letter.id),
      }],
  })));
  const left = queue.dead - queue.letters.length;
  say(part("letters", "p"), !queue.is_open
    ? "They are listed where the directory of the queue is given, too."
    : left > 0 ? `and ${number(left)} more, see hybridcore dlq list` : "");
  show("all", queue.letters.length);
  byId("all").onclick = () => replay(cache, null);
}

async function replay(cache, letter) {
  let outcome;
  try {
    const answer = await fetch("replay", {
      method: "POST", body: JSON.stringify({ cache, letter }),
      headers: { "Content-Type": "application/json", "X-Hybridcore": "page" },
    });
    const told = await answer.json();
    outcome = told.error ? `Not replayed: ${told.error}` : told.replayed
      ? `${number(told.replayed)} queued again.` : "None queued again: a newer write has superseded it, or it is gone.";
  } catch (error) {
    outcome = `Not replayed: ${error.message}`;
  }
  const message = byId("message");
  message.hidden = false;
  message.textContent = outcome;
  if (document.activeElement === document.body) byId("main").focus();
}

// -- the connection -----------------------------------------------------------------------------

function tell() {
  const late = Date.now() - heard > 1000 * (2 * interval + 3);
  const place = byId("connection");
  place.className = late ? "lost" : "";
  say(place, !late ? "live" : heard ? `no news since ${clock(heard / 1000)}; trying again`
    : "no answer; trying again");
}

function connect() {
  if (source) source.close();
  const selected = location.hash.startsWith(SELECTED) ? location.hash.slice(SELECTED.length) : "";
  source = new EventSource(`events?cache=${selected}`);
  source.onmessage = hear;
}

addEventListener("hashchange", () => { if (location.hash.startsWith(SELECTED)) connect(); });
addEventListener("resize", () => { if (shown) drawAll(shown); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
setInterval(() => {
  tell();
  if (source.readyState === EventSource.CLOSED) connect(); // the browser gives up after an error of HTTP
}, 2000);
heard = 0;
connect();
