/**
 * The result of a bench run as one HTML page that loads nothing: charts drawn as SVG, tables below.
 */
import { formatGoal, formatMs, formatRate, type Report } from "./report.ts";
import type { Figures, WorkloadSummary } from "./summary.ts";

const widthPx = 860;
const labelWidthPx = 170;
const rowHeightPx = 44;
const chartWidthPx = widthPx - labelWidthPx - 90;

const style = `
:root { color-scheme: light dark; --ink: #1d2330; --dim: #667085; --line: #d5dae3; --paper: #fff; --etcd: #8a94a6;
  --kmmr: #2563c9; --good: #1a7f4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --dim: #98a2b3; --line: #353c4a; --paper: #14181f;
  --etcd: #7d8798; --kmmr: #6ea0f5; --good: #4cc38a; --bad: #f2746b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: ${widthPx}px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p, caption { color: var(--dim); }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .dim { fill: var(--dim); } svg .grid { stroke: var(--line); }
svg .etcd { fill: var(--etcd); stroke: var(--etcd); } svg .kmmr { fill: var(--kmmr); stroke: var(--kmmr); }
svg .good { fill: var(--good); } svg .bad { fill: var(--bad); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
`;

/** The page; every text that came from elsewhere is escaped. */
export function renderPage(report: Report): string {
  const both = report.clusters.length === 2;
  const title = report.clusters.map((cluster) => cluster.description).join(" and ");
  const facts =
    `${report.members} members on one machine, ${report.keys.toLocaleString("en-US")} keys of ${report.valueBytes} B, ` +
    `client TLS ${report.clientTls ? "on" : "off"}, ${report.machine.processors} x ${report.machine.processorModel}, ` +
    `Linux ${report.machine.kernel}, Node ${report.machine.node}; ${report.startedAt}`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeText(title)}: bench</title><style>${style}</style></head><body>
<h1>${escapeText(title)} under the same load</h1>
<p>${escapeText(facts)}</p>
<p>${legend(report)}</p>
${both ? `<h2>Throughput of KmMR as a multiple of etcd's</h2>${renderRatios(report.workloads)}` : ""}
<h2>Requests a second</h2>${renderThroughput(report.workloads)}
<h2>Latency: line from the median to the 99th percentile, dot at the mean</h2>${renderLatency(report.workloads)}
<h2>Figures</h2><div class="scroll">${renderTable(report)}</div>
<p>Command: <code>${escapeText(report.command)}</code></p>
</body></html>
`;
}

function legend(report: Report): string {
  return report.clusters
    .map(
      ({ name, description }) =>
        `<span class="key" style="background: var(--${name})"></span>${escapeText(description)}`,
    )
    .join("");
}

function escapeText(text: string): string {
  const names: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => names[character]!);
}

function svg(rows: number, content: string, description: string): string {
  const heightPx = rows * rowHeightPx + 30;
  return `<svg viewBox="0 0 ${widthPx} ${heightPx}" role="img" aria-label="${escapeText(description)}">${content}</svg>`;
}

/** Position on a logarithmic axis from `low` to `high`. */
function logPosition(value: number, low: number, high: number): number {
  const share = (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low));
  return labelWidthPx + Math.min(1, Math.max(0, share)) * chartWidthPx;
}

function rowLabel(row: number, text: string): string {
  return `<text x="0" y="${row * rowHeightPx + 26}">${escapeText(text)}</text>`;
}

function gridLine(x: number, rows: number, label: string): string {
  const bottom = rows * rowHeightPx + 4;
  return (
    `<line class="grid" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="0" y2="${bottom}"/>` +
    `<text class="dim" x="${x.toFixed(1)}" y="${bottom + 16}" text-anchor="middle">${escapeText(label)}</text>`
  );
}

function renderRatios(workloads: readonly WorkloadSummary[]): string {
  const shown = workloads.filter((entry) => entry.throughputRatio !== undefined);
  const all = shown.flatMap((entry) => [entry.throughputRatio!, entry.goal?.ratio ?? 1]);
  const low = Math.min(0.25, ...all) / 1.2;
  const high = Math.max(4, ...all) * 1.2;
  const grid = [0.25, 0.5, 1, 2, 4]
    .map((x) => gridLine(logPosition(x, low, high), shown.length, `${x}x`))
    .join("");
  const rows = shown.map((entry, row) => {
    const top = row * rowHeightPx + 12;
    const one = logPosition(1, low, high);
    const x = logPosition(entry.throughputRatio!, low, high);
    const colour = entry.reached === undefined ? "kmmr" : entry.reached ? "good" : "bad";
    const goal = entry.goal;
    // A latency goal is drawn as the throughput it stands for in a closed loop.
    const mark = goal && logPosition(goal.relation === "atLeast" ? goal.ratio : 1 / goal.ratio, low, high);
    return (
      rowLabel(row, entry.workload) +
      `<rect class="${colour}" x="${Math.min(one, x).toFixed(1)}" y="${top}" width="${Math.abs(x - one).toFixed(1)}" height="20"/>` +
      (mark === undefined
        ? ""
        : `<path d="M${mark.toFixed(1)} ${top - 4}v28" stroke="currentColor" stroke-width="2"/>`) +
      `<text x="${(Math.max(one, x, mark ?? 0) + 6).toFixed(1)}" y="${top + 14}">${entry.throughputRatio!.toFixed(2)}x</text>`
    );
  });
  return `${svg(shown.length, grid + rows.join(""), "ratios of throughput")}<p>The upright marks are goals.</p>`;
}

const clusterNames = ["etcd", "kmmr"] as const;

function clusterFigures(entry: WorkloadSummary): { name: "etcd" | "kmmr"; figures: Figures }[] {
  return clusterNames.flatMap((name) => {
    const figures = entry[name];
    return figures === undefined ? [] : [{ name, figures }];
  });
}

function renderThroughput(workloads: readonly WorkloadSummary[]): string {
  const rates = workloads.flatMap(clusterFigures).map(({ figures }) => figures.operationsPerSecond);
  const low = 10 ** Math.floor(Math.log10(Math.max(1, Math.min(...rates))));
  const high = 10 ** Math.ceil(Math.log10(Math.max(...rates) + 1));
  const rows = workloads.map((entry, row) =>
    clusterFigures(entry).map(({ name, figures }, index) => {
      const x = logPosition(figures.operationsPerSecond, low, high);
      const top = row * rowHeightPx + 4 + index * 18;
      const bar = `<rect class="${name}" x="${labelWidthPx}" y="${top}" width="${(x - labelWidthPx).toFixed(1)}" height="15"/>`;
      return `${bar}<text x="${(x + 6).toFixed(1)}" y="${top + 12}">${formatRate(figures.operationsPerSecond)}</text>`;
    }),
  );
  return svg(
    workloads.length,
    decades(low, high, workloads, formatRate) + rows.flat().join(""),
    "requests a second",
  );
}

function renderLatency(workloads: readonly WorkloadSummary[]): string {
  const all = workloads.flatMap(clusterFigures).map(({ figures }) => figures.latency);
  const low = 10 ** Math.floor(Math.log10(Math.max(0.01, Math.min(...all.map((latency) => latency.p50Ms)))));
  const high = 10 ** Math.ceil(Math.log10(Math.max(0.1, ...all.map((latency) => latency.p99Ms))));
  const rows = workloads.map((entry, row) =>
    clusterFigures(entry).map(({ name, figures }, index) => {
      const { p50Ms, p99Ms, meanMs } = figures.latency;
      const [from, to, dot] = [p50Ms, p99Ms, meanMs].map((value) =>
        logPosition(Math.max(value, low), low, high),
      );
      const y = row * rowHeightPx + 14 + index * 18;
      return (
        `<line class="${name}" x1="${from!.toFixed(1)}" x2="${to!.toFixed(1)}" y1="${y}" y2="${y}" stroke-width="5"/>` +
        `<circle class="${name}" cx="${dot!.toFixed(1)}" cy="${y}" r="6"/>` +
        `<text x="${(Math.max(to!, dot!) + 10).toFixed(1)}" y="${y + 4}">${formatMs(meanMs)} ms</text>`
      );
    }),
  );
  const grid = decades(low, high, workloads, (value) => `${value} ms`);
  return svg(workloads.length, grid + rows.flat().join(""), "latency");
}

function decades(
  low: number,
  high: number,
  workloads: readonly WorkloadSummary[],
  format: (value: number) => string,
): string {
  const count = Math.round(Math.log10(high / low));
  const values = Array.from({ length: count + 1 }, (_, index) => Number((low * 10 ** index).toPrecision(3)));
  const grid = values.map((value) =>
    gridLine(logPosition(value, low, high), workloads.length, format(value)),
  );
  return grid.join("") + workloads.map((entry, row) => rowLabel(row, entry.workload)).join("");
}

function renderTable(report: Report): string {
  const header = [
    "workload",
    "cluster",
    "per s",
    "mean ms",
    "p50 ms",
    "p99 ms",
    "CPU us/op",
    "MiB/member",
    "goal",
    "",
  ];
  const rows = report.workloads.flatMap((entry) =>
    clusterFigures(entry).map(({ name, figures }) => [
      entry.workload,
      name === "kmmr" ? "KmMR" : "etcd",
      formatRate(figures.operationsPerSecond),
      formatMs(figures.latency.meanMs),
      formatMs(figures.latency.p50Ms),
      formatMs(figures.latency.p99Ms),
      formatRate(figures.cpuMicrosecondsPerOperation),
      (figures.rssBytesPerMember / 2 ** 20).toFixed(0),
      name === "kmmr" && entry.goal !== undefined ? formatGoal(entry.goal) : "",
      name === "kmmr" && entry.reached !== undefined ? (entry.reached ? "reached" : "missed") : "",
    ]),
  );
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeText(cell)}</${tag}>`).join("")}</tr>`;
  return `<table>${line(header, "th")}${rows.map((row) => line(row, "td")).join("")}</table>`;
}
