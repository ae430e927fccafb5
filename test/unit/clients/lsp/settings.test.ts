import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Debounce, placeScore } from '../../../../clients/lsp/core/debounce.ts';
import type { Place } from '../../../../clients/lsp/core/place.ts';
import { SendGate } from '../../../../clients/lsp/core/send-gate.ts';
import { defaultSettings, languageEnabled, readSettings } from '../../../../clients/lsp/core/settings.ts';
import { VirtualClock } from './support/virtual-clock.ts';

test('settings are taken where they can be; the rest is named and stays', () => {
  assert.deepEqual(readSettings(undefined), { settings: defaultSettings, problems: [] });
  const { settings, problems } = readSettings({
    maxTokens: 32,
    multiLine: 'sometimes',
    enabled: 1,
    model: 'm',
    languages: [],
  });
  assert.deepEqual(
    [settings.maxTokens, settings.multiLine, settings.enabled, settings.model],
    [32, 'auto', false, 'm'],
  );
  assert.deepEqual(
    problems.map((problem) => problem.split(':')[0]),
    ['enabled', 'languages', 'multiLine'],
  );
  const kept = readSettings({ enabled: false }).settings;
  assert.deepEqual(readSettings('text', defaultSettings, kept), {
    settings: kept,
    problems: ['settings: expected an object, got "text"; all stay as they were'],
  });
  assert.equal(readSettings({ softDeadlineMs: 20_000 }).settings.hardDeadlineMs, 20_000);
});

test('what cannot be keeps the value in force, what is absent the one of the start; half a wish to send nothing sends nothing', () => {
  const base = readSettings({ maxTokens: 100, enabled: false }).settings;
  const kept = readSettings({ maxTokens: 200, warm: false }, base).settings;
  const { settings, problems } = readSettings({ maxTokens: 'many', warm: 'yes' }, base, kept);
  assert.deepEqual([settings.maxTokens, settings.warm, settings.enabled], [200, false, false]);
  assert.deepEqual(problems, [
    'maxTokens: expected a whole number from 1 to 1024, got "many"; it stays 200',
    'warm: expected true or false, got "yes"; it stays false',
  ]);
  assert.equal(readSettings({ enabled: 'no' }).settings.enabled, false);
  const { settings: off, problems: why } = readSettings({ languages: { python: 'off' } });
  assert.equal(languageEnabled(off, 'python') || languageEnabled(off, 'go'), false);
  assert.match(why[0] ?? '', /languages: expected .*; nothing is sent until that is right/);
});

test('a name that means nothing is told, with the one that was meant most likely', () => {
  const told = (name: string): string | undefined => readSettings({ [name]: false }).problems[0];
  for (const [name, meant] of [
    ['enabeld', 'enabled'],
    ['enable', 'enabled'],
    ['quern.enabled', 'enabled'],
    ['max_tokens', 'maxTokens'],
    ['MaxToken', 'maxTokens'],
    ['multiline', 'multiLine'],
    ['language', 'languages'],
    ['api-key', 'apiKey'],
    ['hardDeadline', 'hardDeadlineMs'],
  ] as const)
    assert.equal(told(name), `${name}: there is no such setting; did you mean ${meant}? it is passed over`);
  assert.match(told('colour') ?? '', /^colour: there is no such setting; there are enabled, languages, .*apiKey/);
  assert.match(told('__proto__2') ?? '', /^__proto__2: there is no such setting/);
  assert.equal(readSettings({ enabeld: 1, maxTokn: 5, warm: 'no' }).problems.length, 3, 'one line for each');
});

test('whatever the extension for VS Code may set has a name here', () => {
  const manifest = readFileSync(new URL('../../../../clients/vscode/manifest.json', import.meta.url), 'utf8');
  const names = [...manifest.matchAll(/^ *"quern\.(\w+)": \{$/gm)].map(([, name]) => name ?? '');
  assert(names.length > 10, 'they are found');
  const given = Object.fromEntries([...names, 'apiKey', 'caFile', 'outcomes'].map((name) => [name, null]));
  assert.deepEqual(readSettings(given).problems, []);
});

test('languages are on unless they, or all others, are turned off', () => {
  const on = (languages: Record<string, boolean>, id: string, enabled = true): boolean =>
    languageEnabled(readSettings({ languages, enabled }).settings, id);
  assert.equal(on({}, 'python'), true);
  assert.equal(on({ python: false }, 'python'), false);
  assert.equal(on({ '*': false }, 'python'), false);
  assert.equal(on({ '*': false, python: true }, 'python'), true);
  assert.equal(on({ '*': false }, 'constructor'), false);
  assert.equal(on({}, 'python', false), false);
});

test('the wait follows the typing, the place and the answers, within its bounds', () => {
  const good = { linePrefix: 'f(', lineSuffix: '', suffix: '' } as Place;
  const poor = { linePrefix: 'f', lineSuffix: 'g', suffix: 'g\nh' } as Place;
  const debounce = new Debounce();
  const near = (place: Place, wanted: number): void => assert.equal(Math.round(debounce.delayMs(place)), wanted);
  near(good, 80);
  near(poor, 290);
  for (let at = 0; at <= 6_000; at += 300) debounce.noteTyping(at);
  near(good, 120);
  debounce.noteTyping(60_000); // a pause is no typing
  near(good, 120);
  debounce.noteResponse(40);
  near(good, 80);
  debounce.noteResponse(200);
  near(good, 60);
  near(poor, 290);
  assert.equal(debounce.delayMs(good, { spent: true }), 290, 'who asked enough waits for a real pause');
});

test('a place is better the more likely something begins there', () => {
  const at = (linePrefix: string, lineSuffix = '', suffix = '\nx'): number =>
    placeScore({ linePrefix, lineSuffix, suffix } as Place);
  const best = at('total = ');
  for (const begins of ['', '    ', 'f(', 'a.']) assert.equal(at(begins), best, begins);
  for (const goesOn of ['tot', 'f();', 'a,', 'f(x)']) assert(at(goesOn) < best, goesOn);
  assert.equal(at('f(', ')'), best, 'brackets that closed themselves are no text');
  assert(at('f(', 'x)') < best);
});

test('the gate stays shut for longer each time, and opens when the mesh answers', async () => {
  const clock = new VirtualClock();
  const gate = new SendGate(clock);
  gate.failed('timeout');
  assert.equal(gate.closed, null);
  for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
    gate.failed('offline');
    await clock.advance(seconds * 1_000 - 1);
    assert.equal(gate.closed, 'OFFLINE');
    await clock.advance(1);
    assert.equal(gate.closed, null);
  }
  gate.reset();
  gate.failed('overloaded');
  await clock.advance(1_000);
  assert.equal(gate.closed, null);
  for (const [said, waited] of [
    [250, 250],
    [5_000, 5_000],
    [3_600_000, 30_000],
  ] as const) {
    gate.failed('overloaded', said);
    await clock.advance(waited - 1);
    assert.equal(gate.closed, 'OVERLOADED', `the mesh said ${said} ms`);
    await clock.advance(1);
    assert.equal(gate.closed, null);
  }
});
