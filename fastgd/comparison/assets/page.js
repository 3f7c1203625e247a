"use strict";
// Shows what page.py computed: nothing is computed here but places on the screen.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1",
  "#7f7f7f", "#b2182b", "#1b7837", "#a6761d", "#4d4d9f", "#e7298a", "#66a61e"];
const DASHES = ["solid", "dash", "dot"];
const hidden = new Set();

const color = (solver) => PALETTE[data.solvers.indexOf(solver) % PALETTE.length];
const dash = (solver) => DASHES[Math.floor(data.solvers.indexOf(solver) / PALETTE.length) % DASHES.length];
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shown = (value) => value === null || value === undefined ? "—" : String(value);
const axisTitle = (axis) => axis === "passes" ? "passes over the data" : "seconds";

function fill(select, values) {
  for (const value of values) select.add(new Option(value, value));
}

function layout(x, y) {
  const line = { gridcolor: variable("--line"), linecolor: variable("--line"), zeroline: false };
  const font = { color: variable("--text"), family: "system-ui, sans-serif", size: 13 };
  const narrow = window.innerWidth < 760;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font, hovermode: "closest",
    margin: { l: 62, r: 12, t: 32, b: 48 },
    xaxis: { ...line, dtick: x.type === "log" ? 1 : undefined, ...x }, yaxis: { ...line, ...y },
    // What was zoomed into stays in view as long as the axis is the same.
    uirevision: `${x.type} ${x.title.text}`,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--quiet"), activecolor: variable("--accent") },
    legend: { tracegroupgap: 0, ...(narrow ? { orientation: "h", y: -0.25 } : { y: 0.98 }) },
  };
}

const trace = (solver, x, y, more) => ({
  x, y, name: solver, legendgroup: solver, mode: "lines",
  line: { color: color(solver), dash: dash(solver), width: 2 },
  visible: hidden.has(solver) ? "legendonly" : true, ...more,
});

function draw(id, traces, x, y) {
  Plotly.react(id, traces, layout(x, y), { responsive: true, displaylogo: false, showSendToCloud: false });
}

function drawConvergence(problem, axis, scale) {
  const curves = data.curves[problem][axis];
  const traces = [];
  for (const solver of data.solvers) {
    const [low, middle, high] = curves.bands[solver];
    if (middle.every((value) => value === null)) continue;
    const band = { line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    traces.push(trace(solver, curves.grid, high, band));
    traces.push(trace(solver, curves.grid, low, { ...band, fill: "tonexty", fillcolor: color(solver) + "22" }));
    traces.push(trace(solver, curves.grid, middle, { hovertemplate: `${solver}<br>%{x:.3g} ${axis}: %{y:.3g}<extra></extra>` }));
  }
  draw("convergence", traces, { type: scale, title: { text: axisTitle(axis) } },
    { type: "log", title: { text: "share of the way left" }, exponentformat: "power" });
}

function drawProfile(id, profile, x) {
  const traces = Object.entries(profile.shares).map(([solver, share]) =>
    trace(solver, profile.x, share, { line: { color: color(solver), dash: dash(solver), width: 2, shape: "hv" },
      hovertemplate: `${solver}<br>%{x:.3g}: %{y:.0%}<extra></extra>` }));
  draw(id, traces, { type: "log", ...x }, { range: [-0.02, 1.02], tickformat: ".0%", title: { text: "share solved" } });
}

const ratioAxis = (axis) => ({
  title: { text: `multiple of the best cost in ${axis}` }, tickvals: [1, 2, 4, 8, 16], dtick: undefined,
});

function drawSensitivity(problem) {
  const found = data.sensitivity[problem] || {};
  byId("sensitivity-part").hidden = Object.keys(data.sensitivity).length === 0;
  const traces = data.solvers.filter((solver) => found[solver]).map((solver) =>
    trace(solver, found[solver].map((p) => p[0]), found[solver].map((p) => p[1]),
      { mode: "lines+markers", hovertemplate: `${solver}<br>rate %{x:.3g}: %{y:.3g}<extra></extra>` }));
  draw("sensitivity", traces, { type: "log", title: { text: "learning rate" } },
    { type: "log", title: { text: "share of the way left" }, exponentformat: "power" });
}

function table(id, head, rows) {
  const target = byId(id);
  target.replaceChildren();
  const header = target.createTHead().insertRow();
  for (const name of head) header.appendChild(Object.assign(document.createElement("th"), { textContent: name }));
  const body = target.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const cell of row) {
      const { text, best } = cell !== null && typeof cell === "object" ? cell : { text: cell };
      const place = line.insertCell();
      place.textContent = shown(text);
      if (best) place.className = "best";
      else if (typeof text === "string" && text !== "—") place.className = "text";
    }
  }
}

function drawOverall(axis) {
  const targets = data.targets;
  table("overall",
    ["solver", "area", ...targets.map((t) => `solved to ${t}`), "diverged", "timed out", "failed", "seconds", "compile s"],
    data.tables[axis].map((row) => [row.solver, row.area, ...targets.map((t) => row.solved[t]),
      row.diverged, row["timed out"], row.failed, row.seconds, row.compile]));
}

function drawCosts(axis, target) {
  const costs = data.costs[axis][target];
  const lowest = data.problems.map((_, i) =>
    Math.min(...data.solvers.map((solver) => costs[solver][i] ?? Infinity)));
  table("costs", ["solver", ...data.problems], data.solvers.map((solver) => [solver,
    ...costs[solver].map((cost, i) => ({ text: cost, best: cost !== null && cost === lowest[i] }))]));
}

function drawPair() {
  const [a, b] = [byId("first").value, byId("second").value];
  const [i, k] = [a, b].map((solver) => data.solvers.indexOf(solver));
  const straight = data.pairs[`${i}|${k}`];
  const found = straight || data.pairs[`${k}|${i}`];
  byId("pair-profile").hidden = !found;
  if (!found) { table("pair", ["Choose two solvers."], []); return; }
  drawProfile("pair-profile", found.profile, ratioAxis("passes"));
  const turned = (value) => value === null ? null : Number((1 / value).toPrecision(4));
  table("pair", ["problem", "ratio", "from", "to", ""], data.problems.map((problem, place) => {
    const verdict = found.verdicts[place];
    if (typeof verdict === "string") return [problem, null, null, null, verdict];
    const [ratio, low, high, winner] = verdict;
    const who = winner < 0 ? "no difference" : `${(winner === 0) === Boolean(straight) ? a : b} is cheaper`;
    return straight ? [problem, ratio, low, high, who] : [problem, turned(ratio), turned(high), turned(low), who];
  }));
}

function drawFinals(problem) {
  const columns = ["gap", "final", "validation_loss", "validation_score", "test_loss", "test_score", "steps", "seconds"];
  table("finals", ["solver", ...columns.map((c) => c.replace("_", " ")), "ends"],
    data.finals[problem].map((row) => [row.solver, ...columns.map((c) => row[c]), row.ends.join("; ")]));
}

function drawStatic() {
  byId("tuning-part").hidden = data.tuning.length === 0;
  table("tuning", ["problem", "solver", "settings", "trials", "seconds", "on the edge"], data.tuning.map((t) =>
    [t.problem, t.solver, Object.entries(t.settings).map(([k, v]) => `${k}=${v}`).join(", ") || "—", t.trials, t.seconds,
      t.on_edge.join(", ") || "—"]));
  table("ratios", ["problem", "value alone", "Hessian product", "normal equations"],
    Object.entries(data.ratios).map(([name, r]) => [name, r.fun, r.hessp, r.normal_equations]));
  table("provenance", ["", ""], Object.entries(data.provenance).map(([name, value]) => [name, value]));
}

function drawAll() {
  const [axis, problem, scale, target] = ["axis", "problem", "scale", "target"].map((id) => byId(id).value);
  history.replaceState(null, "", `#${new URLSearchParams({ problem, axis, scale, target })}`);
  for (const of of document.querySelectorAll("h2 .of")) of.textContent = problem;
  drawConvergence(problem, axis, scale);
  drawProfile("profile", data.profiles[axis], ratioAxis(axis));
  drawProfile("data-profile", data.data_profiles[axis], { title: { text: axisTitle(axis) } });
  drawSensitivity(problem);
  drawOverall(axis);
  drawCosts(axis, target);
  drawPair();
  drawFinals(problem);
  document.body.dataset.ready = "yes";
}

// A solver hidden in one plot is hidden in all.
function linkLegends() {
  for (const id of ["convergence", "profile", "data-profile", "pair-profile", "sensitivity"]) {
    if (!byId(id).on) continue;  // nothing is drawn there
    byId(id).on("plotly_legendclick", ({ data: traces, curveNumber }) => {
      const solver = traces[curveNumber].name;
      if (!hidden.delete(solver)) hidden.add(solver);
      drawAll();
      return false;
    });
    byId(id).on("plotly_legenddoubleclick", ({ data: traces, curveNumber }) => {
      const solver = traces[curveNumber].name;
      const alone = data.solvers.every((other) => (other === solver) !== hidden.has(other));
      hidden.clear();
      if (!alone) data.solvers.filter((other) => other !== solver).forEach((other) => hidden.add(other));
      drawAll();
      return false;
    });
  }
}

let width = window.innerWidth;
window.addEventListener("resize", () => {
  // A phone's address bar changes the height all the time.
  if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); }
});
fill(byId("problem"), data.problems);
fill(byId("target"), data.targets);
fill(byId("first"), data.solvers);
fill(byId("second"), data.solvers);
byId("second").selectedIndex = Math.min(1, data.solvers.length - 1);
const wanted = new URLSearchParams(location.hash.slice(1));
for (const id of ["problem", "axis", "scale", "target"]) {
  const select = byId(id);
  if ([...select.options].some((option) => option.value === wanted.get(id))) select.value = wanted.get(id);
  select.addEventListener("change", drawAll);
}
byId("first").addEventListener("change", drawPair);
byId("second").addEventListener("change", drawPair);
document.documentElement.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
byId("theme").addEventListener("click", () => { document.documentElement.classList.toggle("dark"); drawAll(); });
drawStatic();
drawAll();
linkLegends();
