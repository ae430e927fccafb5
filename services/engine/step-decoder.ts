// The packed batches of the addon, decoded. The layout is described once, in engine-native/src/napi/pack_step.h.

export type NativeLogprob = { tokenId: number; logprob: number; rank: number };

/** One new token of one choice. logprobs: null, or the chosen token then the alternatives. */
export type NativeToken = { id: number; choice: number; tokenId: number; logprobs: NativeLogprob[] | null };

/** Once per request that asked: entries per prompt position, the first position left out. */
export type NativePromptLogprobs = { id: number; positions: NativeLogprob[][] };

export type NativeChoiceEnd = { choice: number; reason: number; stopTokenId: number | null };

/** One time that a choice waited after it had run. afterNs: since receivedUnixNs. */
export type NativePreempted = { afterNs: bigint; ns: bigint; displaced: boolean };

/** The one end of a request. statusCode: the gRPC number, 0 = fine. */
export type NativeFinished = {
  id: number;
  statusCode: number;
  message: string;
  seed: bigint;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  prefillChunks: number;
  decodeSteps: number;
  preemptions: number;
  receivedUnixNs: bigint;
  queueNs: bigint;
  prefillNs: bigint;
  decodeNs: bigint;
  choices: NativeChoiceEnd[];
  /** The first few of `preemptions`. */
  preempted: NativePreempted[];
};

/** How the model ran in a step, and for whom. */
export type NativeRun = {
  beginUnixNs: bigint;
  forwardNs: bigint;
  prefillTokens: number;
  decodeTokens: number;
  /** KV blocks that sequences hold after it. */
  heldBlocks: number;
  /** Triples: request id, tokens, 1 for a decode. A view, so that a step nobody looks at costs nothing. */
  slices: Uint32Array;
};

/** What one engine step produced. running and waiting count sequences after it. */
export type NativeStep = {
  running: number;
  waiting: number;
  tokens: NativeToken[];
  prompts: NativePromptLogprobs[];
  finished: NativeFinished[];
  /** Null: the model did not run; the step only brings refusals and cancels. */
  run: NativeRun | null;
};

const utf8 = new TextDecoder();

function misfit(at: number, end: number): Error {
  return new Error(`engine addon: a record ends at word ${at}, expected ${end}; rebuild the addon`);
}

/** Decodes every record of one batch: one per engine step since the last batch. */
export function decodeSteps(words: Uint32Array): NativeStep[] {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  let at = 0;
  const next = (): number => words[at++]!;
  const wide = (): bigint => BigInt(next()) | (BigInt(next()) << 32n);

  function entries(count: number): NativeLogprob[] {
    const list: NativeLogprob[] = [];
    for (let i = 0; i < count; i += 1, at += 3) {
      list.push({ tokenId: words[at]!, logprob: floats[at + 1]!, rank: words[at + 2]! });
    }
    return list;
  }

  function token(): NativeToken {
    const id = next();
    const choice = next();
    const tokenId = next();
    const count = next();
    return { id, choice, tokenId, logprobs: count === 0 ? null : entries(count) };
  }

  function prompt(): NativePromptLogprobs {
    const id = next();
    const positions = next();
    at += 1; // entries in all: the counts say it again
    const counts = words.subarray(at, at + positions);
    at += positions;
    return { id, positions: Array.from(counts, (count) => entries(count)) };
  }

  function finished(): NativeFinished {
    const id = next();
    const statusCode = next();
    const messageBytes = next();
    const end: NativeFinished = {
      id,
      statusCode,
      message: '',
      seed: wide(),
      promptTokens: next(),
      cachedTokens: next(),
      completionTokens: next(),
      prefillChunks: next(),
      decodeSteps: next(),
      preemptions: next(),
      receivedUnixNs: wide(),
      queueNs: wide(),
      prefillNs: wide(),
      decodeNs: wide(),
      choices: [],
      preempted: [],
    };
    for (let left = next(); left > 0; left -= 1) {
      const choice = next();
      const reason = next();
      const hasStop = next() === 1;
      const stopTokenId = next();
      end.choices.push({ choice, reason, stopTokenId: hasStop ? stopTokenId : null });
    }
    end.message = utf8.decode(new Uint8Array(words.buffer, words.byteOffset + at * 4, messageBytes));
    at += Math.ceil(messageBytes / 4);
    return end;
  }

  function run(): NativeRun | null {
    if (next() === 0) return null;
    const found = {
      beginUnixNs: wide(),
      forwardNs: wide(),
      prefillTokens: next(),
      decodeTokens: next(),
      heldBlocks: next(),
    };
    const count = next() * 3;
    at += count;
    return { ...found, slices: words.subarray(at - count, at) };
  }

  function preempted(ends: readonly NativeFinished[]): void {
    for (let left = next(); left > 0; left -= 1) {
      const end = ends[next()]!;
      end.preempted.push({ afterNs: wide(), ns: wide(), displaced: next() === 1 });
    }
  }

  const steps: NativeStep[] = [];
  while (at < words.length) {
    const end = at + next();
    const step: NativeStep = { running: next(), waiting: next(), tokens: [], prompts: [], finished: [], run: null };
    const [tokens, prompts, ends] = [next(), next(), next()];
    for (let i = 0; i < tokens; i += 1) step.tokens.push(token());
    for (let i = 0; i < prompts; i += 1) step.prompts.push(prompt());
    for (let i = 0; i < ends; i += 1) step.finished.push(finished());
    if (at >= end || end > words.length) throw misfit(at, end);
    step.run = run();
    preempted(step.finished);
    if (at !== end) throw misfit(at, end);
    steps.push(step);
  }
  return steps;
}
