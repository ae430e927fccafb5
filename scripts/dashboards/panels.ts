// The parts of a Grafana dashboard that ours are made of. A dashboard is rows of panels on a grid of 24 columns; places and ids
// follow from the order, so that a change of one panel is a change of a few lines.

const GRID_COLUMNS = 24;
const DATASOURCE = { type: 'prometheus', uid: '$datasource' };

/** Grafana's names for units. */
export type Unit = 's' | 'percentunit' | 'short' | 'reqps' | 'ops' | 'bytes' | 'none' | 'celsius';

/** [PromQL, legend]; a legend such as '{{model}}' takes a label's value. */
export type Query = readonly [expr: string, legend: string];

export type Panel = {
  kind: 'timeseries' | 'stat' | 'heatmap' | 'table';
  title: string;
  help: string;
  unit: Unit;
  width: number;
  height: number;
  queries: readonly Query[];
};

type Options = { width?: number; height?: number };

const panel =
  (kind: Panel['kind'], width: number, height: number) =>
  (title: string, help: string, unit: Unit, queries: readonly Query[], options: Options = {}): Panel => ({
    kind,
    title,
    help,
    unit,
    queries,
    width,
    height,
    ...options,
  });

export const lines = panel('timeseries', 8, 8);
export const stat = panel('stat', 4, 4);
export const heatmap = panel('heatmap', 8, 8);
export const table = panel('table', 12, 8);

/** Percentiles of a histogram by name; `by` are labels that keep apart. */
export function percentiles(histogram: string, selector: string, by = ''): Query[] {
  const labels = by === '' ? 'le' : `le, ${by}`;
  const prefix = by === '' ? '' : `{{${by}}} `;
  return [0.5, 0.95, 0.99].map((quantile) => [
    `histogram_quantile(${quantile}, sum by (${labels}) (rate(${histogram}_bucket${selector}[$__rate_interval])))`,
    `${prefix}p${quantile * 100}`,
  ]);
}

/** Sum of a counter's rates per second; `window` is Grafana's own unless told. */
export function sumRate(counter: string, selector: string, by = '', window = '$__rate_interval'): string {
  return `sum${by === '' ? '' : ` by (${by}) `}(rate(${counter}${selector}[${window}]))`;
}

/** Mean of what a histogram saw. */
export function mean(histogram: string, selector: string, legend: string): Query {
  const rate = (part: string): string => `sum(rate(${histogram}_${part}${selector}[$__rate_interval]))`;
  return [`${rate('sum')} / ${rate('count')}`, legend];
}

export type Dashboard = {
  uid: string;
  title: string;
  description: string;
  /** Choices at the top: a label of a metric. */
  variables: readonly { name: string; label: string; metric: string }[];
  rows: readonly { title: string; panels: readonly Panel[] }[];
};

function variableOf({ name, label, metric }: Dashboard['variables'][number]): object {
  return {
    type: 'query',
    name,
    datasource: DATASOURCE,
    query: { query: `label_values(${metric}, ${label})`, refId: name },
    refresh: 2,
    includeAll: true,
    allValue: '.*',
    multi: true,
    current: { text: ['All'], value: ['$__all'] },
  };
}

function optionsOf(kind: Panel['kind']): object {
  if (kind === 'stat')
    return { reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false }, graphMode: 'area' };
  if (kind === 'heatmap')
    return { calculate: false, yAxis: { unit: 'short' }, color: { mode: 'scheme', scheme: 'Blues' } };
  if (kind === 'table') return { showHeader: true };
  return { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } };
}

function panelOf(one: Panel, id: number, x: number, y: number): object {
  const { kind, title, help, unit, width, height } = one;
  return {
    id,
    type: kind,
    title,
    description: help,
    datasource: DATASOURCE,
    gridPos: { x, y, w: width, h: height },
    fieldConfig: {
      defaults: {
        unit,
        ...(kind === 'timeseries' && { min: 0, custom: { fillOpacity: 8, showPoints: 'never', spanNulls: true } }),
      },
      overrides: [],
    },
    options: optionsOf(kind),
    targets: one.queries.map(([expr, legendFormat], i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: DATASOURCE,
      expr,
      legendFormat,
      ...(kind === 'timeseries' && { exemplar: expr.includes('_bucket') }),
      ...(kind === 'heatmap' && { format: 'heatmap' }),
      ...(kind === 'table' && { format: 'table', instant: true }),
    })),
  };
}

function panelsOf(rows: Dashboard['rows']): object[] {
  const placed: object[] = [];
  let y = 0;
  for (const row of rows) {
    const gridPos = { x: 0, y, w: GRID_COLUMNS, h: 1 };
    placed.push({ id: placed.length + 1, type: 'row', title: row.title, collapsed: false, gridPos, panels: [] });
    y += 1;
    let x = 0;
    let deepest = 0;
    for (const one of row.panels) {
      if (x + one.width > GRID_COLUMNS) {
        y += deepest;
        [x, deepest] = [0, 0];
      }
      placed.push(panelOf(one, placed.length + 1, x, y));
      x += one.width;
      deepest = Math.max(deepest, one.height);
    }
    y += deepest;
  }
  return placed;
}

/** What Grafana imports. */
export function grafanaJson({ uid, title, description, variables, rows }: Dashboard): string {
  const dashboard = {
    uid,
    title,
    description,
    tags: ['quern'],
    schemaVersion: 39,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    templating: {
      list: [
        { type: 'datasource', name: 'datasource', label: 'Prometheus', query: 'prometheus', current: {}, hide: 0 },
        ...variables.map(variableOf),
      ],
    },
    links: [
      { type: 'dashboards', title: 'Quern', tags: ['quern'], asDropdown: true, includeVars: true, keepTime: true },
    ],
    annotations: { list: [] },
    panels: panelsOf(rows),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}
