/** House rules as tests, over every file that git tracks or would. The rules are pure functions in tidy/. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { importRules } from './tidy/import-rules.ts';
import { fileRules } from './tidy/rules.ts';
import type { Finding, SourceFile } from './tidy/source.ts';
import { treeRules } from './tidy/tree-rules.ts';

/** Rule and place (the key of the finding), each with the reason why it may stand. */
const exceptions: { rule: string; key: string; reason: string }[] = [
  {
    rule: 'typescript-subset',
    key: 'scripts/testing/counts-reporter.mjs',
    reason: 'node:test takes a reporter by its default export',
  },
  {
    rule: 'typescript-subset',
    key: 'scripts/testing/failures-reporter.mjs',
    reason: 'node:test takes a reporter by its default export',
  },
  {
    rule: 'typescript-subset',
    key: 'services/kit/env.ts',
    reason: 'a spec holds fields of any type and ValuesOf gives each its own back; unknown would lose that',
  },
];

/** Written by a program or held to their own standard. */
const isExempt = (path: string): boolean =>
  path.startsWith('services/gen/') || path.startsWith('test/golden/') || path === 'package-lock.json';

const root = resolve(import.meta.dirname, '..');

function readTree(): SourceFile[] {
  const listing = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], { cwd: root });
  const paths = listing.toString().split('\0').filter(Boolean);
  return [...new Set(paths)]
    .filter((path) => existsSync(join(root, path))) // deleted, and not committed yet
    .map((path) => ({ path, text: readFileSync(join(root, path), 'latin1') }))
    .map(({ path, text }) => ({ path, text: text.includes('\0') ? text : Buffer.from(text, 'latin1').toString() }));
}

const files = readTree();
const own = files.filter(({ path }) => !isExempt(path));
const excused = (finding: Finding): boolean =>
  exceptions.some(({ rule, key }) => rule === finding.rule && key === finding.key);

function check(findings: Finding[]): void {
  const broken = findings.filter((finding) => !excused(finding));
  const lines = broken.map(({ path, line, rule, message }) => `${path}:${line}: ${rule}: ${message}`);
  assert.equal(broken.length, 0, `\n${lines.join('\n')}`);
}

for (const rule of [...fileRules, ...importRules]) test(rule.name, () => check(own.flatMap((file) => rule(file))));
for (const rule of treeRules) test(rule.name, () => check(rule(files)));

test('generated code imports only generated code', () => {
  const generated = files.filter(({ path }) => path.startsWith('services/gen/') && path.endsWith('.ts'));
  assert(generated.length > 0, 'services/gen is empty: run `npm run gen`');
  check(generated.flatMap((file) => importRules.flatMap((rule) => rule(file))));
});

test('every exception is still needed', () => {
  const findings = [
    ...[...fileRules, ...importRules].flatMap((rule) => own.flatMap(rule)),
    ...treeRules.flatMap((rule) => rule(files)),
  ];
  for (const { rule, key } of exceptions) {
    assert(
      findings.some((finding) => finding.rule === rule && finding.key === key),
      `${rule} ${key}: nothing breaks this rule any more; remove the exception`,
    );
  }
});
