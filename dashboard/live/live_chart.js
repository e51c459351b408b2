// The live chart. One board a page, with as many panels as the page wants.
//
// It asks /live/series for its data, again and again: the first answer is the whole range,
// the next ones hold only new and changed points. Plotly figures are made once and updated
// in place, so zoom, legend and pointer survive every update. Text is set by textContent
// only: names come from the monitored servers and are not trusted.

import { age, alpha, clock, day, element, rgb, utc, worded, zone } from "./axes.js";
import { Panel } from "./panel.js";

const RETRY = [500, 1000, 2000, 4000]; // milliseconds between tries when Headroom is away
const MIN_PAUSE = 200; // milliseconds between two requests
const KEEP = 20000; // points a frame holds at most while it is zoomed

let plotly;
function loadPlotly(url) {
  plotly ||= window.Plotly?.react ? Promise.resolve(window.Plotly) : new Promise((resolve, reject) => {
    const script = element("script");
    script.src = url;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { plotly = null; script.remove(); reject(new Error("Plotly did not load")); };
    document.head.appendChild(script);
  });
  return plotly;
}

function loadStyle(url) {
  if (document.querySelector(`link[href="${url}"]`)) return;
  const link = element("link");
  link.rel = "stylesheet";
  link.href = url;
  document.head.appendChild(link);
}

const sleep = (ms, signal) => new Promise(resolve => {
  const done = () => { clearTimeout(timer); signal.removeEventListener("abort", done); resolve(); };
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", done, { once: true });
});

class Board {
  constructor(parent) {
    this.parent = parent;
    this.root = element("div", "hr-board", parent);
    this.bar = element("div", "hr-bar", this.root);
    this.status = element("span", "", this.bar);
    this.hint = element("span", "hr-zone", this.bar);
    element("span", "hr-grow", this.bar);
    this.zoomed = element("span", "", this.bar);
    this.detail = element("a", "", this.bar, "see it in detail");
    this.back = element("button", "hr-back", this.bar, "Back to live");
    this.back.onclick = () => this.zoom(null);
    this.grid = element("div", "hr-grid", this.root);
    this.tip = element("div", "hr-tip", document.body);
    this.panels = new Map();
    this.forget();
    this.at = null;
    this.zoomRange = null;
    this.coarse = matchMedia("(pointer: coarse)").matches;
    this.abort = new AbortController();
    this.listen();
    this.ticker = setInterval(() => this.tick(), 500);
  }

  // Nothing of one target may be seen on another one's charts.
  forget() {
    Object.assign(this, { cursor: null, frames: [], limits: {}, marks: [], unwatched: [], span: 0 });
  }

  listen() {
    const gone = { signal: (this.gone = new AbortController()).signal };
    document.addEventListener("visibilitychange", () => document.hidden ? this.abort.abort() : this.start(), gone);
    this.grid.addEventListener("pointerdown", event => { if (event.target.closest(".hr-plot")) this.dragging = true; }, gone);
    addEventListener("pointerup", () => { if (this.dragging) { this.dragging = false; setTimeout(() => this.redraw(true), 60); } }, gone);
    addEventListener("pagehide", () => this.abort.abort(), gone);
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.root);
    this.views = new IntersectionObserver(entries => {
      for (const entry of entries) {
        const panel = [...this.panels.values()].find(p => p.root === entry.target);
        if (!panel) continue;
        panel.visible = entry.isIntersecting;
        if (panel.visible && panel.dirty) panel.draw();
      }
    }, { rootMargin: "200px" });
  }

  // Called for the first mount and again whenever the page's data or theme change.
  configure(data) {
    loadStyle(data.style);
    this.readTheme();
    const changed = this.source !== data.source;
    this.source = data.source;
    this.live = data.grows;
    this.moves = data.live;
    this.plotlyUrl = data.plotly;
    if (changed) {
      const names = data.panels.map(p => p.name);
      for (const [name, panel] of this.panels) if (!names.includes(name)) { panel.root.remove(); this.panels.delete(name); }
      for (const { name, title } of data.panels) if (!this.panels.has(name)) {
        const panel = new Panel(this, name, title);
        this.panels.set(name, panel);
        this.views.observe(panel.root);
      }
      this.forget();
      for (const panel of this.panels.values()) panel.clear();
      this.zoom(null);
      this.start();
    } else this.redraw();
  }

  readTheme() {
    const style = getComputedStyle(this.parent);
    const read = (name, other) => style.getPropertyValue(name).trim() || other;
    const text = read("--st-text-color", "#888"), background = read("--st-background-color", "#fff");
    const [r, g, b] = rgb(background);
    const dark = r * 0.3 + g * 0.59 + b * 0.11 < 128;
    this.theme = { dark, text, background, muted: alpha(text, 0.7), grid: alpha(text, 0.13),
      font: read("--st-font", "sans-serif"), warning: dark ? "#f5b041" : "#935400", critical: dark ? "#ff6b6b" : "#bd2424" };
    for (const role of ["warning", "critical"]) this.root.style.setProperty(`--hr-${role}`, this.theme[role]);
    // The tip lives in the body, where Streamlit's colours are not set.
    for (const name of ["--st-secondary-background-color", "--st-text-color", "--st-font", "--st-border-color"])
      this.tip.style.setProperty(name, read(name, ""));
  }

  start() {
    this.abort.abort();
    this.abort = new AbortController();
    if (!document.hidden) this.follow(this.abort.signal);
  }

  // Ask, apply, ask again, until told otherwise.
  async follow(signal) {
    let failures = 0;
    while (!signal.aborted) {
      const asked = performance.now();
      try {
        this.Plotly ||= await loadPlotly(this.plotlyUrl);
        const answer = await this.ask(signal);
        if (signal.aborted) return;
        failures = 0;
        this.lost = false;
        this.problem = "";
        this.apply(answer);
        if (!answer.cursor || !this.live) return;
        await sleep(Math.max(0, MIN_PAUSE - (performance.now() - asked)), signal);
      } catch (error) {
        if (signal.aborted) return;
        this.problem = error.said || "";
        this.lost = !error.said;
        for (const panel of this.panels.values()) panel.state();
        this.tick();
        if (error.final) return;
        await sleep(RETRY[Math.min(failures++, RETRY.length - 1)], signal);
      }
    }
  }

  async ask(signal) {
    const widest = Math.max(...[...this.panels.values()].map(p => p.plot.clientWidth), 100);
    const since = this.cursor ? `&since=${encodeURIComponent(this.cursor)}` : "";
    const response = await fetch(`${this.source}&width=${Math.min(Math.ceil(widest / 200) * 200, 4000)}${since}`,
      { signal: AbortSignal.any([signal, AbortSignal.timeout(35000)]), cache: "no-store" });
    if (response.ok) return response.json();
    const error = new Error(`HTTP ${response.status}`);
    error.final = response.status === 400 || response.status === 404;
    // Our own errors are JSON with one sentence; anything else comes from something in between.
    const said = await response.json().catch(() => ({}));
    if (said.error && !said.error.includes("stopping")) error.said = said.error;
    throw error;
  }

  apply(answer) {
    this.cursor = answer.cursor;
    this.clock = answer.now - performance.now();
    for (const name of ["limits", "marks", "unwatched"]) if (answer[name]) {
      // What could not be seen this time keeps its last known limit.
      if (name === "limits") for (const [panel, found] of Object.entries(answer.limits)) {
        if (found.lines.length || !this.limits[panel]) this.limits[panel] = found;
      } else this[name] = answer[name];
    }
    const touched = new Set();
    if (answer.full) {
      Object.assign(this, { live: answer.live, frames: answer.frames, bucket: answer.bucket, span: answer.to - answer.from, from: answer.from, to: answer.to });
      for (const drawing of answer.panels) this.panels.get(drawing.name)?.describe(drawing);
      answer.frames.forEach((_, i) => touched.add(i));
    } else answer.frames.forEach((fresh, i) => { if (fresh) { this.merge(this.frames[i], fresh); touched.add(i); } });
    const all = answer.full || answer.marks || answer.limits;
    for (const panel of this.panels.values())
      if (all || panel.drawing?.traces.some(t => touched.has(t.place[0]))) panel.draw();
    this.point(this.pointed, null);
    this.tick();
    this.root.dataset.updates = (this.updates = (this.updates || 0) + 1);
    this.root.dataset.newest = Math.max(...this.frames.map(f => f.newest || 0));
  }

  // New points replace ours from the first of them on; what has left the view is dropped.
  merge(frame, fresh) {
    frame.newest = fresh.newest;
    if (!fresh.x.length) return;
    let keep = frame.x.length;
    while (keep && frame.x[keep - 1] >= fresh.x[0]) keep--;
    const oldest = Math.min(this.moves ? frame.newest - this.span : this.from, this.zoomRange ? this.zoomRange[0] : Infinity);
    let drop = frame.x.findIndex(x => x >= oldest);
    drop = Math.max(drop < 0 ? 0 : drop - 1, keep - KEEP, 0);
    frame.x = frame.x.slice(drop, keep).concat(fresh.x);
    frame.y = frame.y.map((list, i) => list.slice(drop, keep).concat(fresh.y[i]));
  }

  serverNow() { return this.clock + performance.now(); }

  // What the x axis shows. Live, its right edge is the newest sample, or now if that is old.
  view() {
    if (this.zoomRange) return this.zoomRange;
    if (!this.moves || !this.span) return [this.from || 0, this.to || 1];
    const newest = Math.max(0, ...this.frames.map(f => f.newest || 0));
    const now = this.serverNow();
    const end = now - newest > 5000 + this.bucket * 1000 ? now : newest;
    return [end - this.span, end];
  }

  relayout(change) {
    const from = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
    const to = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
    if (from !== undefined && to > from) this.zoom([+from, +to]);
  }

  zoom(range) {
    const same = range === this.zoomRange || (range && this.zoomRange && range.every((v, i) => v === this.zoomRange[i]));
    this.zoomRange = range && range[1] - range[0] >= 100 ? range : null;
    const on = !!this.zoomRange;
    this.root.dataset.zoomed = on;
    for (const part of [this.zoomed, this.detail, this.back]) part.hidden = !on;
    if (on) {
      const [a, b] = this.zoomRange.map(at => new Date(at).toISOString());
      this.zoomed.textContent = `${clock(this.zoomRange[0])} – ${clock(this.zoomRange[1])}`;
      const url = new URL(location.href);
      url.searchParams.delete("range");
      url.searchParams.delete("at");
      url.searchParams.set("from", a);
      url.searchParams.set("to", b);
      this.detail.href = url.href;
      this.back.textContent = this.moves ? "Back to live" : "Whole range";
    }
    if (!same) this.redraw(true);
  }

  redraw(now) {
    if (now) { for (const panel of this.panels.values()) panel.draw(); return; }
    this.pending ||= requestAnimationFrame(() => { this.pending = 0; this.redraw(true); });
  }

  // Where the pointer is: the crosshair on every panel, the tip on this one.
  point(panel, event) {
    this.pointed = panel || null;
    const axis = panel?.graph._fullLayout?.xaxis;
    if (event && axis) this.pixel = [event.clientX - panel.plot.getBoundingClientRect().left, event.clientX, event.clientY];
    const at = axis && this.pixel ? axis.p2l(this.pixel[0] - axis._offset) : null;
    const inside = at !== null && at >= axis.range[0] && at <= axis.range[1];
    this.at = inside ? at : null;
    this.pointing ||= requestAnimationFrame(() => {
      this.pointing = 0;
      for (const each of this.panels.values()) if (each.drawing) { each.place(this.at); each.values(); }
      this.showTip();
    });
  }

  showTip() {
    const panel = this.pointed;
    if (!panel?.drawing?.traces.length || this.at === null || this.dragging) { this.tip.style.display = "none"; return; }
    this.tip.replaceChildren();
    const found = panel.drawing.traces.map(trace => [trace, ...panel.nearest(trace, this.at)]);
    const at = found[0][1] ?? this.at;
    element("div", "hr-when", this.tip, `${day(at)} ${clock(at)} ${zone}`);
    element("div", "hr-utc", this.tip, utc(at));
    if (panel.drawing.resolution) element("div", "hr-utc", this.tip, panel.drawing.resolution);
    const shown = found.filter(([trace]) => !panel.hidden.has(trace.name));
    const row = (colour, label, value) => {
      const line = element("div", "hr-row", this.tip);
      element("i", "", line).style.background = colour;
      element("span", "", line, label);
      element("strong", "", line, value);
    };
    for (const [trace, , value] of panel.drawing.stacked ? [...shown].reverse() : shown)
      row(panel.colour(trace), trace.name, worded(value, panel.drawing.unit));
    const known = shown.filter(([, , value]) => value !== null);
    if (!known.length) element("div", "hr-utc", this.tip, "no data");
    else if (panel.drawing.stacked) row("transparent", "total", worded(known.reduce((sum, [, , v]) => sum + v, 0), panel.drawing.unit));
    const [from, to] = this.view();
    const near = (to - from) / Math.max(panel.plot.clientWidth, 1) * 6;
    for (const mark of this.marks.filter(m => Math.abs(m.at - this.at) < near).slice(0, 3))
      element("div", "hr-mark", this.tip, `${clock(mark.at)} ${mark.text}`).style.color = this.theme[mark.severity];
    if (this.unwatched.some(([a, b]) => this.at >= a && this.at < b)) element("div", "hr-mark", this.tip, "Headroom was not running");
    this.tip.style.display = "block";
    const [, x, y] = this.pixel, box = this.tip.getBoundingClientRect();
    this.tip.style.left = `${x + 14 + box.width > innerWidth ? Math.max(4, x - 14 - box.width) : x + 14}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
  }

  // Twice a second: how old is what we show?
  tick() {
    for (const panel of this.panels.values()) panel.state();
    const newest = Math.max(0, ...this.frames.map(f => f.newest || 0));
    const seconds = newest && this.clock !== undefined ? Math.max(0, (this.serverNow() - newest) / 1000) : null;
    const old = seconds !== null && this.live && this.frames.every(f => f.newest === null || (this.serverNow() - f.newest) / 1000 > f.stale_after);
    this.status.classList.toggle("hr-trouble", !!(this.lost || this.problem));
    this.status.textContent = this.problem || (this.lost ? "connection to Headroom lost, retrying"
      : !this.live ? "fixed range" : seconds === null ? "waiting for data"
      : seconds < 2 ? "live" : `newest sample ${age(Math.floor(seconds))} ago`);
    this.hint.textContent = `times in ${zone}${this.coarse ? "" : " · drag to zoom, double-click to go back"}`;
    // Without new data nothing else moves the time axis.
    if (old && !this.zoomRange && performance.now() - (this.moved || 0) > 2000) { this.moved = performance.now(); this.redraw(); }
  }

  end() {
    this.abort.abort();
    this.gone.abort();
    clearInterval(this.ticker);
    this.sizes.disconnect();
    this.views.disconnect();
    for (const panel of this.panels.values()) this.Plotly?.purge(panel.graph);
    this.tip.remove();
    this.root.remove();
  }
}

const VERSION = import.meta.url;

// The entry point. Streamlit calls it for every change of data or theme with the same element.
export function mount({ data, parentElement }) {
  let board = parentElement.headroomBoard;
  if (board && board.version !== VERSION) { board.end(); board = null; } // Headroom was updated
  if (!board) {
    board = new Board(parentElement);
    board.version = VERSION;
    parentElement.headroomBoard = board;
  }
  board.configure(data);
  return () => { board.end(); if (parentElement.headroomBoard === board) delete parentElement.headroomBoard; };
}
