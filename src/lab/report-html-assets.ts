/**
 * Style sheet and script of the HTML report, as text to be put inline. The page is complete without the script; it adds
 * a cursor with values, hiding of settings, and buttons that copy or save.
 */

/** Light and dark, screen and print. Nothing is fetched. */
export const REPORT_STYLE = `
:root { color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --ink: #1c1f23; --soft: #5d6670; --rule: #e2e3e0; --track: #ecedea;
  --good: #0a7a52; --bad: #b3391f; --accent: #0b6e4f;
  --s0: #6f7780; --s1: #0072b2; --s2: #d55e00; --s3: #b5478f; --s4: #00936b; --s5: #b98300; --s6: #4b3fb5; --s7: #7a4a1e;
  --p0: #274c77; --p1: #5b8db8; --p2: #a3c4dc; --p3: #8a6f9e; --p4: #c3a6cf; --p5: #7d9b76; --p6: #b9cfa8; --p7: #b7b7a4; }
@media (prefers-color-scheme: dark) { :root {
  --page: #121416; --card: #1b1e22; --ink: #e8eaed; --soft: #9aa4ae; --rule: #30353b; --track: #2a2f35;
  --good: #4cc38a; --bad: #ff8b6b; --accent: #4cc38a;
  --s0: #98a2ac; --s1: #56b1ea; --s2: #ff8f4d; --s3: #ea8cc6; --s4: #3ccf9f; --s5: #f0bb42; --s6: #a79bff; --s7: #d2a06d;
  --p0: #8fb8de; --p1: #5c8fbe; --p2: #37597c; --p3: #b39ac6; --p4: #75608a; --p5: #9dbf94; --p6: #5f7d58; --p7: #7f8070; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 36px 0 12px; }
h3 { font-size: 14px; margin: 0; }
.brand { color: var(--accent); font-weight: 650; letter-spacing: .04em; font-size: 13px; margin: 0 0 4px; }
.soft, .unit { color: var(--soft); }
code, pre, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.command { overflow-wrap: anywhere; margin: 0 0 20px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 18px 20px; }
.advice { border-left: 5px solid var(--accent); }
.advice h2 { margin: 0 0 6px; font-size: 20px; }
.advice p { margin: 0; max-width: 105ch; }
.advice pre { background: var(--track); border-radius: 6px; padding: 10px 12px; margin: 12px 0 0; overflow-x: auto; }
.figures { display: grid; grid-template-columns: max-content repeat(3, 1fr) max-content; gap: 12px 26px; align-items: center; }
.figures .head { color: var(--soft); font-size: 13px; align-self: end; }
.figures .name { font-weight: 600; white-space: nowrap; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px; }
.bar { position: relative; height: 12px; background: var(--track); border-radius: 3px; margin-bottom: 2px; }
.bar i { position: absolute; top: 0; bottom: 0; left: 0; border-radius: 3px; }
.bar .unused { background: repeating-linear-gradient(135deg, rgba(255,255,255,.55) 0 3px, transparent 3px 6px); border-radius: 0 3px 3px 0; }
.bar .permitted { opacity: .16; } .bar .eligible { opacity: .24; }
.bar .whisker { top: 5px; bottom: 5px; background: var(--ink); border-radius: 0; min-width: 2px; }
.number { font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px; }
.charts .card { padding: 14px 14px 6px; position: relative; }
.charts header { display: flex; gap: 8px; align-items: baseline; padding-left: 6px; }
.unit { font-size: 13px; }
svg.chart { display: block; width: 100%; height: auto; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: butt; }
.cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
.tip { position: absolute; pointer-events: none; background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 6px 10px;
  font-size: 13px; box-shadow: 0 3px 12px rgba(0,0,0,.18); white-space: nowrap; z-index: 2; }
.tip div { display: flex; justify-content: space-between; gap: 16px; }
.legend { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 12px; }
.legend button, .tools button { font: inherit; font-size: 13px; color: var(--ink); background: var(--card); border: 1px solid var(--rule); border-radius: 999px; padding: 3px 12px; cursor: pointer; }
.legend button[aria-pressed="false"] { opacity: .4; }
.tools { float: right; display: flex; gap: 8px; }
.parts { display: grid; grid-template-columns: max-content 1fr max-content; gap: 8px 18px; align-items: center; }
.stack { display: flex; height: 18px; gap: 1px; } .stack i { min-width: 1px; border-radius: 2px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 12px 0 0; font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: right; padding: 4px 12px; border-bottom: 1px solid var(--rule); font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { position: sticky; top: 0; background: var(--card); }
tr.section th { padding-top: 18px; font-size: 13px; color: var(--soft); font-weight: 600; white-space: normal; }
td.sub { padding-left: 18px !important; color: var(--soft); }
td.text { text-align: left; white-space: normal; }
td .best::after { content: " \\2713"; } td .worst::after { content: " \\25b4"; }
details { margin-top: 14px; } summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 40px; font-size: 13px; color: var(--soft); }
@media (max-width: 760px) { .figures { grid-template-columns: 1fr 1fr; } .figures .head { display: none; } .figures .name { grid-column: 1 / -1; margin-top: 8px; }
  .charts { grid-template-columns: 1fr; } .tools { float: none; margin-bottom: 12px; } }
@media print { .tools { display: none; } body { background: none; } .card { break-inside: avoid; } }
`;

/** Runs after the page is built; reads the report from the element "report". */
export const REPORT_SCRIPT = `
"use strict";
const text = (id) => document.getElementById(id).textContent;
const plots = JSON.parse(text("plots"));
const hidden = new Set();
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const index = Number(button.dataset.index);
    const isShown = hidden.delete(index);
    if (!isShown) hidden.add(index);
    button.setAttribute("aria-pressed", String(isShown));
    for (const line of document.querySelectorAll(".line-" + index)) line.style.display = isShown ? "" : "none";
  });
}
document.querySelectorAll("svg.chart").forEach((svg, number) => {
  const plot = plots.charts[number];
  const cursor = svg.querySelector(".cursor");
  let tip = null;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const left = Number(svg.dataset.left), width = Number(svg.dataset.width);
    const share = ((event.clientX - box.left) * scale - left) / width;
    let nearest = 0;
    plot.at.forEach((at, i) => { if (Math.abs(at - share) < Math.abs(plot.at[nearest] - share)) nearest = i; });
    const x = left + plot.at[nearest] * width;
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.setAttribute("visibility", "visible");
    if (!tip) { tip = document.createElement("div"); tip.className = "tip"; svg.parentElement.append(tip); }
    tip.replaceChildren();
    const head = document.createElement("div");
    head.textContent = (plot.at[nearest] * 100).toFixed(1) + " % of the run";
    tip.append(head);
    plot.lines.forEach((values, i) => {
      if (hidden.has(i)) return;
      const row = document.createElement("div"), name = document.createElement("span"), value = document.createElement("span");
      const swatch = document.createElement("span");
      swatch.className = "swatch"; swatch.style.background = "var(--s" + (i % 8) + ")";
      name.append(swatch, plots.names[i]); value.className = "number"; value.textContent = values[nearest];
      row.append(name, value); tip.append(row);
    });
    const offset = svg.offsetLeft + x / scale;
    const isRight = offset > svg.parentElement.clientWidth / 2;
    tip.style.left = isRight ? "auto" : offset + 12 + "px";
    tip.style.right = isRight ? svg.parentElement.clientWidth - offset + 12 + "px" : "auto";
    tip.style.top = svg.offsetTop + 14 + "px";
  });
  svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); if (tip) { tip.remove(); tip = null; } });
});
const tools = document.querySelector(".tools");
const addTool = (name, run) => {
  const button = document.createElement("button");
  button.textContent = name;
  button.addEventListener("click", async () => { await run(); button.textContent = name + " \\u2713"; setTimeout(() => { button.textContent = name; }, 1500); });
  tools.append(button);
};
const copy = async (content) => {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(content);
  const area = document.createElement("textarea");
  area.value = content; document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
};
addTool("Copy as Markdown", () => copy(JSON.parse(text("markdown"))));
addTool("Save JSON", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text("report")], { type: "application/json" }));
  link.download = "hugelab-compare.json"; link.click(); URL.revokeObjectURL(link.href);
});
`;
