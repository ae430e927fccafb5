// What a call leaves behind when it is refused, when nothing of it ran, and when what was approved has changed.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { type ExecuteResponse, Outcome, type Result } from '#gen/quern/tools/v1/tools.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { createLog } from '#kit/log.ts';
import { noSpans } from '#kit/trace.ts';
import { Admission } from '../../../services/tools/admission.ts';
import { Approvals } from '../../../services/tools/approvals.ts';
import { type CheckOptions, createArgumentChecker } from '../../../services/tools/argument-check.ts';
import { CallJournal } from '../../../services/tools/call-journal.ts';
import type { OpenWorkspace, ToolCatalog } from '../../../services/tools/call-ports.ts';
import type { CallRequest, ExecutionParts } from '../../../services/tools/call-request.ts';
import { Executor } from '../../../services/tools/executor.ts';
import type { OutputSink } from '../../../services/tools/jail/sandbox.ts';
import { parsePolicy } from '../../../services/tools/policy.ts';
import type { JsonObject, JsonValue, Tool, ToolAnswer } from '../../../services/tools/tool.ts';
import { noToolAudit } from '../../../services/tools/tool-audit.ts';
import { createCatalog } from '../../../services/tools/tool-catalog.ts';
import { DEFAULT_LIMITS } from '../../../services/tools/tool-limits.ts';
import { openWorkspaces } from '../../../services/tools/workspaces.ts';
import { createFakeJail } from '../../contract/tools/support/fake-jail.ts';
import { fakeTool } from '../../contract/tools/support/service.ts';

const { signal } = new AbortController();
const checker = createArgumentChecker();
after(() => checker.close());
const caller = { tenant: 'acme', user: 'ada', keyId: 'k', sessionId: 's', requestId: 'r' };

type Over = Partial<ExecutionParts> & { tool?: Tool; artifact?: OpenWorkspace['artifact'] };

async function setUp(t: TestContext, decision: 'allow' | 'ask' = 'allow', given: Over = {}) {
  const { tool = fakeTool({ name: 'fake', decision }), artifact = async () => null, ...over } = given;
  const dir = await mkdtemp(join(tmpdir(), 'quern-execution-'));
  const work = await mkdtemp(join(tmpdir(), 'quern-work-'));
  const { journal } = await CallJournal.open({ files: await openSegmentFiles(dir) });
  t.after(async () => {
    await journal.close();
    await Promise.all([dir, work].map((path) => rm(path, { recursive: true, force: true })));
  });
  const registry = {
    list: () => [tool],
    get: () => tool,
    checkResult: (one: Tool, json: string, options: CheckOptions) =>
      checker.check(one.definition.outputSchema ?? {}, json, options),
    check: async (_: unknown, text: string) => ({ ok: true as const, args: JSON.parse(text) }),
  };
  const catalog: ToolCatalog = createCatalog(registry, () => parsePolicy(''));
  const jail = createFakeJail();
  const parts: ExecutionParts = {
    jail,
    catalog,
    workspaces: {
      enter: async () => ({
        workspace: { path: work, protected: [] },
        full: signal,
        begin: async () => {},
        artifact,
        leave: async () => {},
      }),
    },
    audit: noToolAudit,
    journal,
    admission: new Admission({ perTenant: 1, perHost: 1, queue: 8 }),
    approvals: new Approvals(),
    metrics: { ended() {}, replayed() {}, queued() {}, setup() {}, run() {}, output() {} },
    spans: noSpans,
    log: createLog({ service: 'tools', level: 'silent' }),
    approvalWaitMs: 10_000,
    ...over,
  };
  const verdict = catalog.verdict(tool, {
    tenant: 'acme',
    taint: { readUntrusted: false, hasPrivate: false, canExfiltrate: false },
  });
  const request = (words: readonly string[], key = 'key'): CallRequest => ({
    caller,
    callId: uuidv7(),
    key,
    requestSha: 'sha',
    tool,
    verdict,
    argumentsJson: JSON.stringify({ words }),
    stdin: null,
    limits: DEFAULT_LIMITS,
    modelOutputBytes: 4096,
    endUnixMs: Date.now() + 20_000,
    depth: 0,
    taint: { readUntrusted: false, hasPrivate: false, canExfiltrate: false },
    trace: { traceId: '1'.repeat(32), spanId: '2'.repeat(16), sampled: false } as CallRequest['trace'],
  });
  const executor = new Executor(parts);
  const run = async (asked: CallRequest, seen: (event: ExecuteResponse) => void = () => {}): Promise<Result> => {
    let result: Result | null = null;
    const write = (event: ExecuteResponse): boolean => {
      if (event.event?.$case === 'result') result = event.event.value;
      seen(event);
      return true;
    };
    await executor.execute(asked, { write, drained: async () => {} }, signal);
    return result ?? assert.fail('no result');
  };
  return { work, jail, journal, run, request, parts };
}

test('a call that waits for what idles in its workspace has that ended; refused all the same, it may be sent again', async (t) => {
  let ended = 0;
  const { jail, run, request, parts } = await setUp(t);
  const { enter } = parts.workspaces;
  const endIdle = async (): Promise<void> => void ended++;
  parts.workspaces.enter = async (who) => ({ ...(await enter(who)), endIdle });
  const { run: runs } = jail;
  jail.run = async (command, options) => {
    const end = await runs({ ...command, argv: ['/bin/fake', 'setup-fails'] }, options);
    options.onHeldUp?.();
    return { ...end, setupFailure: 'x is protected; wait', refusal: 'PROTECTED_PATH_BUSY' };
  };
  const refused = await run(request(['say', 'a']));
  assert.equal(refused.outcome, Outcome.OUTCOME_SANDBOX_SETUP_FAILED);
  assert.deepEqual([refused.message, refused.content], ['x is protected; wait', 'x is protected; wait']);
  assert.equal(ended, 1);
  jail.run = runs;
  const again = await run(request(['say', 'a']));
  assert.deepEqual([again.outcome, again.replayed], [Outcome.OUTCOME_OK, false]);
});

test('a call that is refused after its beginning was written leaves its key free', async (t) => {
  let full = true;
  const audit = {
    ...noToolAudit,
    call: (...args: Parameters<typeof noToolAudit.call>) => ({
      ...noToolAudit.call(...args),
      requested: full
        ? Promise.reject(new QuernError('UNAVAILABLE', 'full', { reason: 'AUDIT_UNAVAILABLE' }))
        : Promise.resolve(),
    }),
  };
  const { run, request, jail, journal } = await setUp(t, 'allow', { audit });
  await assert.rejects(run(request(['say', 'hi'])), (error: QuernError) => error.code === 'UNAVAILABLE');
  assert.equal(await journal.find('key'), null);
  assert.equal(jail.ran.length, 0);
  full = false;
  const { outcome, content, replayed } = await run(request(['say', 'hi']));
  assert.deepEqual([outcome, content, replayed], [Outcome.OUTCOME_OK, 'hi', false]);
  assert.equal((await run(request(['say', 'hi']))).replayed, true);
});

test('a call whose sandbox could not be set up may be sent again with its key; one that ran may not', async (t) => {
  const { run, request, jail } = await setUp(t);
  assert.equal((await run(request(['setup-fails']))).outcome, Outcome.OUTCOME_SANDBOX_SETUP_FAILED);
  jail.tier = null;
  assert.equal((await run(request(['say', 'hi']))).outcome, Outcome.OUTCOME_SANDBOX_UNAVAILABLE);
  jail.tier = 'A';
  const { outcome, replayed } = await run(request(['exit', '3']));
  assert.deepEqual([outcome, replayed], [Outcome.OUTCOME_NONZERO_EXIT, false]);
  assert.equal((await run(request(['exit', '3']))).replayed, true);
});

test('a call whose result had to go is told with its outcome, and not run again', async (t) => {
  const { run, request, jail, journal } = await setUp(t);
  const facts = {
    executionId: 'x',
    tenant: 'acme',
    owner: 'o',
    actorRef: '',
    callId: 'c',
    key: 'key',
    requestSha: 'sha',
  };
  const begun = { ...facts, tool: 'fake', toolSha: 't', requestId: 'r', traceId: 't' };
  await journal.begin(begun);
  await journal.end(begun, { outcome: 'ok', result: null });
  const { outcome, message, replayed } = await run(request(['say', 'hi']));
  assert.deepEqual([outcome, replayed], [Outcome.OUTCOME_OK, true]);
  assert.match(message, /not kept any more/);
  assert.equal(jail.ran.length, 0);
});

function answering(answer: () => Partial<ToolAnswer>): Tool {
  const command = { argv: ['/bin/fake'], env: {}, stdin: null, workspace: null, binds: [], network: 'none' as const };
  const empty: ToolAnswer = { ok: true, message: '', content: '', structured: null, artifacts: [] };
  const prepare = () => ({ kind: 'sandbox' as const, command, answer: () => ({ ...empty, ...answer() }) });
  return fakeTool({ name: 'fake', prepare });
}

test('a call that ran says so when its answer or its files cannot be read', async (t) => {
  const nested = answering(() => {
    let structured: JsonValue = [];
    for (let i = 0; i < 200_000; i++) structured = [structured];
    return { structured };
  });
  const first = await setUp(t, 'allow', { tool: nested });
  const { outcome, exitCode, message } = await first.run(first.request([]));
  assert.deepEqual([outcome, exitCode], [Outcome.OUTCOME_NONZERO_EXIT, 0]);
  assert.match(message, /it ran/);
  assert.equal((await first.run(first.request([]))).replayed, true);

  const tool = answering(() => ({ content: 'done', artifacts: [{ path: 'a'.repeat(300), mediaType: 'text/plain' }] }));
  const artifact = () => Promise.reject(Object.assign(new Error('name too long'), { code: 'ENAMETOOLONG' }));
  const second = await setUp(t, 'allow', { tool, artifact });
  const result = await second.run(second.request([]));
  assert.deepEqual([result.outcome, result.content], [Outcome.OUTCOME_OK, 'done']);
});

test('what a command promises of its output is checked', async (t) => {
  const outputSchema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] };
  const promising = (structured: JsonValue): Tool => {
    const tool = answering(() => ({ content: 'out', structured }));
    return { ...tool, definition: { ...tool.definition, outputSchema } };
  };
  const good = await setUp(t, 'allow', { tool: promising({ n: 1 }) });
  const kept = await good.run(good.request([]));
  assert.deepEqual([kept.outcome, kept.structuredJson], [Outcome.OUTCOME_OK, '{"n":1}']);
  const bad = await setUp(t, 'allow', { tool: promising({ n: 'one' }) });
  const { outcome, message, content, structuredJson } = await bad.run(bad.request([]));
  assert.deepEqual([outcome, content, structuredJson], [Outcome.OUTCOME_NONZERO_EXIT, 'out', '']);
  assert.match(message, /promises a structured result, but its result.*n: expected integer/);
});

test('what was approved is compared again when the call has its place', async (t) => {
  const { run, request, jail, parts, work } = await setUp(t, 'ask');
  const leave = await parts.admission.enter('acme', signal);
  const result = run(request(['say', 'hi'], ''), ({ event }) => {
    if (event?.$case !== 'approvalRequired') return;
    const { approvalId, digest } = event.value;
    const by = { tenant: 'acme', user: 'boss', keyId: 'b' };
    parts.approvals.approve(approvalId, Buffer.from(digest).toString('hex'), by);
  });
  while (parts.admission.queued === 0) await new Promise((resolve) => setImmediate(resolve));
  await writeFile(join(work, 'run.sh'), 'changed while it waited for a place');
  leave();
  const { outcome, message } = await result;
  assert.equal(outcome, Outcome.OUTCOME_DENIED_APPROVAL);
  assert.match(message, /workspace changed/);
  assert.equal(jail.ran.length, 0);
});

test('what was approved runs alone in its workspace, from the comparison to its end', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-workspaces-'));
  const workspaces = await openWorkspaces({ dir });
  t.after(async () => {
    await workspaces.close();
    await rm(dir, { recursive: true, force: true });
  });
  // Each call asks for the workspace once, and has its turn from then on.
  let asking = 0;
  const watched: typeof workspaces = Object.create(workspaces, {
    enter: {
      value: async (...args: Parameters<typeof workspaces.enter>) => {
        const opened = await workspaces.enter(...args);
        const begin: typeof opened.begin = (options) => {
          asking += 1;
          return opened.begin(options);
        };
        return { ...opened, begin };
      },
    },
  });
  const inside = new Set<string>();
  const seen: string[][] = [];
  const gates = new Map<string, PromiseWithResolvers<void>>();
  const jail = createFakeJail();
  const { run: runInJail } = jail;
  jail.run = async (command, options) => {
    const [, , name = ''] = command.argv;
    inside.add(name);
    seen.push([...inside].sort());
    await gates.get(name)!.promise;
    inside.delete(name);
    return runInJail({ ...command, argv: ['/bin/fake', 'say', name] }, options);
  };
  const { workspace, leave } = await workspaces.enter(caller);
  await leave();
  const toolOf = (decision: 'allow' | 'ask'): Tool => {
    const prepare = ({ words }: JsonObject) => ({
      kind: 'sandbox' as const,
      command: {
        argv: ['/bin/fake', ...(words as string[])],
        ...{ env: {}, stdin: null, workspace: { ...workspace, writable: true }, binds: [], network: 'none' as const },
      },
      answer: () => ({ ok: true, message: '', content: '', structured: null, artifacts: [] }),
    });
    return fakeTool({ name: 'fake', decision, prepare });
  };
  const admission = new Admission({ perTenant: 8, perHost: 8, queue: 8 });
  const plain = await setUp(t, 'allow', { tool: toolOf('allow'), jail, workspaces: watched, admission });
  const asked = await setUp(t, 'ask', { tool: toolOf('ask'), jail, workspaces: watched, admission });
  const start = (name: string, isAsked: boolean) => {
    gates.set(name, Promise.withResolvers<void>());
    const { run, request, parts } = isAsked ? asked : plain;
    return run(request(['name', name], ''), ({ event }) => {
      if (event?.$case !== 'approvalRequired') return;
      const { approvalId, digest } = event.value;
      const by = { tenant: 'acme', user: 'boss', keyId: 'b' };
      parts.approvals.approve(approvalId, Buffer.from(digest).toString('hex'), by);
    });
  };
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((resolve) => setImmediate(resolve));
  };
  const first = start('first', false);
  await until(() => inside.has('first'));
  const approved = start('approved', true);
  await until(() => asking === 2); // it waits for the first, and keeps no place from others
  assert.equal(admission.running, 1);
  const later = start('later', false);
  await until(() => asking === 3);
  gates.get('first')!.resolve();
  await until(() => inside.has('approved'));
  await first;
  gates.get('approved')!.resolve();
  assert.equal((await approved).outcome, Outcome.OUTCOME_OK);
  await until(() => inside.has('later'));
  // What a call changes that ran before it counts: the approval does not hold any more.
  const stale = start('stale', true);
  await until(() => asking === 4);
  await writeFile(join(workspace.path, 'changed'), 'while another call ran');
  gates.get('later')!.resolve();
  assert.equal((await stale).outcome, Outcome.OUTCOME_DENIED_APPROVAL);
  await later;
  assert.deepEqual(seen, [['first'], ['approved'], ['later']]);
});

test('processes that were refused to a program which ended well are told', async (t) => {
  const { run, request } = await setUp(t, 'allow', { tool: answering(() => ({ content: 'done' })) });
  const { outcome, content, limitsHit } = await run(request([]));
  assert.deepEqual([outcome, content, limitsHit], [Outcome.OUTCOME_OK, 'done', undefined]);
  const bomb = await setUp(t, 'allow');
  const told = await bomb.run(bomb.request(['say', 'done', 'refused', '7']));
  assert.deepEqual([told.outcome, told.exitCode, told.limitsHit], [Outcome.OUTCOME_OK, 0, { processes: 7 }]);
  assert.equal(
    told.content,
    `[7 processes or threads could not be started: the limit of this tool is ${DEFAULT_LIMITS.pids} at once]\ndone`,
  );
});

test('bytes that are no file are handed out as they are', async (t) => {
  const data = Buffer.from('png');
  const tool = answering(() => ({
    content: 'drawn',
    artifacts: [{ path: 'image-1.png', mediaType: 'image/png', data }],
  }));
  const { run, request } = await setUp(t, 'allow', { tool });
  const seen: unknown[] = [];
  await run(request([]), ({ event }) => {
    if (event?.$case === 'artifact')
      seen.push([event.value.path, event.value.mediaType, event.value.size, event.value.data]);
  });
  assert.deepEqual(seen, [['image-1.png', 'image/png', 3n, data]]);
});

test('output stays as it was written, in memory of its own and cut into events, whatever its writer does with its buffer', async (t) => {
  const empty: ToolAnswer = { ok: true, message: '', content: '', structured: null, artifacts: [] };
  const prepare = () => ({
    kind: 'function' as const,
    tier: 'W' as const,
    async run({ output }: { output: OutputSink }): Promise<ToolAnswer> {
      const buffer = Buffer.from('first');
      output.write('stdout', buffer);
      buffer.write('again');
      output.write('stderr', buffer);
      buffer.fill(0);
      output.write('stdout', Buffer.alloc(DEFAULT_LIMITS.outputBytes, 'x')); // more than the limit, so that `content` has what was written
      return empty;
    },
  });
  const { run, request } = await setUp(t, 'allow', { tool: fakeTool({ name: 'fake', prepare }) });
  const seen: { stream: number; data: Buffer }[] = [];
  const { content } = await run(request([]), ({ event }) => {
    if (event?.$case === 'output') seen.push({ stream: event.value.stream, data: event.value.data as Buffer });
  });
  assert.deepEqual(
    seen.slice(0, 2).map(({ stream, data }) => [stream, data.toString()]),
    [
      [1, 'first'],
      [2, 'again'],
    ],
  );
  assert.ok(seen.length > 3);
  for (const { data } of seen) assert.equal(data.buffer.byteLength, data.length);
  assert.match(content, /stdout:\nfirstx/);
  assert.match(content, /stderr:\nagain$/);
});
