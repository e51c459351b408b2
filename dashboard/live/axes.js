// Words, ticks and colours of the live chart. No state.

const MINUTE = 60e3, HOUR = 3600e3, DAY = 86400e3;
const TIME_STEPS = [1e3, 2e3, 5e3, 10e3, 15e3, 30e3, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE,
  15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY];
const AGE_STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60,
  120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800];

export function age(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  const whole = Math.round(seconds);
  for (const [size, name, rest, restName] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const left = Math.floor((whole % size) / rest);
      return `${Math.floor(whole / size)} ${name}` + (left ? ` ${left} ${restName}` : "");
    }
  }
  return `${whole} s`;
}

export function short(value) {
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return value >= 100 || Number.isInteger(value) ? `${Math.round(value)}` : `${+value.toPrecision(2)}`;
}

export function worded(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "seconds") return age(value);
  if (unit === "per_second") return `${short(value)}/s`;
  // What is counted is whole, so a fraction is an average: one decimal says enough of it.
  if (value > 0 && value < 0.05) return "<0.1";
  return value < 1e4 ? `${+value.toFixed(value >= 100 ? 0 : 1)}` : short(value);
}

const two = n => String(n).padStart(2, "0");
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
export const clock = at => { const d = new Date(at); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
export const day = at => new Date(at).toLocaleDateString([], { month: "short", day: "numeric" });
export const utc = at => `${new Date(at).toISOString().replace("T", " ").slice(0, 19)} UTC`;

export function element(tag, name, parent, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

// ---- axes ----------------------------------------------------------------------------------

export function timeTicks(from, to, width) {
  const wanted = (to - from) / Math.max(2, Math.floor(width / 85));
  const step = TIME_STEPS.find(s => s >= wanted) || Math.ceil(wanted / DAY) * DAY;
  const shift = new Date(to).getTimezoneOffset() * MINUTE; // ticks are round in the viewer's zone
  const values = [], texts = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) {
    values.push(at);
    const text = clock(at);
    const midnight = text === "00:00:00";
    texts.push(midnight || step >= DAY ? day(at) : step < MINUTE ? text : text.slice(0, 5));
  }
  return [values, texts];
}

export function valueTicks(top, unit) {
  const wanted = top / 4;
  let step;
  if (unit === "seconds") step = AGE_STEPS.find(s => s >= wanted) || Math.ceil(wanted / 604800) * 604800;
  else {
    const power = 10 ** Math.floor(Math.log10(wanted || 1));
    step = [1, 2, 5, 10].map(n => n * power).find(s => s >= wanted) || power * 10;
    if (unit === "count") step = Math.max(step, 1);
  }
  const values = [], texts = [];
  for (let i = 0; i * step <= top * 1.0001; i++) {
    values.push(i * step);
    texts.push(unit === "seconds" ? age(i * step) : short(i * step));
  }
  return [values, texts];
}

// ---- colours -------------------------------------------------------------------------------

export function rgb(colour) {
  const probe = rgb.canvas ||= document.createElement("canvas").getContext("2d");
  probe.fillStyle = "#888888";
  probe.fillStyle = colour.trim() || "#888888";
  const hex = probe.fillStyle;
  if (hex.startsWith("#")) return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  return hex.match(/[\d.]+/g).slice(0, 3).map(Number);
}

export const alpha = (colour, a) => `rgba(${rgb(colour).join(",")},${a})`;
