"use strict";
// Draws the charts of the page, and moves the cuts of its dendrograms. No cut is computed here: each place of the
// sliders is one that ecjax made when it wrote the page.
(() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const views = new Map();
  const embed = { renderer: "svg", actions: false, ast: false };
  const ready = Object.entries(about.charts).map(([name, spec]) =>
    window.vegaEmbed("#" + name, spec, embed).then((done) => views.set(name, done.view)));

  const inside = (range, place) => range[0] <= place && place <= range[1];
  const degrees = (angle) => (angle * 180 / Math.PI).toPrecision(3) + "°";

  // What one cut makes of the dendrogram: a state for each bracket, a shade for each candidate, a number for each that
  // is kept.
  function shown(cut, outcome) {
    const ranges = (nodes) => nodes.map((node) => cut.intervals[node]);
    const kept = ranges(outcome.kept), other = ranges(outcome.other);
    const state = ([, left, right]) =>
      kept.some((range) => inside(range, left) && inside(range, right)) ? "neuron"
        : other.some((range) => inside(range, left) && inside(range, right)) ? "no neuron" : "rest";
    const brackets = cut.brackets.flatMap((bracket) => {
      const [, left, right, low, high, top] = bracket, at = { state: state(bracket) };
      return [{ ...at, x: left, x2: left, y: Math.max(low, cut.lowest), y2: top },
        { ...at, x: left, x2: right, y: top, y2: top },
        { ...at, x: right, x2: right, y: Math.max(high, cut.lowest), y2: top }];
    });
    const labels = kept.map((range) => {
      const known = cut.numbers.find((each) => inside(range, each.place));
      return { place: (range[0] + range[1]) / 2, y: cut.lowest, number: known ? known.number : "new" };
    });
    const shade = (state) => (node) => ({ state, x: cut.intervals[node][0] - 0.5, x2: cut.intervals[node][1] + 0.5,
      y: cut.lowest, y2: Math.max(cut.heights[node], 1.5 * cut.lowest) });
    const shades = [...outcome.kept.map(shade("neuron")), ...outcome.other.map(shade("no neuron"))];
    return { brackets, labels, shades };
  }

  function move(name, cut) {
    const [k, b] = ["gamma", "beta"].map((what) => Number(document.getElementById(`${what}-${name}`).value));
    const needed = cut.needed[k], beta = cut.betas[b], outcome = cut.outcomes[cut.outcome[k][b]];
    const { brackets, labels, shades } = shown(cut, outcome);
    const view = views.get(cut.chart);
    if (view) view.data("brackets", brackets).data("labels", labels).data("shades", shades).run();
    for (const [what, text] of [["gamma", `${needed} of ${cut.students}`], ["beta", degrees(beta)]]) {
      document.getElementById(`${what}-${name}-value`).textContent = text;
      document.getElementById(`${what}-${name}`).setAttribute("aria-valuetext", text);
    }
    const own = k === cut.own[0] && b === cut.own[1], n = outcome.kept.length;
    const count = document.getElementById(`count-${name}`);
    count.textContent = `${n} ${n === 1 ? "cluster" : "clusters"} kept` + (own ? ", the cut of the run" : "");
    if (!own && cut.command) {
      const code = document.createElement("code");
      const gamma = Number((needed / cut.students).toPrecision(12));
      code.textContent = `${cut.command} --gamma ${gamma} --beta ${Number(beta.toPrecision(6))}`;
      count.append(" ", code);
    }
  }

  const settle = Promise.all(ready).then(() => {
    for (const form of document.querySelectorAll("form.cut")) {
      const name = form.dataset.cut, cut = about.cuts[name];
      const begin = () => {
        ["gamma", "beta"].forEach((what, i) => { document.getElementById(`${what}-${name}`).value = cut.own[i]; });
        move(name, cut);
      };
      form.addEventListener("input", () => move(name, cut));
      form.addEventListener("reset", (event) => { event.preventDefault(); begin(); });
      begin();
    }
    document.documentElement.dataset.ready = "yes";
  });
  settle.catch((error) => console.error(error));

  // On paper there is no click, so what is folded is unfolded; the settings, many pages, stay folded.
  window.addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("figure details")) each.open = true;
  });
})();
