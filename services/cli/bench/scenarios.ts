/** The request mixes of `quern bench`. Texts are generated from a seed, so that two runs send the same bytes. */

/** One request of a scenario, transport-neutral. */
export type BenchRequest =
  | { kind: 'complete'; prompt: string; maxTokens: number }
  | { kind: 'infill'; prefix: string; suffix: string; maxTokens: number }
  | { kind: 'chat'; messages: { role: 'user' | 'assistant'; content: string }[]; maxTokens: number };

export type Scenario = {
  summary: string;
  /** The `index`-th request; scenarios with a conversation get the previous answer of the same client. */
  request: (index: number, history: { role: 'user' | 'assistant'; content: string }[]) => BenchRequest;
  /** Turns per conversation; 1 = no history. */
  turns: number;
};

const WORDS =
  'value count index total item result buffer offset width height name line parse load store read write close open next'.split(
    ' ',
  );

function source(seed: number, lines: number): string {
  let state = (seed * 2654435761 + 1) >>> 0;
  const next = (bound: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  const word = (): string => WORDS[next(WORDS.length)] as string;
  return Array.from({ length: lines }, (_, line) =>
    line % 6 === 0
      ? `def ${word()}_${word()}_${next(100)}(${word()}, ${word()}):`
      : `    ${word()} = ${word()}.${word()}(${word()}, ${next(1000)})`,
  ).join('\n');
}

const SHARED_FILE = source(7, 60);

export const SCENARIOS: Record<string, Scenario> = {
  qa: {
    summary: 'short chat questions, 64 tokens out',
    turns: 1,
    request: (index) => ({
      kind: 'chat',
      messages: [
        {
          role: 'user',
          content: `Write a function number ${index} that adds ${WORDS[index % WORDS.length]} and ${WORDS[(index * 7) % WORDS.length]}.`,
        },
      ],
      maxTokens: 64,
    }),
  },
  continuation: {
    summary: 'about 40 lines of distinct code in, 128 tokens out',
    turns: 1,
    request: (index) => ({ kind: 'complete', prompt: `${source(index + 1, 40)}\n`, maxTokens: 128 }),
  },
  'multi-turn': {
    summary: 'three turns per conversation, history sent again each time, 48 tokens out',
    turns: 3,
    request: (index, history) => ({
      kind: 'chat',
      messages: [
        ...history,
        { role: 'user', content: `Question ${index}: what does this do?\n${source(index + 1, 6)}` },
      ],
      maxTokens: 48,
    }),
  },
  fim: {
    summary: 'fill in the middle of one shared file at moving places, 32 tokens out',
    turns: 1,
    request: (index) => {
      const lines = SHARED_FILE.split('\n');
      const at = 40 + (index % 15);
      return {
        kind: 'infill',
        prefix: `${lines.slice(0, at).join('\n')}\n    `,
        suffix: `\n${lines.slice(at + 1).join('\n')}`,
        maxTokens: 32,
      };
    },
  },
};
