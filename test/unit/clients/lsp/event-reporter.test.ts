import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Answer } from '../../../../clients/lsp/core/completer.ts';
import { EventReporter, type ReportedEvent } from '../../../../clients/lsp/core/event-reporter.ts';
import { InfillFailure } from '../../../../clients/lsp/core/infill-source.ts';
import {
  REPORT_BATCH_EVENTS,
  REPORT_EVERY_MS,
  REPORT_PAUSE_MS,
  REPORT_QUEUE_EVENTS,
} from '../../../../clients/lsp/core/limits.ts';
import { REASONS } from '../../../../clients/lsp/core/reasons.ts';
import { defaultSettings, type Settings } from '../../../../clients/lsp/core/settings.ts';
import type { SuggestionEvent } from '../../../../clients/lsp/core/suggestion-events.ts';
import { VirtualClock } from './support/virtual-clock.ts';

const NOTHING: Answer = {
  ...{ id: '', suggestions: [], reason: 'STALE', rule: null, from: 'none', partial: false, traceId: '' },
};

const EVENT: SuggestionEvent = {
  ...{ kind: 'shown', id: 'a', index: 0, languageId: 'python', elapsedMs: 500, chars: 12 },
  ...{ latencyMs: 90, fromCache: false },
};

function start(fails: () => InfillFailure | null = () => null) {
  const clock = new VirtualClock();
  const reports: { at: number; events: ReportedEvent[] }[] = [];
  const bench = { settings: defaultSettings as Settings };
  const source = {
    async report(events: readonly ReportedEvent[]): Promise<void> {
      reports.push({ at: clock.now(), events: [...events] });
      const failure = fails();
      if (failure) throw failure;
    },
  };
  const reporter = new EventReporter({ clock, source, settings: () => bench.settings });
  const note = (count: number): void => {
    for (let i = 0; i < count; i++) reporter.noteAnswer({ ...NOTHING, id: `r${i}` }, 'python');
  };
  return { clock, reports, reporter, note, bench };
}

test('events go ten seconds after the first, or when there are 64, and never within the call that made them', async () => {
  const { clock, reports, reporter, note } = start();
  note(1);
  await clock.advance(REPORT_EVERY_MS - 1);
  note(1);
  assert.equal(reports.length, 0);
  await clock.advance(1);
  assert.deepEqual(
    reports.map(({ at, events }) => [at, events.length]),
    [[REPORT_EVERY_MS, 2]],
  );
  note(REPORT_BATCH_EVENTS + 6);
  assert.equal(reports.length, 1);
  await clock.advance(0);
  assert.equal(reports[1]?.events.length, REPORT_BATCH_EVENTS);
  await clock.advance(REPORT_EVERY_MS);
  assert.equal(reports[2]?.events.length, 6);
  await reporter.close();
  assert.equal(clock.pending, 0);
});

test('an event says what it is in the words of the mesh, with the times and lengths that belong to it', async () => {
  const { clock, reports, reporter } = start();
  reporter.noteEvent({ ...EVENT, fromCache: true });
  reporter.noteEvent({ ...EVENT, kind: 'partially_accepted', chars: 5 });
  reporter.noteEvent({ ...EVENT, kind: 'dismissed', chars: 0 });
  reporter.noteEvent({ ...EVENT, kind: 'kept', elapsedMs: 30_000, chars: 11, languageId: 'x'.repeat(65) });
  await clock.advance(REPORT_EVERY_MS);
  assert.deepEqual(
    reports[0]?.events.map(({ kind, elapsedMs, characters, afterSeconds, languageId, fromCache }) => [
      ...[kind, elapsedMs, characters, afterSeconds, languageId, fromCache],
    ]),
    [
      ['shown', 90, null, null, 'python', true],
      ['partially_accepted', 500, 5, null, 'python', false],
      ['dismissed', 500, null, null, 'python', false],
      ['kept', null, 11, 30, '', false],
    ],
  );
});

test('each reason is told by a name that the mesh knows; what is turned off is not told', async () => {
  const { clock, reports, reporter } = start();
  for (const reason of REASONS) reporter.noteAnswer({ ...NOTHING, reason }, 'python');
  reporter.noteAnswer({ ...NOTHING, reason: null }, 'python');
  await clock.advance(REPORT_EVERY_MS);
  const told = reports[0]?.events.map(({ reason }) => reason) ?? [];
  assert.equal(told.length, REASONS.length - 1);
  assert.equal(told.filter((reason) => reason === 'OTHER').length, 3);
  assert(!told.includes('DISABLED'));
});

test('off is silence: by its setting, with completion, for a language, and for what was noted before', async () => {
  for (const off of [{ reportEvents: false }, { enabled: false }, { languages: { python: false } }]) {
    const { clock, reports, note, bench } = start();
    bench.settings = { ...defaultSettings, ...off };
    note(100);
    await clock.advance(2 * REPORT_EVERY_MS);
    assert.equal(reports.length, 0);
    assert.equal(clock.pending, 0);
  }
  const { clock, reports, reporter, note, bench } = start();
  note(3);
  bench.settings = { ...defaultSettings, reportEvents: false };
  await clock.advance(2 * REPORT_EVERY_MS);
  await reporter.close();
  assert.equal(reports.length, 0);
});

test('a mesh that takes no reports is left alone for five minutes; of what comes meanwhile the newest is kept', async () => {
  for (const kind of ['offline', 'no_fim'] as const) {
    let fails = true;
    const { clock, reports, reporter, note } = start(() => (fails ? new InfillFailure(kind, 'no') : null));
    note(1);
    await clock.advance(REPORT_EVERY_MS);
    assert.equal(reports.length, 1);
    note(REPORT_QUEUE_EVENTS + 9);
    await clock.advance(REPORT_PAUSE_MS - 1);
    assert.equal(reports.length, 1);
    assert.deepEqual([reporter.queued, reporter.dropped], [REPORT_QUEUE_EVENTS, 10]);
    fails = false;
    await clock.advance(1);
    assert.equal(reports[1]?.events[0]?.requestId, 'r9', 'the oldest went');
    await clock.advance(REPORT_EVERY_MS);
    assert.equal(reporter.queued, 0);
  }
});

test('what a mesh refuses is not sent again, and another mesh hears nothing of this one', async () => {
  const { clock, reports, reporter, note } = start(() => new InfillFailure('failed', 'no'));
  note(2);
  await clock.advance(REPORT_EVERY_MS);
  assert.deepEqual([reports.length, reporter.queued, reporter.dropped], [1, 0, 2]);
  note(2);
  reporter.forget();
  await clock.advance(2 * REPORT_PAUSE_MS);
  assert.equal(reports.length, 1);
});

test('a server that ends tells what is left, and waits for it half a second at most', async () => {
  const { reports, reporter, note } = start();
  note(100);
  await reporter.close();
  assert.equal(reports[0]?.events.length, 100);
  note(1);
  assert.equal(reporter.queued, 0);
  const clock = new VirtualClock();
  const source = { report: () => new Promise<void>(() => {}) };
  const stuck = new EventReporter({ clock, source, settings: () => defaultSettings });
  stuck.noteAnswer(NOTHING, 'python');
  const closing = stuck.close();
  await clock.advance(500);
  await closing;
  assert.equal(clock.pending, 0);
});
