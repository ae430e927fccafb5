/** Writes deploy/grafana/dashboards from scripts/dashboards: `node scripts/dashboards.ts`. A test compares both. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { audit } from './dashboards/audit.ts';
import { engine } from './dashboards/engine.ts';
import { overview } from './dashboards/overview.ts';
import { type Dashboard, grafanaJson } from './dashboards/panels.ts';
import { tenants } from './dashboards/tenants.ts';

export const dashboardFolder = join(import.meta.dirname, '..', 'deploy', 'grafana', 'dashboards');
export const dashboards: readonly Dashboard[] = [overview, engine, tenants, audit];

/** File name → text. */
export function dashboardFiles(): Map<string, string> {
  return new Map(dashboards.map((dashboard) => [`${dashboard.uid}.json`, grafanaJson(dashboard)]));
}

if (import.meta.main) {
  for (const [name, text] of dashboardFiles()) writeFileSync(join(dashboardFolder, name), text);
}
