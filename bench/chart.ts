// Draws bench/chart.svg for the README: the rate of each system in times native's, by version and workload. Pure.
import { rate } from "./report.ts";
import { type Measurement, median, ratios } from "./results.ts";

const size = { bar: 22, gap: 16, height: 240, left: 44, top: 48, bottom: 56, least: 480 };
const colors: Readonly<Record<string, string>> = {
  hapair: "#2f6fb7",
  pglogical: "#8c6bb1",
  bucardo: "#d08c3c",
  limit: "#c9c9c9",
};
const systems = Object.keys(colors);

const round = (value: number) => Math.round(value * 10) / 10;

function text(x: number, y: number, content: string, more = ""): string {
  return `<text x="${round(x)}" y="${round(y)}" ${more}>${content}</text>`;
}

/** The chart as an SVG document; null without a measurement of hapair beside native. */
export function drawChart(measurements: readonly Measurement[]): string | null {
  const groups = [...new Set(measurements.map((m) => m.version))].sort((a, b) => a - b).flatMap((version) =>
    [...new Set(measurements.map((m) => m.workload))].sort().flatMap((workload) => {
      const own = measurements.filter((m) => m.version === version && m.workload === workload);
      const times = Object.fromEntries(systems.map((system) => [system, ratios(own, [system, "native"], rate)]));
      return times.hapair.length > 0 ? [{ version, workload, times }] : [];
    })
  );
  if (groups.length === 0) return null;
  const highest = Math.max(1, ...groups.flatMap(({ times }) => Object.values(times).flat()));
  const top = Math.ceil(highest);
  const y = (value: number) => size.top + size.height * (1 - value / top);
  const shownIn = ({ times }: typeof groups[number]) => systems.filter((system) => times[system].length > 0);
  const widthOf = (group: typeof groups[number]) => shownIn(group).length * size.bar + size.gap;
  const width = Math.max(size.least, size.left + groups.reduce((sum, group) => sum + widthOf(group), 0) + size.gap);
  const parts: string[] = [];
  for (let value = 0; value <= top; value++) {
    const line = value === 1 ? `stroke="#b3402f" stroke-width="1.5"` : `stroke="#e4e4e4"`;
    parts.push(`<line x1="${size.left}" x2="${width}" y1="${round(y(value))}" y2="${round(y(value))}" ${line}/>`);
    parts.push(text(size.left - 6, y(value) + 4, `${value}x`, `text-anchor="end"`));
  }
  let x = size.left + size.gap;
  for (const group of groups) {
    const { version, workload, times } = group;
    const shown = shownIn(group);
    shown.forEach((system, n) => {
      const values = times[system];
      const middle = median(values);
      const at = x + n * size.bar;
      parts.push(
        `<rect x="${at}" y="${round(y(middle))}" width="${size.bar - 2}" height="${round(y(0) - y(middle))}" ` +
          `fill="${colors[system]}"><title>${system}, ${workload}, PostgreSQL ${version}: ${
            middle.toFixed(2)
          }x</title></rect>`,
      );
      const [least, most] = [Math.min(...values), Math.max(...values)];
      const center = at + size.bar / 2 - 1;
      parts.push(`<line x1="${center}" x2="${center}" y1="${round(y(least))}" y2="${round(y(most))}" stroke="#333"/>`);
      parts.push(text(center, y(most) - 4, middle.toFixed(1), `text-anchor="middle" font-size="10"`));
    });
    const middle = x + shown.length * size.bar / 2 - 1;
    parts.push(text(middle, y(0) + 16, workload, `text-anchor="middle"`));
    parts.push(text(middle, y(0) + 32, `PG ${version}`, `text-anchor="middle" fill="#666" font-size="10"`));
    x += widthOf(group);
  }
  const known = systems.filter((system) => groups.some((group) => shownIn(group).includes(system)));
  const legend = known.map((system, n) =>
    `<rect x="${size.left + n * 90}" y="26" width="12" height="12" fill="${colors[system]}"/>` +
    text(size.left + n * 90 + 17, 36, system)
  );
  legend.push(text(size.left + known.length * 90, 36, "line: PostgreSQL's own subscriber = 1", `fill="#b3402f"`));
  const height = size.top + size.height + size.bottom;
  return `<!-- deno-fmt-ignore-file: written by a program -->\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="12" fill="#222">\n<rect width="100%" height="100%" fill="#fff"/>\n` +
    `${
      text(size.left, 16, "Catching up with a backlog: changes a second, in times native's", `font-weight="bold"`)
    }\n` +
    `${[...legend, ...parts].join("\n")}\n</svg>\n`;
}
