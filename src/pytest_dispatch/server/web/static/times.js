// Times: the server writes them in UTC. Here they get the viewer's time zone, and become relative, with the exact one on hover.

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const EVERY = 5000; // milliseconds

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

// Returns a length of time in its largest unit: "4 min", "3 h", "12 s".
function roughly(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

// Returns what is left of a length of time, to the nearest unit: 90 days that have just begun are not 89. Of a few hours
// it says the minutes, too: "1 h 40 min".
function left(seconds) {
  const half = seconds >= 2 * 86400 - 30 ? 43200 : seconds >= 10 * 3600 - 30 ? 1800 : seconds > 120 ? 30 : 0;
  const rounded = seconds + half;
  const minutes = rounded < 10 * 3600 ? Math.floor((rounded % 3600) / 60) : 0;
  return rounded >= 3600 && minutes ? `${roughly(rounded)} ${minutes} min` : roughly(rounded);
}

export function clockText(at) {
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

const WRITTEN = {
  ago: (at, now) => (now - at < 1000 ? "now" : `${roughly((now - at) / 1000)} ago`),
  lasting: (at, now) => roughly(Math.max(0, now - at) / 1000),
  hour: (at) => hour.format(at),
  soon: (at, now) => (at - now < 1000 ? "now" : `in ${left((at - now) / 1000)}`),
  clock: (at) => clockText(at),
};

// Writes all times below an element, and how far runs are.
export function writeTimes(root) {
  const now = new Date();
  for (const each of root.querySelectorAll("time[data-as]")) {
    const at = new Date(each.dateTime);
    each.title = exact.format(at);
    each.textContent = WRITTEN[each.dataset.as](at, now);
  }
  for (const each of root.querySelectorAll("progress[data-takes]")) {
    const share = (now - new Date(each.dataset.from)) / 1000 / each.dataset.takes;
    each.setAttribute("value", Math.max(0, Math.min(share, 0.98)).toFixed(2));
  }
}

export function keepTimes() {
  writeTimes(document);
  setInterval(() => document.hidden || writeTimes(document), EVERY);
  document.addEventListener("visibilitychange", () => document.hidden || writeTimes(document));
}
