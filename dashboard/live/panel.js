// One panel of the live chart: its title, its legend, its Plotly figure, its crosshair.

import { age, alpha, element, short, timeTicks, valueTicks, worded } from "./axes.js";

export class Panel {
  constructor(board, name, title) {
    this.board = board;
    this.name = name;
    this.root = element("section", "hr-panel", board.grid);
    this.root.dataset.panel = name;
    const head = element("div", "hr-head", this.root);
    this.title = element("b", "", head, title);
    this.note = element("span", "hr-note", head);
    this.detail = element("span", "hr-detail", head);
    this.badge = element("span", "hr-badge", head);
    this.fit = element("button", "", head, "zoom in");
    this.fit.hidden = true;
    this.fit.onclick = () => { this.fitted = !this.fitted; this.draw(); };
    this.legend = element("div", "hr-legend", this.root);
    this.plot = element("div", "hr-plot", this.root);
    this.graph = element("div", "", this.plot);
    this.cross = element("div", "hr-cross", this.plot);
    this.empty = element("div", "hr-empty", this.plot);
    this.graph.setAttribute("role", "img");
    this.graph.setAttribute("aria-label", title);
    this.hidden = new Set();
    this.items = [];
    this.visible = true;
    this.dirty = true;
    this.plot.addEventListener("pointermove", event => board.point(this, event));
    this.plot.addEventListener("pointerleave", () => board.point(null));
  }

  // Until the new target's first answer there is nothing to show.
  clear() {
    this.drawing = null;
    this.items = [];
    this.legend.replaceChildren();
    for (const part of [this.note, this.detail, this.badge, this.empty]) part.textContent = "";
    if (this.graph.data) { this.board.Plotly.purge(this.graph); this.graph.replaceChildren(); }
  }

  describe(drawing) {
    this.drawing = drawing;
    this.title.textContent = drawing.title;
    this.detail.textContent = drawing.resolution;
    this.legend.replaceChildren();
    this.items = drawing.traces.map(trace => {
      const item = element("button", "hr-item", this.legend);
      item.type = "button";
      item.title = [drawing.resolution, "Click to hide or show; double-click to see it alone"].filter(Boolean).join(". ");
      const swatch = element("i", "", item);
      element("em", "", item, trace.name);
      const value = element("strong", "", item);
      item.onclick = () => this.toggle(trace.name);
      item.ondblclick = () => this.only(trace.name);
      return { item, swatch, value, trace };
    });
    this.marked();
  }

  toggle(name) {
    this.hidden.has(name) ? this.hidden.delete(name) : this.hidden.add(name);
    this.marked();
    this.draw();
  }

  only(name) {
    const names = this.drawing.traces.map(t => t.name);
    const alone = !this.hidden.has(name) && this.hidden.size === names.length - 1;
    this.hidden = new Set(alone ? [] : names.filter(n => n !== name));
    this.marked();
    this.draw();
  }

  marked() {
    for (const { item, swatch, trace } of this.items) {
      item.classList.toggle("hr-off", this.hidden.has(trace.name));
      item.setAttribute("aria-pressed", !this.hidden.has(trace.name));
      swatch.style.background = this.colour(trace);
    }
  }

  // Lines and areas need more contrast on white than the palette has.
  colour(trace) { return trace.colours[this.board.theme.dark ? 0 : 1]; }

  frames() {
    return [...new Set((this.drawing?.traces || []).map(t => t.place[0]))].map(i => this.board.frames[i]);
  }

  data(trace) {
    const frame = this.board.frames[trace.place[0]];
    return { x: frame.x, y: frame.y[trace.place[1]] };
  }

  // Plotly fills a hole in a stack with a slope to zero. A second empty point just before
  // the data go on makes that slope a step, and the total line on top shows the hole.
  stackData(trace) {
    const { x, y } = this.data(trace);
    if (!y.includes(null)) return { x, y };
    const xs = [], ys = [];
    for (let i = 0; i < x.length; i++) {
      if (y[i] === null && i && y[i - 1] !== null) { xs.push(x[i - 1] + 1); ys.push(0); }
      xs.push(x[i]);
      ys.push(y[i] ?? 0);
      if (y[i] === null && i + 1 < x.length && y[i + 1] !== null) { xs.push(x[i + 1] - 1); ys.push(0); }
    }
    return { x: xs, y: ys };
  }

  total(traces) {
    const x = this.data(traces[0]).x;
    const lists = traces.map(t => this.data(t).y);
    return { x, y: x.map((_, i) => lists.some(l => l[i] !== null) ? lists.reduce((s, l) => s + (l[i] ?? 0), 0) : null) };
  }

  draw() {
    if (!this.drawing || !this.board.Plotly) return;
    if (!this.visible || this.board.dragging || !this.plot.clientWidth) { this.dirty = true; return; }
    this.dirty = false;
    const { board, drawing } = this;
    const [from, to] = board.view();
    const theme = board.theme;
    const shown = drawing.traces.filter(t => !this.hidden.has(t.name));
    const figure = [];
    let top = 0;
    const reach = (x, y) => { for (let i = 0; i < x.length; i++) if (y[i] > top && x[i] >= from && x[i] <= to) top = y[i]; };
    this.marked();
    for (const { place, colours, ...trace } of drawing.traces) {
      const off = this.hidden.has(trace.name);
      const data = drawing.stacked ? this.stackData({ place }) : this.data({ place });
      if (!off && !drawing.stacked) reach(data.x, data.y);
      const colour = this.colour({ colours });
      const line = { ...trace.line, color: colour };
      if (drawing.stacked) trace.fillcolor = theme.dark ? alpha(colour, 0.8) : colour;
      figure.push({ ...trace, line, ...data, visible: !off, hoverinfo: "skip" });
    }
    if (drawing.stacked && shown.length) {
      const total = this.total(shown);
      reach(total.x, total.y);
      figure.push({ type: "scatter", mode: "lines", ...total, hoverinfo: "skip", connectgaps: false,
        line: { color: alpha(theme.text, 0.55), width: 1 } });
    }
    const limits = board.limits[this.name] || { lines: [] };
    const highest = Math.max(0, ...limits.lines.filter(l => l.stretch).map(l => l.y), limits.band ? limits.band[1] : 0);
    this.fit.hidden = !(highest > top * 2 && drawing.unit === "count");
    this.fit.textContent = this.fitted ? "show capacity" : "zoom in";
    if (!(this.fitted && !this.fit.hidden)) top = Math.max(top, highest);
    top = (top || 1) * 1.08;
    const [values, texts] = valueTicks(top, drawing.unit);
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    const left = Math.max(26, 10 + 6.2 * Math.max(...texts.map(t => t.length)));
    const [ticks, tickTexts] = timeTicks(from, to, width - left);
    const { shapes, annotations } = this.lines(limits, top, from, to);
    const layout = {
      width, height, margin: { l: left, r: 8, t: 6, b: 20 }, showlegend: false, hovermode: false,
      dragmode: board.coarse ? false : "zoom", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: theme.font, size: 11, color: theme.muted }, shapes, annotations,
      xaxis: { type: "linear", range: [from, to], tickvals: ticks, ticktext: tickTexts, showgrid: false,
        zeroline: false, linecolor: theme.grid, ticks: "outside", ticklen: 3, tickcolor: theme.grid, fixedrange: board.coarse },
      yaxis: { range: [0, top], tickvals: values, ticktext: texts, fixedrange: true, gridcolor: theme.grid, zeroline: false },
    };
    const first = !this.graph.data;
    board.Plotly.react(this.graph, figure, layout, { displayModeBar: false, doubleClick: false, responsive: false, scrollZoom: false });
    if (first) {
      this.graph.on("plotly_relayout", change => board.relayout(change));
      // Plotly covers the page while the button is down, so the browser sees no double click.
      this.graph.on("plotly_doubleclick", () => board.zoom(null));
    }
    this.state();
    this.values();
  }

  lines(limits, top, from, to) {
    const { theme, marks, unwatched } = this.board;
    const shapes = [], annotations = [], notes = [];
    const band = (x0, x1, colour) => shapes.push({ type: "rect", xref: "x", yref: "paper", x0: Math.max(x0, from), x1: Math.min(x1, to), y0: 0, y1: 1, fillcolor: colour, line: { width: 0 }, layer: "below" });
    for (const [a, b] of this.holes()) if (b > from && a < to) band(a, b, alpha(theme.text, 0.07));
    for (const [a, b] of unwatched) if (b > from && a < to) band(a, b, alpha(theme.text, 0.05));
    if (limits.band) shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: limits.band[0], y1: limits.band[1], fillcolor: alpha(theme.critical, 0.1), line: { width: 0 }, layer: "below" });
    for (const limit of limits.lines) {
      const label = `${limit.label} ${this.drawing.unit === "seconds" ? age(limit.y) : short(limit.y)}`;
      const [owner, rest] = label.split(": ");
      if (rest && notes.at(-1)?.startsWith(`${owner}: `)) notes.push(`${notes.pop()}, ${rest}`);
      else notes.push(label);
      if (limit.y > top) continue;
      const colour = limit.role === "limit" ? theme.text : theme[limit.role];
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit.y, y1: limit.y, line: { color: alpha(colour, 0.8), width: 1, dash: "dash" } });
      annotations.push({ xref: "paper", x: 1, y: limit.y, text: label.replace(/[<>&]/g, ""), showarrow: false, xanchor: "right", yanchor: limit.y > top * 0.85 ? "top" : "bottom", font: { size: 10, color: alpha(colour, 0.95) }, bgcolor: alpha(theme.background, 0.6), borderpad: 1 });
    }
    if (limits.band) notes.push(`${limits.band[0] + 1}–${limits.band[1]} reserved`);
    for (const mark of marks) {
      if (mark.at < from || mark.at > to) continue;
      shapes.push({ type: "line", yref: "paper", x0: mark.at, x1: mark.at, y0: 0, y1: 1, line: { color: alpha(theme[mark.severity] || theme.warning, 0.7), width: 1, dash: "dot" } });
    }
    this.note.textContent = [this.drawing.note, ...notes].filter(Boolean).join(" · ");
    this.note.title = this.note.textContent;
    return { shapes, annotations };
  }

  // Stretches without values: nobody polled, or the target did not answer.
  holes() {
    const frame = this.frames()[0];
    if (!frame?.y.length) return [];
    const own = this.drawing.traces.filter(t => this.board.frames[t.place[0]] === frame).map(t => frame.y[t.place[1]]);
    const found = [];
    let start = null;
    for (let i = 0; i < frame.x.length; i++) {
      const none = own.every(list => list[i] === null);
      if (none && start === null) start = i ? frame.x[i - 1] : frame.x[i];
      if (!none && start !== null) { found.push([start, frame.x[i]]); start = null; }
    }
    if (start !== null) found.push([start, frame.x[frame.x.length - 1]]);
    return found;
  }

  // Says on the panel when its data are old or the connection is lost.
  state() {
    const { board } = this;
    let text = "", lost = false, stale = false;
    const frames = this.frames();
    if (board.lost) [text, lost, stale] = ["connection to Headroom lost, retrying", true, true];
    else if (board.live && frames.length) {
      const old = frames.filter(f => f.newest !== null && (board.serverNow() - f.newest) / 1000 > f.stale_after);
      if (old.length) {
        stale = true;
        text = `no data for ${age(Math.round((board.serverNow() - Math.min(...old.map(f => f.newest))) / 1000))}`;
      }
    }
    const nothing = this.drawing && !frames.some(f => f?.x.length);
    const unknown = this.drawing?.traces.every(t => this.data(t).y.every(y => y === null));
    const none = !this.drawing ? "" : !this.drawing.traces.length ? "no pool has been seen in this range"
      : nothing ? "no data in this range" : unknown ? this.drawing.nothing : "";
    this.badge.textContent = text;
    this.badge.classList.toggle("hr-lost", lost);
    this.root.classList.toggle("hr-stale", stale);
    this.empty.textContent = none;
    this.empty.style.display = none ? "flex" : "none";
  }

  nearest(trace, at) {
    const { x, y } = this.data(trace);
    if (!x.length) return [null, null];
    let low = 0, high = x.length - 1;
    while (low < high) { const mid = (low + high) >> 1; x[mid] < at ? low = mid + 1 : high = mid; }
    if (low && at - x[low - 1] < x[low] - at) low--;
    const usual = Math.max(this.board.bucket * 1000, x.length > 2 ? (x[x.length - 1] - x[0]) / (x.length - 1) : 0);
    return Math.abs(x[low] - at) > 3 * usual ? [x[low], null] : [x[low], y[low]];
  }

  // What is known at the right edge: of a zoom into the past not what is known now.
  last(trace) {
    const { x, y } = this.data(trace), end = this.board.zoomRange?.[1] ?? Infinity;
    return end < x.at(-1) ? this.nearest(trace, end)[1] : y.at(-1);
  }

  // The legend shows the values under the pointer, or else those at the right edge.
  values() {
    for (const { value, trace } of this.items) {
      const number = this.board.at === null ? this.last(trace) : this.nearest(trace, this.board.at)[1];
      value.textContent = worded(number, this.drawing.unit);
    }
    // Screen readers are told the last values when they come here, not at every sample.
    const last = this.items.map(({ trace }) => `${trace.name} ${worded(this.last(trace), this.drawing.unit)}`);
    this.graph.setAttribute("aria-label", [this.drawing.title, ...last].join(", "));
  }

  place(at) {
    const axis = this.graph._fullLayout?.xaxis;
    const shown = at !== null && axis && at >= axis.range[0] && at <= axis.range[1];
    this.cross.style.display = shown ? "block" : "none";
    if (!shown) return;
    const size = this.graph._fullLayout._size;
    this.cross.style.left = `${axis._offset + axis.l2p(at)}px`;
    this.cross.style.top = `${size.t}px`;
    this.cross.style.height = `${size.h}px`;
  }
}
