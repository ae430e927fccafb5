// What each request of a chaos run does, drawn from a seed: the same seed and number give the same request again.
import { createRandom } from '../unit/tokenizer/support/corpus.ts';
import { BAD_CALLS, type BadCall } from './bad-calls.ts';

/** A generation whose answer is known, so that a wrong token shows. */
export type Recipe = {
  name: string;
  kind: 'complete' | 'chat';
  text: string;
  /** Present: fill in the middle. */
  suffix?: string;
  sampling: { temperature: number; seed?: number; ignoreEos?: boolean; n?: number };
  stop?: string[];
  /** Asked for this many tokens, and only by clients that do not stay: the answer would take too long to wait for. */
  endless?: number;
};

/** Acts after so many milliseconds, or with the so-manieth event of a stream. */
export type Trigger = { afterMs: number } | { afterEvents: number };

export type Behaviour =
  /** Reads its answer to the end. */
  | { kind: 'whole' }
  /** RequestService.Cancel. */
  | { kind: 'cancel'; trigger: Trigger }
  /** The client goes away. */
  | { kind: 'disconnect'; trigger: Trigger }
  | { kind: 'deadline'; timeoutMs: number };

export type GenerationPlan = {
  requestId: string;
  transport: 'grpc' | 'http';
  stream: boolean;
  recipe: Recipe;
  maxTokens: number;
  behaviour: Behaviour;
};

export type Plan =
  | ({ type: 'generation' } & GenerationPlan)
  | { type: 'bad'; call: BadCall }
  /** A connection that ends in the middle of its request, or that was never HTTP. */
  | { type: 'broken connection'; bytes: string; lingerMs: number };

export type PlanOptions = {
  seed: number;
  recipes: readonly Recipe[];
  maxTokens: number;
  /** Longest wait before a cancel or disconnect, and longest deadline. */
  maxDelayMs: number;
  contextLength: number;
};

const BROKEN = [
  'POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"prompt": "x", ',
  'POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
  'POST /v1/chat/compl',
  '\x16\x03\x01 this is no HTTP\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
];

/** Request number `index`. */
export function planRequest(index: number, options: PlanOptions): Plan {
  const random = createRandom(options.seed * 1_000_003 + index);
  random(); // neighbouring seeds begin alike
  const upTo = (max: number): number => 1 + Math.floor(random() * max);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const dice = random();
  if (dice < 0.03) return { type: 'broken connection', bytes: pick(BROKEN), lingerMs: upTo(20) };
  if (dice < 0.15) return { type: 'bad', call: pick(BAD_CALLS)(options.contextLength) };
  const stream = random() < 0.5;
  const recipe = pick(options.recipes);
  const shortest = upTo(options.maxTokens);
  const maxTokens = recipe.endless ?? shortest;
  const trigger = (): Trigger =>
    stream && random() < 0.5 ? { afterEvents: upTo(shortest) } : { afterMs: upTo(options.maxDelayMs) };
  const behaviour = (): Behaviour => {
    const leaving = ['cancel', 'cancel', 'disconnect', 'disconnect', 'deadline'] as const;
    const kind = pick(recipe.endless === undefined ? (['whole', 'whole', 'whole', ...leaving] as const) : leaving);
    if (kind === 'whole') return { kind };
    return kind === 'deadline' ? { kind, timeoutMs: upTo(options.maxDelayMs) } : { kind, trigger: trigger() };
  };
  return {
    type: 'generation',
    requestId: `chaos-${options.seed}-${index}`,
    transport: pick(['grpc', 'http'] as const),
    stream,
    recipe,
    maxTokens,
    behaviour: behaviour(),
  };
}
