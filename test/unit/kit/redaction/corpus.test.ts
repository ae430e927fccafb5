// What the redactor finds and what it takes by mistake, over a corpus that was labelled before its rules were read
// (test/fixtures/redaction). Rules are tuned on one half only; docs/measurements has the figures of both.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findSpans, redact } from '#kit/redaction/redact.ts';
import { makeCorpus, makeHardSet, type Sample } from '../../../fixtures/redaction/corpus.ts';
import { type Score, score } from '../../../fixtures/redaction/score.ts';

const corpus = makeCorpus();
const tuning = corpus.filter(({ half }) => half === 'tuning');
const holdout = corpus.filter(({ half }) => half === 'holdout');

const percent = (part: number, whole: number): string => `${part}/${whole} ${((100 * part) / whole).toFixed(1)} %`;

function report({ recall, precision, all, clean, excess }: Score): string {
  const kinds = [...recall].map(([kind, { found, labels }]) => `  ${kind}: ${percent(found, labels)}`);
  const rules = [...precision].map(([rule, { right, spans }]) => `  ${rule}: ${percent(right, spans)}`);
  const sums = `recall ${percent(all.found, all.labels)}, precision ${percent(all.right, all.spans)}`;
  const rest = `untouched harmless texts ${percent(clean.untouched, clean.texts)}, excess ${excess.toFixed(1)} per 1,000`;
  return [sums, rest, 'recall by kind', ...kinds, 'precision by rule', ...rules].join('\n');
}

/** Floors below what was measured. Rules that hit seldom have no floor of their own. */
function checkFloors(
  measured: Score,
  floors: { recall: number; precision: number; kind: number; rule: number; clean: number },
): void {
  const { all, clean, recall, precision } = measured;
  assert.ok(all.recall >= floors.recall, report(measured));
  assert.ok(all.precision >= floors.precision, report(measured));
  assert.ok(clean.untouched / clean.texts >= floors.clean, report(measured));
  for (const [kind, { found, labels }] of recall)
    assert.ok(found / labels >= floors.kind, `${kind}\n${report(measured)}`);
  for (const [rule, { right, spans }] of precision)
    if (spans >= 10) assert.ok(right / spans >= floors.rule, `${rule}\n${report(measured)}`);
}

test('the corpus is what it says: sizes, halves, labels that name their text', () => {
  const labels = (samples: Sample[]): number => samples.reduce((total, sample) => total + sample.labels.length, 0);
  const harmless = (samples: Sample[]): number => samples.filter((sample) => sample.labels.length === 0).length;
  assert.ok(labels(tuning) >= 850 && labels(holdout) >= 850, `${labels(tuning)} ${labels(holdout)}`);
  assert.ok(harmless(tuning) >= 350 && harmless(holdout) >= 350, `${harmless(tuning)} ${harmless(holdout)}`);
  assert.deepEqual(makeCorpus(), corpus, 'the same each time');
  for (const { text, labels: spans } of corpus) {
    let at = 0;
    for (const [start, end, kind] of spans) {
      assert.ok(start >= at && end > start && end <= text.length, `${kind} in ${text}`);
      assert.doesNotMatch(text.slice(start, end), /^\s|\s$|\[\[/, text);
      at = end;
    }
  }
});

test('tuning half: recall and precision, overall, by kind and by rule', (t) => {
  const measured = score(tuning, findSpans);
  t.diagnostic(report(measured));
  checkFloors(measured, { recall: 0.99, precision: 0.99, kind: 0.95, rule: 0.95, clean: 0.99 });
});

test('hold-out half: recall and precision, overall, by kind and by rule', (t) => {
  const measured = score(holdout, findSpans);
  t.diagnostic(report(measured));
  checkFloors(measured, { recall: 0.99, precision: 0.985, kind: 0.95, rule: 0.95, clean: 0.98 });
});

test('texts that are hard to judge: what is found at least', (t) => {
  const { all, clean } = score(makeHardSet(), findSpans);
  t.diagnostic(`recall ${percent(all.found, all.labels)}, precision ${percent(all.right, all.spans)}`);
  t.diagnostic(`untouched harmless texts ${percent(clean.untouched, clean.texts)}`);
  assert.ok(all.labels >= 400 && clean.texts >= 40);
  assert.ok(all.recall >= 0.87 && all.precision >= 0.96 && clean.untouched / clean.texts >= 0.8);
});

/** Texts of one half behind one another, as a prompt has them; labels move along. */
function joined(samples: Sample[], count: number): Sample[] {
  return Array.from({ length: Math.floor(samples.length / count) }, (_, group) => {
    const labels: Sample['labels'][number][] = [];
    let text = '';
    for (let i = 0; i < count; i += 1) {
      const sample = samples[(group + i * Math.floor(samples.length / count)) % samples.length] as Sample;
      labels.push(
        ...sample.labels.map(([start, end, kind]) => [start + text.length, end + text.length, kind] as const),
      );
      text += `${sample.text}\n\n`;
    }
    return { half: 'holdout', source: 'joined', text, labels };
  });
}

test('texts behind one another are redacted as well as alone', (t) => {
  for (const half of [tuning, holdout]) {
    const [alone, together] = [score(half, findSpans).all, score(joined(half, 12), findSpans).all];
    t.diagnostic(`alone ${alone.recall} ${alone.precision}, together ${together.recall} ${together.precision}`);
    assert.ok(together.recall >= alone.recall - 0.01 && together.precision >= alone.precision - 0.01);
  }
});

test('nothing of a covered label is left in the text, the text around it stays, and hits are counted', () => {
  for (const { text } of corpus) {
    const spans = findSpans(text);
    const { text: redacted, hits } = redact(text);
    let from = 0;
    let expected = '';
    for (const { start, end, rule } of spans) {
      assert.ok(start >= from && end > start);
      expected += `${text.slice(from, start)}[REDACTED:${rule}]`;
      from = end;
    }
    assert.equal(redacted, expected + text.slice(from));
    assert.equal(
      Object.values(hits).reduce((total, count) => total + count, 0),
      spans.length,
    );
    assert.equal(redact(redacted).text, redacted, 'a redacted text stays as it is');
  }
});
