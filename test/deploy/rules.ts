// The alert and recording rules of deploy/prometheus/rules as data.
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readYaml } from './yaml.ts';

export const root = resolve(import.meta.dirname, '../..');
const folder = join(root, 'deploy/prometheus/rules');
export const ruleFiles: readonly string[] = readdirSync(folder)
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => join(folder, name));

export type Rule = {
  alert?: string;
  record?: string;
  expr: string;
  for?: string;
  labels?: { severity?: string };
  annotations?: { summary?: string; description?: string; runbook_url?: string };
};

type RuleFile = { groups: { name: string; rules: Rule[] }[] };

export const rules: readonly Rule[] = ruleFiles.flatMap((file) => {
  const { groups } = readYaml(readFileSync(file, 'utf8')) as unknown as RuleFile;
  return groups.flatMap((group) => group.rules);
});
export const alerts = rules.filter((rule): rule is Rule & { alert: string } => rule.alert !== undefined);
