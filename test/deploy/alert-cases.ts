// For every alert of deploy/prometheus/rules: series under which it fires, and such under which it must stay silent.
import type { AlertCase } from './alerts/alert-case.ts';
import { audit, producers, witnesses } from './alerts/audit-alerts.ts';
import { engine } from './alerts/engine-alerts.ts';
import { host } from './alerts/host-alerts.ts';
import { objectives, serving } from './alerts/serving-alerts.ts';
import { tools } from './alerts/tools-alerts.ts';

export type { AlertCase } from './alerts/alert-case.ts';

export const alertCases: readonly AlertCase[] = [
  ...objectives,
  ...serving,
  ...engine,
  ...audit,
  ...witnesses,
  ...producers,
  ...tools,
  ...host,
];
