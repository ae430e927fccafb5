// What `quern agent` shows of a run, and what it asks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunOutcome, type RunResponse, StepState } from '#gen/quern/gateway/v1/agent.ts';
import { eventLine } from '../../../services/cli/agent/event-line.ts';
import { RunPrinter } from '../../../services/cli/agent/run-printer.ts';

type Event = NonNullable<RunResponse['event']>;
const at = (event: Event, path = ''): RunResponse => ({ sequence: 1n, path, event });

const call = (callId: string, argumentsJson: string): Event => ({
  $case: 'call',
  value: { callId, tool: 'rm', argumentsJson, turn: 0 },
});
const delta = (content: string): Event => ({ $case: 'delta', value: { content, reasoning: '' } });
const callEnded = (callId: string, over = {}): Event => ({
  $case: 'callEnded',
  value: {
    callId,
    outcome: 'OK',
    message: '',
    content: 'fine',
    contentCut: false,
    exitCode: 0,
    runNs: 1_500_000_000n,
    replayed: false,
    ...over,
  },
});
const ended: Event = {
  $case: 'ended',
  value: {
    outcome: RunOutcome.RUN_OUTCOME_LIMIT,
    answer: '',
    limit: 'turns',
    status: undefined,
    usage: { promptTokens: 10, cachedTokens: 0, completionTokens: 5 },
    turns: 2,
    calls: 1,
    wallNs: 2_000_000_000n,
  },
};

function printed(events: readonly RunResponse[], quiet = false, isTTY = false) {
  let [out, log] = ['', ''];
  const write = (text: string): unknown => (out += text);
  const logged = { isTTY, write: (text: string) => (log += text) };
  const printer = new RunPrinter({ out: { isTTY, write }, log: quiet ? null : logged });
  const questions = events.map((event) => printer.take(event)).filter((question) => question !== null);
  return { out, log, questions, outcome: printer.outcome };
}

test('text on one stream, calls and their ends on the other', () => {
  const output = { callId: '0.0', isStderr: false, data: Buffer.from('häl').subarray(0, 2) };
  const { out, log, outcome } = printed([
    at(delta('I look.')),
    at(call('0.0', '{"path": "/tmp"}')),
    at({ $case: 'callOutput', value: output }),
    at({ $case: 'callOutput', value: { ...output, data: Buffer.from('häl').subarray(2) } }),
    at(callEnded('0.0')),
    at(delta('inner'), '0.1'),
    at({ $case: 'step', value: { id: 'a', state: StepState.STEP_STATE_SKIPPED, attempt: 1, callId: '' } }),
    at(ended),
  ]);
  assert.equal(out, 'I look.\n');
  assert.deepEqual(log.split('\n'), [
    'call 0.0: rm {"path": "/tmp"}',
    'häl',
    'ended 0.0: OK (1.5 s)',
    '  fine',
    '[0.1] inner',
    'step a: left out',
    'ended at its limit of turns; 2 turns, 1 call, 15 tokens, 2.0 s',
    '',
  ]);
  assert.equal(outcome, RunOutcome.RUN_OUTCOME_LIMIT);
  assert.deepEqual(printed([at(delta('x')), at(call('0.0', '{}')), at(ended)], true).log, '');
});

test('a terminal is shown what a model, a tool or an error wants it to obey; a file gets the bytes', () => {
  const evil = '\u001b[2J\u0007';
  const output = { callId: '0.0', isStderr: false, data: Buffer.from(`${evil}\t\n`) };
  const events = [
    at(delta(`${evil}\n`)),
    at(delta(evil), '0.1'),
    at(call('0.0', `{"a": "${evil}\u202e"}`)),
    at({ $case: 'callOutput', value: output }),
    at(callEnded('0.0', { outcome: 'NONZERO_EXIT', message: evil })),
    at({
      ...ended,
      value: { ...ended.value, status: { code: 2, message: evil, details: [] } },
    }),
  ];
  const file = printed(events);
  assert.equal(file.out, `${evil}\n`);
  assert.equal(file.log.split(evil).length, 6);
  const shown = printed(events, false, true);
  assert.equal(shown.out, '\u241b[2J\u2407\n');
  assert.match(`${shown.out}${shown.log}`, /^[^\p{Cc}]*(?:[\n\t][^\p{Cc}]*)*$/u);
  assert.equal(shown.log.split('\u241b[2J\u2407').length, 6);
  assert.match(shown.log, /\\u\{202e\}/);
});

test('a question shows every character of the arguments, also those that a terminal hides, and ends with its call', () => {
  const hidden = JSON.stringify({ path: '/safe\u202e/txt.\u200b\u001b[2J', long: 'x'.repeat(500) });
  const approval: Event = {
    $case: 'approval',
    value: {
      callId: '0.0',
      approvalId: 'a',
      digest: Buffer.alloc(32),
      reason: 'destroys\u001b[1m',
      tool: 'rm',
      argumentsJson: hidden,
      expiresUnixMs: 5n,
    },
  };
  const asked = printed([at(call('0.0', '{}')), at(approval)]);
  const [question] = asked.questions;
  assert.match(question?.text ?? '', /^call 0\.0 needs approval: destroys␛\[1m\n {2}tool: rm\n/);
  assert.match(question?.text ?? '', /"path": "\/safe\\u\{202e\}\/txt\.\\u\{200b\}\\u001b\[2J"/);
  assert.ok(question?.text.includes('x'.repeat(500)));
  assert.equal(question?.ended.aborted, false);
  const over = printed([at(call('0.0', '{}')), at(approval), at(callEnded('0.0'))]);
  assert.equal(over.questions[0]?.ended.aborted, true);
});

test('an event as a line of JSON', () => {
  assert.deepEqual(JSON.parse(eventLine(at(callEnded('0.0'), '1.0'))), {
    sequence: 1,
    path: '1.0',
    event: 'call_ended',
    call_id: '0.0',
    outcome: 'OK',
    message: '',
    content: 'fine',
    content_cut: false,
    exit_code: 0,
    run_ns: 1_500_000_000,
    replayed: false,
  });
  const output: Event = { $case: 'callOutput', value: { callId: 'c', isStderr: true, data: Buffer.from('hi') } };
  assert.deepEqual(JSON.parse(eventLine(at(output))), {
    sequence: 1,
    path: '',
    event: 'call_output',
    call_id: 'c',
    is_stderr: true,
    data: 'aGk=',
  });
});
