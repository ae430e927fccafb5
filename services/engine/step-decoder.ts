// The packed batches of the addon, decoded. The layout is described once, in engine-native/src/napi/pack_step.h.

export type NativeLogprob = { tokenId: number; logprob: number; rank: number };

/** One new token of one choice. logprobs: null, or the chosen token then the alternatives. */
export type NativeToken = { id: number; choice: number; tokenId: number; logprobs: NativeLogprob[] | null };

/** Once per request that asked: entries per prompt position, the first position left out. */
export type NativePromptLogprobs = { id: number; positions: NativeLogprob[][] };

export type NativeChoiceEnd = { choice: number; reason: number; stopTokenId: number | null };

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
};

/** What one engine step produced. running and waiting count sequences after it. */
export type NativeStep = {
  running: number;
  waiting: number;
  tokens: NativeToken[];
  prompts: NativePromptLogprobs[];
  finished: NativeFinished[];
};

const utf8 = new TextDecoder();

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

  const steps: NativeStep[] = [];
  while (at < words.length) {
    const end = at + next();
    const step: NativeStep = { running: next(), waiting: next(), tokens: [], prompts: [], finished: [] };
    const [tokens, prompts, ends] = [next(), next(), next()];
    for (let i = 0; i < tokens; i += 1) step.tokens.push(token());
    for (let i = 0; i < prompts; i += 1) step.prompts.push(prompt());
    for (let i = 0; i < ends; i += 1) step.finished.push(finished());
    if (at !== end) throw new Error(`engine addon: a record ends at word ${at}, expected ${end}; rebuild the addon`);
    steps.push(step);
  }
  return steps;
}
