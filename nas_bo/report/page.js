"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const plot = document.getElementById("plot"), NS = "http://www.w3.org/2000/svg";
  const L = 66, R = 18, T = 18, B = 50;
  let W = 980, H = 470;  // as wide as the page, so that letters keep their size on a telephone
  const fit = () => { W = Math.max(340, Math.min(980, plot.clientWidth || 980)); H = W < 600 ? 390 : 470; };
  const make = (tag, attributes = {}, parent = null, text = null) => {
    const node = document.createElementNS(NS, tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    if (text !== null) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const show = v => {
    if (v === null) return "–";
    const a = Math.abs(v);
    for (const [b, s, d] of [[1e12, "T", 1e12], [1e9, "G", 1e9], [1e6, "M", 1e6], [1e5, "k", 1e3]])
      if (a >= b) return +(v / d).toPrecision(4) + s;
    return a >= 1000 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(4));
  };
  const trialAxis = { title: "trial", sign: 0, log: false, limits: [] };
  const axisOf = i => i < 0 ? trialAxis : data.columns[i];
  const value = (t, i, row) => i < 0 ? (t.n ?? row) : t.values[i];
  const many = data.columns.length;
  let X = many > 1 ? 1 : -1, Y = 0, chosen = -1;

  // ---- scales -----------------------------------------------------------------------------------------------
  const scale = (i, from, to) => {
    const axis = axisOf(i), all = [];
    data.trials.forEach((t, row) => { if (value(t, X, row) !== null && value(t, Y, row) !== null) all.push(value(t, i, row)); });
    if (i >= 0) for (const other of [...data.retrained, ...data.baselines]) if (other.values[i] !== null) all.push(other.values[i]);
    const log = axis.log && all.every(v => v > 0), f = log ? Math.log10 : v => v;
    let low = Math.min(...all.map(f)), high = Math.max(...all.map(f));
    if (!all.length) [low, high] = [0, 1];
    const wide = high - low || Math.abs(high) || 1;
    for (const b of axis.limits) if (!log || b > 0) { const v = f(b); if (v > low - 0.3 * wide && v < high + 0.3 * wide) { low = Math.min(low, v); high = Math.max(high, v); } }
    const pad = (high - low || Math.abs(high) * 0.1 || 1) * 0.06;
    low -= pad; high += pad;
    const at = v => from + (f(v) - low) / (high - low) * (to - from), ticks = [];
    if (log && high - low > 0.7) {
      for (let e = Math.floor(low); e <= high; e++) for (const m of high - low > 2.2 ? [1] : [1, 2, 5]) { const v = m * 10 ** e; if (f(v) >= low && f(v) <= high) ticks.push(v); }
    } else {
      const a = log ? 10 ** low : low, b = log ? 10 ** high : high, rough = (b - a) / 6, p = 10 ** Math.floor(Math.log10(rough));
      const step = p * [1, 2, 5, 10].find(m => m * p >= rough);
      for (let v = Math.ceil(a / step) * step; v <= b; v += step) ticks.push(+v.toPrecision(12));
    }
    return { at, ticks };
  };

  // ---- the plot ---------------------------------------------------------------------------------------------
  const tip = document.createElement("div");
  tip.className = "tip";
  const hover = (node, head, values) => {
    node.addEventListener("mouseenter", () => {
      tip.replaceChildren();
      const b = document.createElement("b"); b.textContent = head; tip.append(b);
      values.forEach((v, i) => { const line = document.createElement("div"); line.textContent = data.columns[i].title + ": " + show(v); tip.append(line); });
      const r = node.getBoundingClientRect(), p = plot.getBoundingClientRect(), left = r.left - p.left;
      tip.style.visibility = "visible";
      const wanted = left > p.width / 2 ? left - tip.offsetWidth - 12 : left + 20;
      tip.style.left = Math.max(0, Math.min(wanted, p.width - tip.offsetWidth)) + "px";
      tip.style.top = (r.top - p.top - 8) + "px";
    });
    node.addEventListener("mouseleave", () => { tip.style.visibility = "hidden"; });
  };
  const star = (x, y, r) => Array.from({ length: 10 }, (_, k) => { const q = k % 2 ? r * 0.45 : r, a = Math.PI * (k / 5 - 0.5); return (x + q * Math.cos(a)).toFixed(1) + "," + (y + q * Math.sin(a)).toFixed(1); }).join(" ");
  const shape = (kind, x, y, parent) => {
    if (kind === "knee") return make("polygon", { points: star(x, y, 11) }, parent);
    if (kind === "out") return make("path", { d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` }, parent);
    if (kind === "re" || kind === "re last") return make("path", { d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` }, parent);
    if (kind === "base") return make("rect", { x: x - 5, y: y - 5, width: 10, height: 10 }, parent);
    return make("circle", { cx: x, cy: y, r: kind === "front" || kind === "final" || kind === "old" ? 5.5 : 4 }, parent);
  };
  const draw = () => {
    const x = scale(X, L, W - R), y = scale(Y, H - B, T), svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    for (const v of x.ticks) { make("line", { class: "grid", x1: x.at(v), x2: x.at(v), y1: T, y2: H - B }, svg); make("text", { class: "tick", x: x.at(v), y: H - B + 17, "text-anchor": "middle" }, svg, show(v)); }
    for (const v of y.ticks) { make("line", { class: "grid", x1: L, x2: W - R, y1: y.at(v), y2: y.at(v) }, svg); make("text", { class: "tick", x: L - 8, y: y.at(v) + 4, "text-anchor": "end" }, svg, show(v)); }
    make("path", { class: "axis", fill: "none", d: `M${L} ${T}V${H - B}H${W - R}` }, svg);
    const better = a => a.sign === 0 ? "" : a.sign > 0 ? "   ← better" : "   better →";
    make("text", { x: (L + W - R) / 2, y: H - 10, "text-anchor": "middle" }, svg, axisOf(X).title + better(axisOf(X)));
    make("text", { transform: `translate(16 ${(T + H - B) / 2}) rotate(-90)`, "text-anchor": "middle" }, svg, axisOf(Y).title + better(axisOf(Y)));
    for (const v of axisOf(X).limits) if (x.at(v) >= L && x.at(v) <= W - R) { make("line", { class: "limit", x1: x.at(v), x2: x.at(v), y1: T, y2: H - B }, svg); const right = x.at(v) > W - R - 60; make("text", { class: "limit-text", x: x.at(v) + (right ? -4 : 4), y: T + 8, "text-anchor": right ? "end" : "start" }, svg, "limit " + show(v)); }
    for (const v of axisOf(Y).limits) if (y.at(v) >= T && y.at(v) <= H - B) { make("line", { class: "limit", x1: L, x2: W - R, y1: y.at(v), y2: y.at(v) }, svg); make("text", { class: "limit-text", x: W - R - 4, y: y.at(v) - 4, "text-anchor": "end" }, svg, "limit " + show(v)); }
    const placed = [];
    data.trials.forEach((t, row) => { const a = value(t, X, row), b = value(t, Y, row); if (a !== null && b !== null) placed.push({ t, row, a, px: x.at(a), py: y.at(b) }); });
    // where anything was re-trained, the front of the search is faint, and the final one is what is drawn
    const again = [];
    for (const r of data.retrained) {
      const old = data.trials[r.row];
      if (!old || X < 0 || (r.values[X] === null && r.values[Y] === null)) continue;
      const values = r.values.map((v, i) => v ?? old.values[i]), ends = values.map((v, i) => r.ends[i] ?? (r.values[i] === null && old.ends ? old.ends[i] : null));
      if (values[X] === null || values[Y] === null) continue;
      again.push({ r, old, values, ends, a: values[X], px: x.at(values[X]), py: y.at(values[Y]) });
    }
    const settled = again.some(p => p.r.final);
    const stair = (points, name) => {
      let d = "";
      [...points].sort((p, q) => p.a - q.a).forEach((p, k) => { d += k === 0 ? `M${p.px} ${p.py}` : axisOf(X).sign > 0 ? `H${p.px}V${p.py}` : `V${p.py}H${p.px}`; });
      if (d) make("path", { class: name, d }, svg);
    };
    const onFront = t => t.kind === "front" || t.kind === "knee" || t.kind === "final";
    if (many === 2 && X >= 0) {
      stair(placed.filter(p => onFront(p.t)), settled ? "stair was" : "stair");
      if (settled) stair(again.filter(p => p.r.final), "stair last");
    }
    const bars = (ends, px, py, name) => {
      if (X >= 0 && ends?.[X]) make("line", { class: name, x1: x.at(ends[X][0]), x2: x.at(ends[X][1]), y1: py, y2: py }, svg);
      if (ends?.[Y]) make("line", { class: name, x1: px, x2: px, y1: y.at(ends[Y][0]), y2: y.at(ends[Y][1]) }, svg);
    };
    const order = { out: 0, trial: 1, front: 2, final: 3, knee: 4 };
    placed.sort((p, q) => order[p.t.kind] - order[q.t.kind]);
    for (const p of again) {
      if (p.old.values[X] !== null && p.old.values[Y] !== null) make("line", { class: "move", x1: x.at(p.old.values[X]), y1: y.at(p.old.values[Y]), x2: p.px, y2: p.py }, svg);
    }
    const name = t => (t.n === null ? "" : "trial " + t.n + ": ") + t.label;
    for (const p of placed) {
      const kind = settled && onFront(p.t) ? "old" : p.t.kind, star = kind === "old" && p.t.kind === "knee";
      if (onFront(p.t) && kind !== "old") bars(p.t.ends, p.px, p.py, "error");
      const node = shape(kind, p.px, p.py, svg);
      node.setAttribute("class", "dot " + (kind === "old" ? "front old" : kind) + (p.row === chosen && !star ? " on" : ""));
      if (!star) node.dataset.dot = p.row;
      hover(node, (settled ? "in the search, " : "") + name(p.t), p.t.values);
      node.addEventListener("click", () => choose(p.row, true));
    }
    for (const p of again) {
      const star = p.old.kind === "knee", kind = star ? "knee" : p.r.final ? "re last" : "re";
      bars(p.ends, p.px, p.py, "error");
      const node = shape(kind, p.px, p.py, svg);
      node.setAttribute("class", "dot " + kind + (star && p.r.row === chosen ? " on" : ""));
      if (star) node.dataset.dot = p.r.row;
      hover(node, "evaluated again, " + name(p.old), p.values);
      node.addEventListener("click", () => choose(p.r.row, true));
    }
    for (const base of data.baselines) if (X >= 0 && base.values[X] !== null && base.values[Y] !== null) { const node = shape("base", x.at(base.values[X]), y.at(base.values[Y]), svg); node.setAttribute("class", "dot base"); hover(node, "baseline: " + base.label, base.values); }
    plot.querySelector(":scope > svg")?.remove();
    plot.prepend(svg);
  };

  // ---- choosing a trial, sorting a table --------------------------------------------------------------------
  const choose = (row, scroll) => {
    chosen = row === chosen ? -1 : row;
    document.querySelectorAll("tr.on").forEach(tr => tr.classList.remove("on"));
    if (chosen >= 0) document.querySelectorAll(`tr[data-i="${chosen}"]`).forEach((tr, k) => {
      tr.classList.add("on");
      const box = tr.closest(".scroll");
      if (scroll) box.scrollTop = tr.offsetTop - box.clientHeight / 2;
    });
    document.querySelectorAll("[data-wire]").forEach(wire => wire.classList.toggle("on", +wire.dataset.wire === chosen));
    draw();
  };
  document.querySelectorAll("[data-wire]").forEach(wire => wire.addEventListener("click", () => choose(+wire.dataset.wire, true)));
  document.querySelectorAll("tr[data-i]").forEach(tr => tr.addEventListener("click", () => choose(+tr.dataset.i, false)));
  document.querySelectorAll("th").forEach(th => th.addEventListener("click", () => {
    const body = th.closest("table").tBodies[0], column = th.cellIndex, up = th.getAttribute("aria-sort") !== "ascending";
    th.parentNode.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = tr => { const cell = tr.cells[column]; return cell.dataset.v === "Infinity" ? "" : cell.dataset.v !== undefined ? +cell.dataset.v : cell.textContent; };
    const compare = (a, b) => {
      const p = key(a), q = key(b);
      if (p === "" || q === "") return p === q ? 0 : p === "" ? 1 : -1;
      return (typeof p === "number" && typeof q === "number" ? p - q : String(p).localeCompare(String(q), "en", { numeric: true })) * (up ? 1 : -1);
    };
    body.append(...[...body.rows].sort(compare));
  }));

  // ---- axes to choose from, and the key ---------------------------------------------------------------------
  if (many > 2) {
    const pick = document.createElement("div");
    pick.className = "pick";
    for (const [word, get, set] of [["across", () => X, v => { X = v; }], ["upwards", () => Y, v => { Y = v; }]]) {
      const label = document.createElement("label"), select = document.createElement("select");
      data.columns.forEach((c, i) => select.add(new Option(c.title, i, false, i === get())));
      select.addEventListener("change", () => { set(+select.value); draw(); });
      label.append(word + " ", select);
      pick.append(label);
    }
    plot.append(pick);
  }
  const key = document.createElement("div");
  key.className = "key";
  const kinds = new Set(data.trials.map(t => t.kind));
  const last = data.retrained.some(r => r.final), left = data.retrained.some(r => !r.final);
  for (const [kind, word, shown] of [["knee", many > 1 ? "knee" : "best", kinds.has("knee")], ["re last", "final front", last],
    ["re", last ? "evaluated again, not on it" : "re-trained", left], [last ? "old" : "front", last ? "front of the search" : "Pareto front", kinds.has("front") || kinds.has("final")],
    ["trial", "trial", kinds.has("trial")], ["out", "infeasible", kinds.has("out")], ["base", "baseline", data.baselines.length > 0]]) {
    if (!shown) continue;
    const span = document.createElement("span"), svg = make("svg", { viewBox: "0 0 24 24" });
    shape(kind, 12, 12, svg).setAttribute("class", "dot " + (kind === "old" ? "front old" : kind));
    span.append(svg, word);
    key.append(span);
  }
  plot.append(key, tip);
  fit();
  draw();
  addEventListener("resize", () => { const before = W; fit(); if (W !== before) draw(); });
})();
