"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = id => document.getElementById(id);
const data = JSON.parse(one("data").textContent);
const scenes = one("scenes");

// --- All videos in view play in step. The first of them is the clock. ---
const inView = new Set();
let playing = false, starting = false, touched = false;
const rate = () => parseFloat(one("speed").value);
const clock = () => all("video", scenes).find(v => inView.has(v) && v.readyState > 1);
const fps = v => parseFloat(v.dataset.fps), frames = v => Math.round((v.duration || 0) * fps(v)) || 1;
const frameOf = v => Math.min(frames(v) - 1, Math.floor(v.currentTime * fps(v) + 0.01));

// Load a video, which is not done before it is needed; resolves when its first frame is there, or it cannot be read.
// Or it is given back before ("emptied").
const heard = (v, ...events) => new Promise(done => events.forEach(e => v.addEventListener(e, done, { once: true })));
const ready = async v => {
  if (v.readyState > 1 || v.error) return;
  const loaded = heard(v, "loadeddata", "error", "emptied");
  if (!v.src) { v.preload = "auto"; v.src = v.dataset.src; }
  await loaded;
};
// A browser holds only so many videos: those out of sight are given back.
const unload = v => { v.pause(); if (v.src) { v.removeAttribute("src"); v.load(); } };
const seek = async (v, time) => {
  if (!v.duration) return;
  const sought = heard(v, "seeked", "emptied");
  v.currentTime = Math.min(time, v.duration - 0.3 / fps(v));
  await sought;
};
const soon = (promises, seconds) => Promise.race([Promise.all(promises), new Promise(done => setTimeout(done, 1000 * seconds))]);

const showTime = v => {
  if (!v) return;
  one("scrub").max = frames(v) - 1;
  one("scrub").value = frameOf(v);
  one("frame").textContent = `frame ${+one("scrub").value + 1} of ${frames(v)}`;
};
// Start all videos in view together at a time in seconds: each waits for the slowest.
const start = async time => {
  starting = touched = true;
  const own = [...inView];
  await soon(own.map(v => ready(v).then(() => seek(v, time))), 4);
  starting = false;
  if (playing) own.forEach(v => { v.playbackRate = rate(); v.play().catch(() => {}); });
  showTime(clock());
};
const setPlaying = on => {
  if (on === playing) return;
  playing = on;
  one("play").textContent = on ? "Pause" : "Play all";
  one("play").setAttribute("aria-pressed", on);
  if (!on) return all("video", scenes).forEach(v => v.pause());
  const first = clock();
  if (!inView.size) scenes.scrollIntoView();
  else start(!touched || !first || frameOf(first) >= frames(first) - 1 ? 0 : first.currentTime);
  requestAnimationFrame(keepStep);
};
// Videos that are ahead play slower, those behind faster, and those far off jump. At the end all start again.
const keepStep = () => {
  if (!playing) return;
  requestAnimationFrame(keepStep);
  if (starting || !inView.size) return;
  const first = clock();
  if (!first || first.ended) return void start(0); // at first nothing is loaded: Play may come before a video is in view
  inView.forEach(v => {
    if (v.readyState < 2) return void ready(v); // it came into view while the others play
    if (v === first) return void (v.paused && v.play().catch(() => {}));
    const off = (v.currentTime - first.currentTime) * fps(v); // in frames
    if (Math.abs(off) > 1) { v.currentTime = first.currentTime; v.playbackRate = rate(); }
    else v.playbackRate = rate() * (1 - 0.5 * off);
    if (v.paused && !v.ended) v.play().catch(() => {});
  });
  showTime(first);
};
// Show one frame of all videos in view.
const goTo = async frame => {
  setPlaying(false);
  touched = true;
  const own = [...inView], first = own.find(v => v === clock()) || own[0];
  if (!first) return;
  const k = Math.max(0, Math.min(frames(first) - 1, frame));
  one("scrub").value = k;
  one("frame").textContent = `frame ${k + 1} of ${frames(first)}`;
  await soon(own.map(v => ready(v).then(() => seek(v, (k + 0.5) / fps(first)))), 4);
};
const step = by => goTo(parseInt(one("scrub").value) + by);

// In view, a video with a preview waits until it is needed. One of them is loaded, so that the number of frames is known.
const show = v => {
  const first = clock(), at = () => touched && first ? first.currentTime : (Math.floor(frames(v) / 2) + 0.5) / fps(v);
  ready(v).then(() => seek(v, at())).then(() => { if (!playing) showTime(clock()); });
};
const watcher = new IntersectionObserver(entries => {
  entries.forEach(({ target: v, isIntersecting }) => {
    if (!isIntersecting) { inView.delete(v); return unload(v); }
    inView.add(v);
    if (!playing && (touched || !v.poster)) show(v);
  });
  const own = [...inView];
  if (!playing && own.length && !own.some(v => v.src)) show(own[0]);
}, { rootMargin: "80px" });
one("play").addEventListener("click", () => setPlaying(!playing));
one("back").addEventListener("click", () => step(-1));
one("ahead").addEventListener("click", () => step(1));
one("scrub").addEventListener("input", () => goTo(parseInt(one("scrub").value)));
one("speed").addEventListener("change", () => inView.forEach(v => { v.playbackRate = rate(); }));
// Keys, where they mean nothing else: not in fields, nor in tables and figures that scroll sideways.
document.addEventListener("keydown", e => {
  const at = e.target.closest("input, select, textarea, button, a, summary, dialog, .scroll");
  if (at || !inView.size || e.ctrlKey || e.metaKey || e.altKey) return;
  const keys = { " ": () => setPlaying(!playing), ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => goTo(0) };
  if (!keys[e.key] || (e.key === "Home" && !e.target.closest("#scenes"))) return;
  e.preventDefault();
  keys[e.key]();
});

// --- Columns and seeds: of each adapter's videos of a prompt, the one that fits the chosen seeds best is shown. ---
let behind = null; // the result whose prompts are shown: measure, a, b
const boxes = all("#adapters input"), noise = one("noise").querySelector("select"), training = one("training").querySelector("select");
const fill = (select, values) => {
  [...new Set(values)].filter(v => v !== "").sort((a, b) => a - b).forEach(v => select.add(new Option(v)));
  select.parentElement.hidden = select.length < 2;
};
fill(noise, data.noise);
fill(training, data.seed);
const add = (parent, tag, text = "", properties = {}) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(text);
  parent.append(element);
  return element;
};
const element = (c, words) => {
  const cell = Object.assign(document.createElement("figure"), { className: "cell" });
  const name = c.column < 0 ? "real" : data.variants[c.column], title = add(cell, "h4", name);
  const box = boxes.find(b => +b.value === c.column);
  cell.dataset.column = c.column;
  cell.style.setProperty("--c", box.parentElement.style.getPropertyValue("--c"));
  if (c.seed !== null) { title.append(" "); add(title, "small", `seed ${c.seed}`); }
  if (c.video) {
    const v = add(cell, "video", "", { muted: true, playsInline: true, preload: "none", tabIndex: 0, ariaLabel: `${name}: ${words}` });
    Object.assign(v.dataset, { src: c.video, fps: c.fps });
    if (c.poster) v.poster = c.poster;
    v.addEventListener("click", () => setPlaying(!playing));
    watcher.observe(v);
  } else add(cell, "p", "no video", { className: "mute" });
  const list = add(cell, "dl");
  data.order.filter(m => c.scores[m] !== null).forEach((m, k) => [["dt", data.measures[m].name], ["dd", c.scores[m]]].forEach(([tag, text]) => {
    add(list, tag, text, { className: k > 2 ? "more" : "" }).dataset.measure = m;
  }));
  const reasons = Object.entries(c.reasons), details = reasons.length && add(cell, "details");
  if (details) add(details, "summary", "why");
  reasons.forEach(([measure, why]) => { const p = add(details, "p"); add(p, "b", measure); p.append(`: ${why}`); });
  return cell;
};
// The cells of a prompt are made when its scene comes near: the page opens at once, however many there are.
const made = new Map(); // of each prompt that was near: its cells
const showPrompt = prompt => {
  const best = new Map(), fits = c => 2 * (c.seed === +noise.value) + (c.run === +training.value);
  made.get(prompt).forEach(c => { const k = c.column; if (!best.has(k) || fits(c) > fits(best.get(k))) best.set(k, c); });
  const chosen = [...best.values()].filter(c => boxes.find(b => +b.value === c.column).checked), box = prompt.querySelector(".cells");
  const wanted = chosen.map(c => c.element ??= element(c, prompt.querySelector("h3").firstChild.textContent));
  box.replaceChildren(...wanted);
  all("[data-measure]", box).forEach(x => x.classList.toggle("at", +x.dataset.measure === behind?.measure));
};
const makeScene = scene => all(".prompt", scene).filter(p => !made.has(p)).forEach(p => {
  made.set(p, JSON.parse(p.querySelector("script").textContent));
  showPrompt(p);
});
const near = new IntersectionObserver(entries => entries.filter(e => e.isIntersecting).forEach(({ target }) => {
  near.unobserve(target);
  makeScene(target);
}), { rootMargin: "800px" });
const showCells = () => {
  [...made.keys()].forEach(showPrompt);
  scenes.style.setProperty("--columns", Math.max(1, boxes.filter(b => b.checked).length));
};
one("more").addEventListener("change", () => scenes.classList.toggle("full", one("more").checked));
[...boxes, noise, training].forEach(x => x.addEventListener("change", showCells));

// --- Prompts: filter by text; sort by the range of a measure; or show what is behind a result (#show:MEASURE:A:B). ---
const valuesOf = (prompt, measure) => (data.values[prompt.dataset.sample] || [])[measure] || {};
const size = prompt => { // what a prompt is sorted by
  if (behind) {
    const own = valuesOf(prompt, behind.measure), x = own[behind.a], y = own[behind.b];
    return x === undefined || y === undefined ? -1 : Math.abs(y - x);
  }
  const own = Object.values(valuesOf(prompt, one("sort").value));
  return own.length > 1 ? Math.max(...own) - Math.min(...own) : -1;
};
const showPrompts = () => {
  const words = one("filter").value.toLowerCase().split(/\s+/).filter(Boolean), prompts = all(".prompt", scenes);
  prompts.forEach(p => { p.hidden = !words.every(w => p.dataset.prompt.includes(w)); });
  const sorted = behind || one("sort").value !== "", rows = all(".scene", scenes);
  const largest = row => Math.max(...all(".prompt", row).map(size));
  rows.sort((a, b) => (sorted ? largest(b) - largest(a) : 0) || a.dataset.order - b.dataset.order);
  rows.forEach(row => { row.hidden = all(".prompt", row).every(p => p.hidden); scenes.append(row); });
  rows.filter(row => !row.hidden).slice(0, 1).forEach(makeScene);
  one("count").textContent = `${prompts.filter(p => !p.hidden).length} of ${prompts.length} prompts`;
};
one("filter").addEventListener("input", showPrompts);
one("sort").addEventListener("change", showPrompts);
const showBehind = () => {
  const found = /^#show:(\d+):(\d+):(\d+)$/.exec(location.hash);
  if (!found && !behind) return;
  const [measure, a, b] = found ? found.slice(1).map(Number) : [];
  behind = found && data.measures[measure] && data.variants[a] && data.variants[b] ? { measure, a, b } : null;
  boxes.forEach(x => { x.checked = !behind || [-1, a, b].includes(+x.value); });
  one("behind").hidden = !behind;
  all(".prompt output", scenes).forEach(x => { x.textContent = ""; });
  if (behind) {
    const name = data.measures[measure].name, good = data.measures[measure].better;
    one("behind").firstElementChild.textContent = `The prompts behind ${name}: ${data.variants[b]} − ${data.variants[a]}, mean over seeds and runs, the largest difference first.`;
    all(".prompt", scenes).forEach(p => {
      const own = valuesOf(p, measure), difference = own[b] - own[a], shown = p.querySelector("output");
      if (isNaN(difference)) return;
      shown.textContent = `${name} ${difference < 0 ? "−" : "+"}${Math.abs(difference).toPrecision(2)}`;
      shown.className = difference * good > 0 ? "good" : difference * good < 0 ? "bad" : "";
    });
  }
  showCells();
  showPrompts();
  if (!behind) return;
  one("behind").scrollIntoView({ block: "center" });
  one("behind").focus({ preventScroll: true });
};
addEventListener("hashchange", showBehind);
// Links to results. The same link again leads there again.
document.addEventListener("click", e => {
  const href = e.target.closest("a")?.getAttribute("href");
  if (!href?.startsWith("#show:")) return;
  e.preventDefault();
  if (href === location.hash) showBehind(); else location.hash = href;
});
one("everything").addEventListener("click", () => { location.hash = "videos"; });
// --- Tables: a click on a column header sorts by that column; a second click reverses the order. ---
all("table.sorted").forEach(table => all("th button", table).forEach((button, column) => button.addEventListener("click", () => {
  const head = button.parentElement, up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
  all("th", table).forEach(h => h.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b), p = parseFloat(x), q = parseFloat(y);
    if (x === "" || x === "-") return 1;
    if (y === "" || y === "-") return -1;
    return (up ? 1 : -1) * (isNaN(p) || isNaN(q) ? x.localeCompare(y) : p - q);
  }).forEach(row => body.append(row));
})));

// --- Tab takes a group of like controls as one stop; ← and → move inside of it. Without this script each is a stop. ---
["nav a", "#claims a", "#figure-differences a", "#table :is(a, button)", "#figure-rank a", "#adapters input", ".bar button"].forEach(selector => {
  const group = all(selector), stop = x => group.forEach(y => { y.tabIndex = y === x ? 0 : -1; });
  if (group.length) stop(group[0]);
  group.forEach((x, k) => {
    x.addEventListener("focus", () => stop(x));
    x.addEventListener("keydown", e => {
      const by = { ArrowRight: 1, ArrowLeft: group.length - 1 }[e.key];
      if (!by || e.ctrlKey || e.metaKey || e.altKey || e.shiftKey) return;
      e.preventDefault();
      group[(k + by) % group.length].focus();
    });
  });
});
document.querySelector(".skip").addEventListener("click", e => {
  const first = all(".scene:not([hidden]) .prompt:not([hidden]) .cell:not([hidden]) video")[0];
  if (!first) return;
  e.preventDefault(); // the address may hold what is shown
  first.focus();
});

showCells();
showPrompts();
showBehind();
all(".scene", scenes).forEach(scene => near.observe(scene));
