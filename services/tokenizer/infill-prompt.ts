// Prefix, suffix and files of the repository as the FIM prompt of a model's family, joined as ids and cut to a budget.
// Laid out for prefix-cache hits: stable things first, the prefix window starts on a grid of lines, and the current line
// is tokenized apart, so that typing never changes an earlier token.
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { FimFamily, InfillPart } from './fim-families.ts';
import { IdBuffer } from './id-buffer.ts';
import { chooseWindow } from './infill-window.ts';
import { CHUNK_BUDGET_STEP_TOKENS, INFILL_TEXT_TOKENS_MIN, PREFIX_SHARE, SUFFIX_BUDGET_STEP_TOKENS } from './limits.ts';
import type { TextTokenizer } from './tokenizer.ts';

export type InfillInput = {
  prefix: string;
  suffix: string;
  path: string;
  repository: string;
  /** Oldest first; the order is kept. */
  chunks: readonly { path: string; text: string; kind?: ChunkKind | undefined }[];
  /** Ids of the whole prompt; null = no bound. */
  maxPromptTokens: number | null;
};

export type InfillPrompt = {
  ids: Uint32Array;
  droppedPrefixTokens: number;
  droppedSuffixTokens: number;
  /** The oldest chunks are dropped first, declarations behind all others. */
  droppedChunks: number;
};

export type InfillRenderer = {
  readonly family: FimFamily;
  readonly stopTokenIds: readonly number[];
  render(input: InfillInput): InfillPrompt;
};

/** What is put for a repository or a path that the caller did not name. */
const UNNAMED_REPOSITORY = 'repository';
const UNNAMED_PATH = 'untitled';

/** CRLF as LF, also where the cursor stands between the two. */
function unixLines({ prefix, suffix }: { prefix: string; suffix: string }): { prefix: string; suffix: string } {
  const head = prefix.endsWith('\r') && suffix.startsWith('\n') ? prefix.slice(0, -1) : prefix;
  return { prefix: head.replaceAll('\r\n', '\n'), suffix: suffix.replaceAll('\r\n', '\n') };
}

/** A path or a name is one line of the prompt. */
const oneLine = (name: string): string => name.replace(/[\r\n\u0085\u2028\u2029]+/g, ' ');

/** Head up to and with the last newline, and the line that is being typed. */
function splitCurrentLine(prefix: string): [head: string, line: string] {
  const at = prefix.lastIndexOf('\n') + 1;
  return [prefix.slice(0, at), prefix.slice(at)];
}

type Sized = { part: InfillPart; ids: Uint32Array };

export function createInfillRenderer(family: FimFamily, tokenizer: TextTokenizer): InfillRenderer {
  const { idOf } = tokenizer.vocabulary;

  function encode(text: string, continues: boolean): Uint32Array {
    return tokenizer.encodePart(text, { section: continues ? 1 : 0, continues });
  }

  /** Head and current line apart. The prefix begins a text; all after it goes on in one (no blank is put in front). */
  function encodePrefix(prefix: string): Uint32Array {
    const [head, line] = splitCurrentLine(prefix);
    if (head === '' || line === '') return encode(prefix, false);
    const first = encode(head, false);
    const second = encode(line, true);
    const joined = new Uint32Array(first.length + second.length);
    joined.set(first);
    joined.set(second, first.length);
    return joined;
  }

  const encodeSuffix = (suffix: string): Uint32Array => encode(suffix, true);

  function sized(part: InfillPart): Sized {
    switch (part.kind) {
      case 'bos':
        return { part, ids: Uint32Array.from(tokenizer.bosIds) };
      case 'token':
        return { part, ids: Uint32Array.of(idOf.get(part.literal)!) };
      case 'text':
        return { part, ids: encode(part.text, true) };
      case 'chunk':
        return { part, ids: Uint32Array.from(part.parts.flatMap((inner) => [...sized(inner).ids])) };
      default:
        return { part, ids: new Uint32Array(0) };
    }
  }

  function layout(input: InfillInput): Sized[] {
    const names = {
      repository: oneLine(input.repository) || UNNAMED_REPOSITORY,
      path: oneLine(input.path) || UNNAMED_PATH,
      chunks: input.chunks.map(({ path, text }) => ({
        path: oneLine(path) || UNNAMED_PATH,
        text: text.replaceAll('\r\n', '\n'),
      })),
      has: (literal: string) => idOf.has(literal),
    };
    return family.layout(names).map(sized);
  }

  function render(input: InfillInput): InfillPrompt {
    const lines = unixLines(input);
    const suffix = lines.suffix === '' ? '\n' : lines.suffix; // an empty suffix is outside of the training data
    const parts = layout(input);
    const prefixIds = encodePrefix(lines.prefix);
    const suffixIds = encodeSuffix(suffix);
    const fixed = sum(parts.filter(({ part }) => part.kind !== 'chunk'));
    const budget = (input.maxPromptTokens ?? Number.MAX_SAFE_INTEGER) - fixed;
    if (budget < INFILL_TEXT_TOKENS_MIN) throw tooSmall(input.maxPromptTokens!, fixed);
    const kept = keepChunks(
      parts.filter(({ part }) => part.kind === 'chunk'),
      input.chunks.map(({ kind }) => kind === ChunkKind.CHUNK_KIND_DECLARATION),
      budget - prefixIds.length - suffixIds.length,
    );
    const room = budget - sum(kept.chunks);
    // Behind the prefix the suffix's end may move with every key: nothing is computed anew for it.
    const step = family.order === 'spm' ? SUFFIX_BUDGET_STEP_TOKENS : 1;
    const shares = splitBudget({ prefix: prefixIds.length, suffix: suffixIds.length }, room, step);
    const prefix = fitPrefix(lines.prefix, prefixIds, shares.prefix);
    const tail = suffixIds.subarray(0, shares.suffix);
    return {
      ids: join(parts, new Set(kept.chunks), prefix, tail),
      droppedPrefixTokens: Math.max(0, prefixIds.length - prefix.length),
      droppedSuffixTokens: suffixIds.length - tail.length,
      droppedChunks: kept.dropped,
    };
  }

  /** The prefix from the first line of the grid from which it fits. */
  function fitPrefix(prefix: string, ids: Uint32Array, max: number): Uint32Array {
    if (ids.length <= max) return ids;
    return chooseWindow({ prefix, ids, max, vocabulary: tokenizer.vocabulary, encode: encodePrefix });
  }

  const stops = family.stops.map((literal) => idOf.get(literal)).filter((id) => id !== undefined);
  return { family, stopTokenIds: [...new Set(stops)], render };
}

function sum(parts: readonly Sized[]): number {
  return parts.reduce((total, { ids }) => total + ids.length, 0);
}

function tooSmall(max: number, fixed: number): QuernError {
  const description = `expected room for the format's own ${fixed} tokens and ${INFILL_TEXT_TOKENS_MIN} of text, got ${max}; raise it`;
  return new QuernError('INVALID_ARGUMENT', `max_prompt_tokens: ${description}`, {
    reason: 'BUDGET_TOO_SMALL',
    fields: [{ field: 'max_prompt_tokens', description }],
  });
}

/**
 * The declarations that fit, then the newest of the other chunks; `declares` says of each which it is. What they get moves in steps,
 * so that a typed token seldom changes which are kept.
 */
function keepChunks(
  chunks: readonly Sized[],
  declares: readonly boolean[],
  room: number,
): { chunks: Sized[]; dropped: number } {
  if (sum(chunks) <= room) return { chunks: [...chunks], dropped: 0 };
  let left = Math.floor(Math.max(0, room) / CHUNK_BUDGET_STEP_TOKENS) * CHUNK_BUDGET_STEP_TOKENS;
  const newest = [...chunks.keys()].reverse();
  const kept = new Set<number>();
  for (const i of [...newest.filter((i) => declares[i]), ...newest.filter((i) => !declares[i])]) {
    left -= chunks[i]!.ids.length;
    if (left < 0) break;
    kept.add(i);
  }
  return { chunks: chunks.filter((_, i) => kept.has(i)), dropped: chunks.length - kept.size };
}

type Shares = { prefix: number; suffix: number };

/** 3:1, and what one of them does not need goes to the other, to the suffix in steps. */
function splitBudget({ prefix, suffix }: Shares, room: number, step: number): Shares {
  if (prefix + suffix <= room) return { prefix, suffix };
  const prefixShare = Math.floor(room * PREFIX_SHARE);
  const suffixShare = room - prefixShare;
  if (prefix <= prefixShare) {
    const left = Math.min(prefixShare, Math.ceil(prefix / step) * step);
    return { prefix, suffix: room - left };
  }
  if (suffix <= suffixShare) return { prefix: room - suffix, suffix };
  return { prefix: prefixShare, suffix: suffixShare };
}

function join(
  parts: readonly Sized[],
  kept: ReadonlySet<Sized>,
  prefix: Uint32Array,
  suffix: Uint32Array,
): Uint32Array {
  const out = new IdBuffer(1024);
  for (const sized of parts) {
    const { kind } = sized.part;
    if (kind === 'prefix') out.append(prefix);
    else if (kind === 'suffix') out.append(suffix);
    else if (kind !== 'chunk' || kept.has(sized)) out.append(sized.ids);
  }
  return out.toIds();
}
