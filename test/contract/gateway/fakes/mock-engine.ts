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
  /** Every call hears this, as while an engine refuses its model. */
  rejects?: QuernError;
  /** False: `requests` stays empty. What a benchmark kept would cost it its collections of garbage. Default true. */
  keepsRequests?: boolean;
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
    rejects: QuernError | null;
    ignoreCancels: boolean;
    /** All tokens come, no end does. */
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
      // As the real engine: the id that ends the choice is its last token, and its end names it again.
      choice.end = { choice: index, reason: FinishReason.FINISH_REASON_STOP, stopTokenId: id };
      return [...ids, id];
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

function describe(model: string, contextLength: number): DescribeResponse {
  return {
    model,
    modelHash: '0'.repeat(32),
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
}

/** Up to `count` tokens of every open choice of a sequence. */
function stepSequence(sequence: Sequence, count: number, tokens: TokenEvent[]): void {
  const { sampling, tokenIds } = sequence.request;
  const first = sequence.steps === 0;
  sequence.steps += 1;
  for (const [i, choice] of sequence.choices.entries()) {
    if (choice.end) continue;
    const ids = advance(sequence, i, count);
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

/** The step loop over all Sessions. */
class StepLoop {
  readonly sessions = new Set<Session>();
  readonly requests: GenerationRequest[] = [];
  readonly settings: MockEngine['settings'];
  readonly #tokensPerStep: number;
  readonly #keepsRequests: boolean;
  cancels = 0;
  steps = 0;
  #timer: NodeJS.Timeout | NodeJS.Immediate | null = null;
  #nextAt = 0;
  #closed = false;

  constructor(settings: MockEngine['settings'], { tokensPerStep = 1, keepsRequests = true }: MockEngineOptions) {
    this.settings = settings;
    this.#tokensPerStep = tokensPerStep;
    this.#keepsRequests = keepsRequests;
  }

  get live(): number {
    return [...this.sessions].reduce((sum, session) => sum + session.sequences.size, 0);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer as NodeJS.Timeout);
    clearImmediate(this.#timer as NodeJS.Immediate);
  }

  onCommand(session: Session, { command }: SessionRequest): void {
    if (command?.$case === 'cancel') {
      this.cancels += 1;
      const sequence = session.sequences.get(command.value.handle);
      if (!sequence || this.settings.ignoreCancels) return;
      session.sequences.delete(sequence.handle);
      session.finished.push(finishedOf(sequence));
    } else if (command?.$case === 'submit') {
      const { handle, request } = command.value;
      if (!request) return;
      if (this.#keepsRequests) this.requests.push(request);
      const sequence = makeSequence(handle, request, this.settings.script);
      if (this.settings.refuse) session.finished.push(finishedOf(sequence, this.settings.refuse));
      else session.sequences.set(handle, sequence);
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#timer || this.#closed) return;
    const { stepMs } = this.settings;
    if (stepMs === 0) {
      this.#timer = setImmediate(() => this.#tick());
      return;
    }
    const now = performance.now();
    this.#nextAt = Math.max(this.#nextAt + stepMs, now);
    this.#timer = setTimeout(() => this.#tick(), this.#nextAt - now);
  }

  #tick(): void {
    this.#timer = null;
    for (const session of this.sessions) this.#step(session);
    const busy = ({ waiting, sequences, finished }: Session): boolean =>
      !waiting && (sequences.size > 0 || finished.length > 0);
    if ([...this.sessions].some(busy)) this.#schedule();
  }

  /** One engine step of a session; with a reader that is behind, nothing is made, as merging would hide the rate. */
  #step(session: Session): void {
    if (session.waiting) return;
    if (!session.out.writable) {
      session.waiting = true;
      const go = (): void => {
        session.waiting = false;
        this.#schedule();
      };
      session.out.drained().then(go, go);
      return;
    }
    const tokens: TokenEvent[] = [];
    const finished = session.finished;
    session.finished = [];
    if (session.sequences.size > 0) this.steps += 1;
    for (const sequence of session.sequences.values()) {
      stepSequence(sequence, this.#tokensPerStep, tokens);
      if (!this.settings.holdFinished && sequence.choices.every((choice) => choice.end)) {
        session.sequences.delete(sequence.handle);
        finished.push(finishedOf(sequence));
      }
    }
    if (tokens.length === 0 && finished.length === 0) return;
    session.out.write({ step: { tokens, finished, running: session.sequences.size, waiting: 0 } });
  }
}

function absent(): never {
  throw new QuernError('UNIMPLEMENTED', 'the mock engine serves Session and Describe');
}

function engineService(loop: StepLoop, description: DescribeResponse, settings: MockEngine['settings']) {
  return defineService(EngineServiceService, {
    async session(incoming, _call, out) {
      if (settings.rejects) throw settings.rejects;
      const session = new Session(out);
      const broken = Promise.withResolvers<never>();
      broken.promise.catch(() => {});
      session.abort = () => broken.reject(new QuernError('UNAVAILABLE', 'the mock engine crashed'));
      loop.sessions.add(session);
      try {
        const read = async (): Promise<void> => {
          for await (const command of incoming) loop.onCommand(session, command);
        };
        await Promise.race([read(), broken.promise]);
      } finally {
        loop.sessions.delete(session);
      }
    },
    describe() {
      if (settings.rejects) throw settings.rejects;
      return description;
    },
    generate: absent,
    abort: absent,
    getLoad: absent,
    drain: absent,
  });
}

export async function startMockEngine(options: MockEngineOptions): Promise<MockEngine> {
  const settings: MockEngine['settings'] = {
    stepMs: options.stepMs ?? 1,
    script: options.script ?? fillerScript,
    refuse: null,
    rejects: options.rejects ?? null,
    ignoreCancels: false,
    holdFinished: false,
  };
  const loop = new StepLoop(settings, options);
  const server: RpcServer = await startRpcServer({
    service: 'mock-engine',
    listen: [options.listen],
    services: [engineService(loop, describe(options.model ?? 'mock', options.contextLength ?? 4096), settings)],
    log: createLog({ service: 'mock-engine', level: 'silent' }),
    metrics: createMetrics('mock-engine'),
  });
  server.setServing('', true);
  return {
    address: server.addresses[0] as string,
    requests: loop.requests,
    settings,
    get cancels() {
      return loop.cancels;
    },
    get steps() {
      return loop.steps;
    },
    get live() {
      return loop.live;
    },
    breakSessions() {
      for (const session of loop.sessions) session.abort?.();
    },
    close() {
      loop.close();
      return server.close();
    },
  };
}
