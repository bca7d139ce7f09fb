// The page's own script: table, charts, copying, printing. Sets text with textContent only; makes no request.
const data = JSON.parse(document.getElementById("report-data").textContent);
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
const grid = $("#grid");

// ---------------------------------------------------------------------------------------------------- the table
const shownColumns = () => $$("#model-filter input").filter((box) => box.checked).map((box) => box.value);
const mode = () => $("#cell-mode").value;
const scoreCells = (row) => $$("td[data-tip]", row);
const shownText = (cell) => $(mode() === "delta" ? ".delta" : ".score", cell).textContent;

function sortBy(head) {
  const key = head.dataset.sort;
  const isText = key === "name" || key === "type";
  const before = head.getAttribute("aria-sort");
  const first = isText ? "ascending" : "descending";
  const order = before === first ? (isText ? "descending" : "ascending") : first;
  $$("thead th", grid).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const valueOf = (row) => {
    if (isText) return row.dataset[key];
    const value = Number.parseFloat(shownText(scoreCells(row)[Number(key)]));
    return Number.isNaN(value) ? null : value;
  };
  const rows = $$("tbody tr", grid).map((row) => [valueOf(row), row]);
  rows.sort(([a, rowA], [b, rowB]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const found = isText ? a.localeCompare(b) : a - b;
    return sign * found || rowA.dataset.order - rowB.dataset.order;
  });
  $("tbody", grid).append(...rows.map(([, row]) => row));
}

function filterTable() {
  const type = $("#type-filter").value;
  const part = $("#task-filter").value.trim().toLowerCase();
  const columns = new Set(shownColumns());
  for (const row of $$("tbody tr", grid)) {
    row.classList.toggle("off", (type && row.dataset.type !== type) || !row.dataset.name.toLowerCase().includes(part));
  }
  for (const row of $$("tfoot tr", grid)) {
    row.classList.toggle("off", part !== "" || (type !== "" && row.dataset.type !== type));
  }
  for (const row of $$("tr", grid)) {
    const cells = row.parentElement.tagName === "THEAD" ? $$("th.number", row) : scoreCells(row);
    cells.forEach((cell, position) => cell.classList.toggle("off", !columns.has(String(position))));
  }
}

function setUpTable() {
  $("#table-tools").hidden = $("#copy-tools").hidden = false;
  $("#table-tools").addEventListener("submit", (event) => event.preventDefault());
  grid.classList.toggle("wide", data.labels.length > 6);
  for (const head of $$("thead th", grid)) $("button", head).addEventListener("click", () => sortBy(head));
  $("#type-filter").addEventListener("change", filterTable);
  $("#task-filter").addEventListener("input", filterTable);
  $("#cell-mode").addEventListener("change", () => { grid.className = grid.className.replace(/mode-\w+/, `mode-${mode()}`); });
  $("#model-filter").addEventListener("change", () => { filterTable(); showModels(); });
  filterTable();
}

function setUpTips() {
  const tip = $("#tip");
  const hide = () => { tip.hidden = true; };
  grid.addEventListener("pointerover", (event) => {
    const cell = event.target.closest("td[data-tip]");
    if (!cell || !cell.dataset.tip) return hide();
    tip.textContent = cell.dataset.tip;
    tip.hidden = false;
    const place = cell.getBoundingClientRect();
    const above = place.top - tip.offsetHeight - 6;
    tip.style.top = `${above > 4 ? above : place.bottom + 6}px`;
    tip.style.left = `${Math.max(4, Math.min(place.left, innerWidth - tip.offsetWidth - 8))}px`;
  });
  grid.addEventListener("pointerleave", hide);
  addEventListener("scroll", hide, true);
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
}

// ---------------------------------------------------------------------------------------------------- copying
function shownTable() {
  const visible = (nodes) => nodes.filter((node) => !node.classList.contains("off"));
  const head = ["Task", "Type", ...visible($$("thead th.number", grid)).map((th) => $("button", th).textContent)];
  const rowOf = (row) => ({
    name: $(".task", row).textContent,
    type: $("td.type", row).textContent,
    cells: visible(scoreCells(row)).map((cell) => ({
      text: shownText(cell),
      interval: (mode() === "interval" && $(".interval", cell)?.textContent) || "",
      rank: mode() === "delta" ? 0 : $(".r1", cell) ? 1 : $(".r2", cell) ? 2 : 0,
      verdict: $(".better", cell) ? "better" : $(".worse", cell) ? "worse" : "",
    })),
  });
  return { head, rows: visible($$("tbody tr", grid)).map(rowOf), means: visible($$("tfoot tr", grid)).map(rowOf) };
}

const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "[": "{[}", "]": "{]}" };
const latex = (text) => text.replace(/[\\~^<>[\]]|[&%$#_{}]/g, (c) => LATEX[c] ?? `\\${c}`);

function asLatex({ head, rows, means }) {
  const cell = ({ text, interval, rank, verdict }) => {
    const number = /^[+-]\d/.test(text) ? `$${text}$` : latex(text);
    const ranked = rank === 1 ? `\\textbf{${number}}` : rank === 2 ? `\\underline{${number}}` : number;
    const sign = verdict === "better" ? "$^{\\uparrow}$" : verdict === "worse" ? "$^{\\downarrow}$" : "";
    return ranked + sign + (interval ? ` {\\scriptsize [${latex(interval)}]}` : "");
  };
  const line = ({ name, type, cells }) => `${[latex(name), latex(type), ...cells.map(cell)].join(" & ")} \\\\`;
  return [
    "% \\usepackage{booktabs}",
    `\\begin{tabular}{ll${"r".repeat(head.length - 2)}}`,
    "\\toprule",
    `${head.map(latex).join(" & ")} \\\\`,
    "\\midrule",
    ...rows.map(line),
    ...(means.length ? ["\\midrule", ...means.map(line)] : []),
    "\\bottomrule",
    "\\end{tabular}",
  ].join("\n") + "\n";
}

function asMarkdown({ head, rows, means }) {
  const plain = (text) => text.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\\`*_{}[\]|~$]/g, "\\$&");
  const cell = ({ text, interval, rank, verdict }) => {
    const ranked = rank === 1 ? `**${text}**` : rank === 2 ? `_${text}_` : text;
    return ranked + (verdict ? (verdict === "better" ? " ▲" : " ▼") : "") + (interval ? ` (${interval})` : "");
  };
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [
    line(head.map(plain)),
    `|---|---|${"---:|".repeat(head.length - 2)}`,
    ...[...rows, ...means].map(({ name, type, cells }) => line([plain(name), plain(type), ...cells.map(cell)])),
  ].join("\n") + "\n";
}

function asCsv({ head, rows }) {
  const inert = (text) => (/^\s*[=+@-]/.test(text) ? `'${text}` : text); // no formula to a spreadsheet
  const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const lines = rows.map(({ name, type, cells }) => [inert(name), inert(type), ...cells.map(({ text }) => (/\d/.test(text) ? text : ""))]);
  return [head.map(inert), ...lines].map((line) => line.map(quote).join(",")).join("\n") + "\n";
}

const FORMATS = { latex: ["LaTeX", asLatex], markdown: ["Markdown", asMarkdown], csv: ["CSV", asCsv] };

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function setUpCopying() {
  for (const button of $$("[data-copy]")) {
    const [name, render] = FORMATS[button.dataset.copy];
    button.addEventListener("click", async () => {
      const table = shownTable();
      await copy(render(table));
      $("#copy-status").textContent = `${table.rows.length} task${table.rows.length === 1 ? "" : "s"} copied as ${name}.`;
    });
  }
  for (const button of $$("[data-copy-command]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy($("pre", button.parentElement).textContent + "\n");
      button.textContent = "Copied";
    });
  }
}

// ---------------------------------------------------------------------------------------------------- charts
const views = {};

async function draw(place, spec) {
  const name = place.dataset.chart;
  views[name]?.finalize();
  spec.config.legend.columns = Math.max(1, Math.floor(place.clientWidth / 150));
  const { view } = await vegaEmbed(place, spec, {
    mode: "vega-lite", renderer: "svg", actions: false, tooltip: { disableDefaultStyle: true },
  });
  $("svg", place).setAttribute("aria-hidden", "true"); // the place itself is an image with a description
  views[name] = view;
}

function showModels() {
  const labels = shownColumns().map((position) => data.labels[Number(position)]);
  for (const view of Object.values(views)) {
    try { view.signal("shown", labels).runAsync(); } catch { /* this chart is of one model */ }
  }
}

function queryPoints() {
  const task = data.queries[$("#query-task").value];
  const [first, second] = [$("#query-first").value, $("#query-second").value];
  const points = new Map();
  const tally = { first: 0, second: 0, even: 0 };
  task.queries.forEach((text, position) => {
    const [x, y] = [task.scores[first][position], task.scores[second][position]];
    tally[x > y ? "first" : x < y ? "second" : "even"] += 1;
    const point = points.get(`${x} ${y}`) ?? { x, y, n: 0, text };
    point.n += 1;
    points.set(`${x} ${y}`, point);
  });
  const sample = task.total > task.queries.length ? ` A sample of ${task.queries.length} of ${task.total} queries.` : "";
  $("#query-tally").textContent =
    `${first} is better on ${tally.first}, ${second} on ${tally.second}; they are equal on ${tally.even}.${sample}`;
  const names = { '"@first"': JSON.stringify(first), '"@second"': JSON.stringify(second) };
  const spec = JSON.parse(JSON.stringify(data.charts.queries).replace(/"@first"|"@second"/g, (found) => names[found]));
  spec.datasets.points = [...points.values()];
  return spec;
}

function setUpQueries(place) {
  const fill = (select, values) => select.replaceChildren(...values.map((value) => new Option(value, value)));
  const [task, first, second] = ["task", "first", "second"].map((name) => $(`#query-${name}`));
  fill(task, Object.keys(data.queries));
  const models = () => {
    const labels = Object.keys(data.queries[task.value].scores);
    const kept = [first.value, second.value];
    fill(first, labels);
    fill(second, labels);
    first.value = labels.includes(kept[0]) ? kept[0] : labels.includes(data.baseline) ? data.baseline : labels[0];
    second.value = labels.includes(kept[1]) ? kept[1] : labels.find((label) => label !== first.value) ?? labels[0];
  };
  models();
  $("#query-tools").addEventListener("submit", (event) => event.preventDefault());
  task.addEventListener("change", () => { models(); draw(place, queryPoints()); });
  first.addEventListener("change", () => draw(place, queryPoints()));
  second.addEventListener("change", () => draw(place, queryPoints()));
}

const idle = () => new Promise((resolve) => (window.requestIdleCallback ? requestIdleCallback(resolve, { timeout: 200 }) : setTimeout(resolve)));

async function setUpCharts() {
  for (const place of $$("[data-chart]")) {
    const name = place.dataset.chart;
    await idle();
    if (name === "queries") setUpQueries(place);
    await draw(place, name === "queries" ? queryPoints() : data.charts[name]);
    const which = $(`[data-which="${name}"]`);
    which?.addEventListener("change", () => views[name].signal("which", which.value).runAsync());
    const save = $(`[data-save="${name}"]`);
    save.hidden = false;
    save.addEventListener("click", () => saveSvg(name));
  }
  document.documentElement.dataset.charts = "drawn";
}

async function saveSvg(name) {
  const style = getComputedStyle(document.documentElement);
  const svg = (await views[name].toSVG()).replace(/var\((--[\w-]+)\)/g, (_, variable) => style.getPropertyValue(variable).trim());
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  link.download = `${name}.svg`;
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---------------------------------------------------------------------------------------------------- printing
// On paper colours are light, whatever the screen's are: charts and text use the same variables.
addEventListener("beforeprint", () => document.documentElement.classList.add("paper"));
addEventListener("afterprint", () => document.documentElement.classList.remove("paper"));

setUpTable();
setUpTips();
setUpCopying();
addEventListener("DOMContentLoaded", setUpCharts);
