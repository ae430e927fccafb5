// An engine without a model behind the real EngineService.Session: a step clock, a script of tokens per request, and
// switches for what goes wrong. Used by the gateway's contract tests, its fault scripts and bench:mesh.
import { FinishReason, type PositionLogprobs, type Timings } from '#gen/quern/common/v1/common.ts';
import {
  type ChoiceEnd,
  type DescribeResponse,
  EngineServiceService,
  type Finished,
  type GenerationRequest,
  type SessionRequest,
  type SessionResponse,
  type TokenEvent,
} from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { defineService, type Out, type RpcServer, startRpcServer } from '#kit/rpc/server.ts';
import { toStatusProto } from '#kit/rpc/status.ts';
import { bytesOf, EOS, IM_END, VOCABULARY_SIZE } from './mock-tokenizer.ts';

/** The tokens of one choice; what is left out after them is the EOS token when it fits into max_tokens. */
export type Script = (request: GenerationRequest, choice: number) => readonly number[];

export type MockEngineOptions = {
  /** 'unix:///path' or 'host:port'. */
  listen: string;
  model?: string;
  contextLength?: number;
  /** Time between steps; 0 = as fast as the event loop turns. */
  stepMs?: number;
  tokensPerStep?: number;
  script?: Script;
};

export type MockEngine = {
  readonly address: string;
  /** Submits seen, in order. */
  readonly requests: GenerationRequest[];
  readonly cancels: number;
  /** Sequences not yet ended. */
  readonly live: number;
  /** Steps that made tokens. */
  readonly steps: number;
  /** Changed by tests while it runs. */
  settings: {
    stepMs: number;
    script: Script;
    refuse: QuernError | null;
    ignoreCancels: boolean;
    paused: boolean;
    holdFinished: boolean;
  };
  /** Ends every Session without a word, as a crash does. */
  breakSessions(): void;
  close(): Promise<void>;
};

type Sequence = {
  handle: number;
  request: GenerationRequest;
  choices: { tokens: readonly number[]; at: number; end: ChoiceEnd | null }[];
  startedNs: bigint;
  steps: number;
};

/** Readable filler: "word0 word1 ..." different for each choice. */
export const fillerScript: Script = (request, choice) => {
  const max = request.sampling?.maxTokens ?? 16;
  let text = '';
  for (let i = 0; text.length < max; i += 1) text += `${'abcdefgh'[(i + choice) % 8]}${i % 10} `;
  return bytesOf(text.slice(0, max));
};

function logprobsOf(id: number, count: number): PositionLogprobs {
  const top = Array.from({ length: count }, (_, i) => ({ tokenId: (id + i) % 256, logprob: -0.1 - i, rank: i + 1 }));
  return { chosen: { tokenId: id, logprob: -0.1, rank: 1 }, top };
}

class Session {
  readonly sequences = new Map<number, Sequence>();
  finished: Finished[] = [];
  readonly out: Out<SessionResponse>;
  abort: (() => void) | null = null;
  /** Its reader is behind. */
  waiting = false;

  constructor(out: Out<SessionResponse>) {
    this.out = out;
  }
}

function makeSequence(handle: number, request: GenerationRequest, script: Script): Sequence {
  const resumed = request.resumeTokenIds.length;
  const choices = Array.from({ length: request.sampling?.n ?? 1 }, (_, i) => ({
    tokens: script(request, i),
    at: resumed,
    end: null,
  }));
  return { handle, request, choices, startedNs: process.hrtime.bigint(), steps: 0 };
}

/** Up to `count` next tokens of a choice; sets its end when they are the last. */
function advance(sequence: Sequence, index: number, count: number): number[] {
  const choice = sequence.choices[index]!;
  const max = sequence.request.sampling?.maxTokens ?? 16;
  const stops = new Set([
    ...(sequence.request.sampling?.stopTokenIds ?? []),
    ...(sequence.request.sampling?.ignoreEos ? [] : [EOS, IM_END]),
  ]);
  const ids: number[] = [];
  while (ids.length < count && choice.at < max) {
    const id = choice.tokens[choice.at] ?? EOS;
    choice.at += 1;
    if (stops.has(id)) {
      // As the real engine: an id that ends the choice is reported with its end and is no token event.
      choice.end = { choice: index, reason: FinishReason.FINISH_REASON_STOP, stopTokenId: id };
      return ids;
    }
    ids.push(id);
  }
  if (choice.at >= max)
    choice.end = { choice: index, reason: FinishReason.FINISH_REASON_LENGTH, stopTokenId: undefined };
  return ids;
}

function finishedOf(sequence: Sequence, status: QuernError | null = null): Finished {
  const completionTokens = sequence.choices.reduce((sum, choice) => sum + choice.at, 0);
  const timings: Timings = {
    queueNs: 1000n,
    prefillNs: 2000n,
    decodeNs: process.hrtime.bigint() - sequence.startedNs,
    prefillChunks: 1,
    decodeSteps: sequence.steps,
    preemptions: 0,
    receivedUnixNs: BigInt(Date.now()) * 1_000_000n,
  };
  const promptTokens = sequence.request.tokenIds.length;
  return {
    handle: sequence.handle,
    choices: sequence.choices.map(
      (choice, i) => choice.end ?? { choice: i, reason: FinishReason.FINISH_REASON_CANCELLED, stopTokenId: undefined },
    ),
    usage: { promptTokens, cachedTokens: Math.min(4, promptTokens), completionTokens },
    timings,
    status: status ? toStatusProto(status) : undefined,
    seed: sequence.request.sampling?.seed ?? 0n,
  };
}

export async function startMockEngine(options: MockEngineOptions): Promise<MockEngine> {
  const contextLength = options.contextLength ?? 4096;
  const tokensPerStep = options.tokensPerStep ?? 1;
  const settings: MockEngine['settings'] = {
    stepMs: options.stepMs ?? 1,
    script: options.script ?? fillerScript,
    refuse: null,
    ignoreCancels: false,
    paused: false,
    holdFinished: false,
  };
  const sessions = new Set<Session>();
  const requests: GenerationRequest[] = [];
  let cancels = 0;
  let steps = 0;
  let timer: NodeJS.Timeout | NodeJS.Immediate | null = null;
  let nextAt = 0;
  let closed = false;

  const live = (): number => [...sessions].reduce((sum, session) => sum + session.sequences.size, 0);

  function schedule(): void {
    if (timer || closed) return;
    const { stepMs } = settings;
    if (stepMs === 0) {
      timer = setImmediate(tick);
      return;
    }
    const now = performance.now();
    nextAt = Math.max(nextAt + stepMs, now);
    timer = setTimeout(tick, nextAt - now);
  }

  function tick(): void {
    timer = null;
    if (!settings.paused) for (const session of sessions) step(session);
    const busy = (session: Session): boolean =>
      !session.waiting && (session.sequences.size > 0 || session.finished.length > 0);
    if ([...sessions].some(busy)) schedule();
  }

  /** One engine step of a session; with a reader that is behind, nothing is made, as merging would hide the rate. */
  function step(session: Session): void {
    if (session.waiting) return;
    if (!session.out.writable) {
      session.waiting = true;
      const go = (): void => {
        session.waiting = false;
        schedule();
      };
      session.out.drained().then(go, go);
      return;
    }
    const tokens: TokenEvent[] = [];
    const finished = session.finished;
    session.finished = [];
    if (session.sequences.size > 0) steps += 1;
    for (const sequence of session.sequences.values()) {
      stepSequence(sequence, tokens);
      if (!settings.holdFinished && sequence.choices.every((choice) => choice.end)) {
        session.sequences.delete(sequence.handle);
        finished.push(finishedOf(sequence));
      }
    }
    if (tokens.length === 0 && finished.length === 0) return;
    session.out.write({ step: { tokens, finished, running: session.sequences.size, waiting: 0 } });
  }

  function stepSequence(sequence: Sequence, tokens: TokenEvent[]): void {
    const { sampling, tokenIds } = sequence.request;
    const first = sequence.steps === 0;
    sequence.steps += 1;
    for (const [i, choice] of sequence.choices.entries()) {
      if (choice.end) continue;
      const ids = advance(sequence, i, tokensPerStep);
      const wanted = sampling?.logprobs;
      const promptWanted = first && i === 0 ? sampling?.promptLogprobs : undefined;
      tokens.push({
        handle: sequence.handle,
        choice: i,
        tokenIds: ids,
        logprobs: wanted === undefined ? [] : ids.map((id) => logprobsOf(id, wanted)),
        promptLogprobs: promptWanted === undefined ? [] : tokenIds.slice(1).map((id) => logprobsOf(id, promptWanted)),
      });
    }
  }

  function onCommand(session: Session, { command }: SessionRequest): void {
    if (command?.$case === 'cancel') {
      cancels += 1;
      const sequence = session.sequences.get(command.value.handle);
      if (!sequence || settings.ignoreCancels) return;
      session.sequences.delete(sequence.handle);
      session.finished.push(finishedOf(sequence));
    } else if (command?.$case === 'submit') {
      const { handle, request } = command.value;
      if (!request) return;
      requests.push(request);
      const sequence = makeSequence(handle, request, settings.script);
      if (settings.refuse) session.finished.push(finishedOf(sequence, settings.refuse));
      else session.sequences.set(handle, sequence);
    }
    schedule();
  }

  const description: DescribeResponse = {
    model: options.model ?? 'mock',
    modelHash: '0'.repeat(64),
    architecture: 'MockForCausalLM',
    dtype: 'f32',
    backend: 'cpu',
    isa: 'mock',
    contextLength,
    vocabularySize: VOCABULARY_SIZE,
    eosTokenIds: [EOS, IM_END],
    blockSize: 16,
    numBlocks: 1024,
    maxNumSeqs: 1024,
    maxNumBatchedTokens: 8192,
    maxWaiting: 4096,
    threads: 1,
    parameterCount: 1000n,
    weightBytes: 4000n,
    kvBytes: 0n,
    instanceId: String(Math.random()),
  };
  const absent = (): never => {
    throw new QuernError('UNIMPLEMENTED', 'the mock engine serves Session and Describe');
  };
  const service = defineService(EngineServiceService, {
    async session(incoming, call, out) {
      const session = new Session(out);
      const broken = Promise.withResolvers<never>();
      broken.promise.catch(() => {});
      session.abort = () => broken.reject(new QuernError('UNAVAILABLE', 'the mock engine crashed'));
      sessions.add(session);
      try {
        const read = async (): Promise<void> => {
          for await (const command of incoming) onCommand(session, command);
        };
        await Promise.race([read(), broken.promise]);
      } finally {
        sessions.delete(session);
      }
      void call;
    },
    describe: () => description,
    generate: absent,
    abort: absent,
    getLoad: absent,
    drain: absent,
  });
  const server: RpcServer = await startRpcServer({
    service: 'mock-engine',
    listen: [options.listen],
    services: [service],
    log: createLog({ service: 'mock-engine', level: 'silent' }),
    metrics: createMetrics('mock-engine'),
  });
  server.setServing('', true);
  return {
    address: server.addresses[0] as string,
    requests,
    settings,
    get cancels() {
      return cancels;
    },
    get steps() {
      return steps;
    },
    get live() {
      return live();
    },
    breakSessions() {
      for (const session of sessions) session.abort?.();
    },
    async close() {
      closed = true;
      if (timer) {
        clearTimeout(timer as NodeJS.Timeout);
        clearImmediate(timer as NodeJS.Immediate);
      }
      await server.close();
    },
  };
}
