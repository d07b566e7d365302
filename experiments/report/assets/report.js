"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;

  // Theme: the reader's system decides until he does.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null;
  const dark = () => (chosen === null ? system.matches : chosen);
  function paint() {
    root.dataset.theme = dark() ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark()));
    button.textContent = dark() ? "Light" : "Dark";
    for (const place of document.querySelectorAll(".plot")) if (place.dataset.drawn) draw(place);
  }
  button.addEventListener("click", () => { chosen = !dark(); paint(); });
  system.addEventListener("change", paint);

  // On a dark ground black lines turn white; all other colours can be seen on both.
  const turned = (text) => (dark() ? text.replaceAll("#000000", "#F2F2F2") : text);

  function draw(place) {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const select = document.querySelector(`select[data-plot="${place.dataset.plot}"]`);
    const views = figures[place.dataset.plot];
    const figure = JSON.parse(turned(JSON.stringify(select ? views[select.value] : Object.values(views)[0])));
    const layout = figure.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: colour("--text"), size: 13, family: getComputedStyle(document.body).fontFamily };
    layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } };
    for (const axis of [layout.xaxis, layout.yaxis]) {
      Object.assign(axis, { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--soft"), zerolinewidth: 1.5 });
      axis.title.font = { size: 13 };
    }
    // On a narrow page the names stand below each other, and need room; many stand below the plot.
    const names = layout.showlegend ? figure.data.length : 0;
    const narrow = place.clientWidth < 480;
    if (names > 12) {
      const room = 20 * Math.ceil(names / (narrow ? 1 : Math.max(1, Math.floor(place.clientWidth / 190))));
      layout.height += room;
      layout.margin.b += room + 12;
      Object.assign(layout.legend, { yref: "container", y: 0, yanchor: "bottom", entrywidth: 120, maxheight: room + 10 });
      if (narrow) layout.legend.orientation = "v";
    } else if (narrow) layout.height += 18 * Math.max(0, names - 2);
    const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
    Plotly.react(place, figure.data, layout, config);
    place.dataset.drawn = "yes";
  }

  // Pictures far below are drawn when they come near, so that a page opens at once.
  const places = document.querySelectorAll(".plot");
  const near = new IntersectionObserver((seen) => {
    for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(one.target); }
  }, { rootMargin: "600px" });
  paint();
  for (const place of places) near.observe(place);
  addEventListener("beforeprint", () => places.forEach(draw));
  for (const select of document.querySelectorAll("select[data-plot]")) {
    select.addEventListener("change", () => draw(document.querySelector(`.plot[data-plot="${select.dataset.plot}"]`)));
  }

  // Tables: what is sorted and saved are the numbers behind the cells.
  const values = (cell) => JSON.parse(cell.dataset.values);
  const lower = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    // A column of words stands left, with its heading; where a number is among them, all stand right.
    heads.forEach((head, at) => {
      const cells = [...body.rows].map((row) => row.cells[at]);
      const kinds = cells.map((cell) => values(cell)[0]).filter((value) => value !== null);
      if (!kinds.length || kinds.some((value) => typeof value !== "string")) return;
      for (const cell of [head, ...cells]) cell.classList.add("words");
    });
    heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => values(row.cells[at])[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null); // none is last both ways
        return up ? lower(x, y) : lower(y, x);
      });
      body.append(...rows);
    }));
  }

  // A command goes on in a new line between words, and not behind the hyphens of an option.
  const command = document.getElementById("command");
  if (command) {
    const words = command.textContent.split(" ").map((text) => Object.assign(document.createElement("span"), { textContent: text }));
    command.replaceChildren(...words.flatMap((word, at) => (at ? [" ", word] : [word])));
  }

  function save(text, name, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  // A text that a spreadsheet would run as a formula is told to be text.
  const field = (value) => {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  for (const one of document.querySelectorAll("button.csv")) {
    one.addEventListener("click", () => {
      const table = document.getElementById(one.dataset.table);
      const lines = [[...table.tHead.rows[0].cells].flatMap((head) => JSON.parse(head.dataset.names))];
      for (const row of table.tBodies[0].rows) lines.push([...row.cells].flatMap(values));
      save(lines.map((line) => line.map(field).join(",") + "\r\n").join(""), `${table.dataset.name}.csv`, "text/csv");
    });
  }
  const config = document.getElementById("save");
  if (config) config.addEventListener("click", () => save(document.getElementById("config").textContent, "config.toml", "text/plain"));
})();
