// A byte-level tokenizer behind the real TokenizerService: ids 0..255 are bytes, the rest are control tokens.
// Text round-trips exactly, so tests can say what a prompt was and what a completion must be.
import {
  GetVocabularyResponse,
  type InfillChunk,
  ParseSpecial,
  Role,
  TokenizerServiceService,
  type VocabularyPiece,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { defineService, startRpcServer } from '#kit/rpc/server.ts';
import { noSpans } from '#kit/trace.ts';
import { vocabularyHash } from '../../../../services/gateway/vocabulary.ts';
import { type SessionCalls, session } from '../../../../services/tokenizer/rpc/session.ts';

export const SPECIAL = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|fim_prefix|>',
  '<|fim_suffix|>',
  '<|fim_middle|>',
] as const;
export const EOS = 256;
export const IM_START = 257;
export const IM_END = 258;
export const FIM_PREFIX = 259;
export const FIM_MIDDLE = 261;
export const VOCABULARY_SIZE = 256 + SPECIAL.length;

const ROLE_NAMES: Record<number, string> = {
  [Role.ROLE_SYSTEM]: 'system',
  [Role.ROLE_USER]: 'user',
  [Role.ROLE_ASSISTANT]: 'assistant',
  [Role.ROLE_TOOL]: 'tool',
  [Role.ROLE_DEVELOPER]: 'system',
};

/** Byte ids of a text. */
export function bytesOf(text: string): number[] {
  return [...Buffer.from(text)];
}

function encode(text: string, parse: ParseSpecial): number[] {
  const literals =
    parse === ParseSpecial.PARSE_SPECIAL_ALL
      ? SPECIAL
      : parse === ParseSpecial.PARSE_SPECIAL_FIM
        ? SPECIAL.slice(3)
        : [];
  if (literals.length === 0) return bytesOf(text);
  const pattern = new RegExp(`(${literals.map((l) => l.replace(/[|]/g, '\\|')).join('|')})`);
  return text.split(pattern).flatMap((part) => {
    const at = SPECIAL.indexOf(part as (typeof SPECIAL)[number]);
    return at >= 0 ? [256 + at] : bytesOf(part);
  });
}

function pieces(): VocabularyPiece[] {
  const byte = (i: number): VocabularyPiece => ({
    bytes: Buffer.from([i]),
    special: false,
    added: false,
    unused: false,
  });
  return [
    ...Array.from({ length: 256 }, (_, i) => byte(i)),
    ...SPECIAL.map((text) => ({ bytes: Buffer.from(text), special: true, added: true, unused: false })),
  ];
}

export type MockTokenizer = {
  readonly address: string;
  readonly calls: { encode: number; chat: number; infill: number };
  /** Of the last infill. */
  readonly chunks: InfillChunk[];
  close(): Promise<void>;
};

function checkModel(model: string, models: readonly string[]): void {
  if (!models.includes(model)) throw new QuernError('NOT_FOUND', `no model "${model}"`, { reason: 'MODEL_NOT_FOUND' });
}

export async function startMockTokenizer(options: {
  listen: string;
  models?: readonly string[];
  toolParser?: string;
  reasoningParser?: string;
  /** What the model's folder advises. */
  infillPromptTokens?: number;
}): Promise<MockTokenizer> {
  const models = options.models ?? ['mock'];
  const calls = { encode: 0, chat: 0, infill: 0 };
  const chunks: InfillChunk[] = [];
  const vocabulary = pieces();
  const header: GetVocabularyResponse = {
    contentHash: vocabularyHash(vocabulary),
    size: VOCABULARY_SIZE,
    eosTokenIds: [EOS, IM_END],
    chatTemplateHash: 'mock',
    fimFamily: 'mock-fim',
    fimOrder: 'psm',
    infillPromptTokens: options.infillPromptTokens,
    toolParser: options.toolParser ?? '',
    reasoningParser: options.reasoningParser ?? '',
    pieces: [],
  };
  const sessionCalls: SessionCalls = {
    encode(request) {
      calls.encode += 1;
      checkModel(request.model, models);
      return { tokenIds: encode(request.text, request.parseSpecial) };
    },
    renderChat(request) {
      calls.chat += 1;
      checkModel(request.model, models);
      const tools = request.tools.length > 0 ? bytesOf(JSON.stringify(request.tools.map((tool) => tool.name))) : [];
      const turns = request.messages.flatMap((m) => [
        IM_START,
        ...bytesOf(`${ROLE_NAMES[m.role]}\n${m.content}`),
        IM_END,
        0x0a,
      ]);
      const open =
        (request.addGenerationPrompt ?? true)
          ? [IM_START, ...bytesOf(`assistant\n${request.enableThinking ? '<think>\n' : ''}`)]
          : [];
      return { tokenIds: [...tools, ...turns, ...open], publicPrefixTokens: tools.length };
    },
    renderInfill(request) {
      calls.infill += 1;
      chunks.splice(0, chunks.length, ...request.chunks);
      const max = request.maxPromptTokens ?? 1 << 20;
      // As the real one, whose format has the file's path in it.
      if (max < 3 + request.path.length + 16) {
        const description = `expected room, got ${max}; raise it`;
        const fields = [{ field: 'max_prompt_tokens', description }];
        throw new QuernError('INVALID_ARGUMENT', description, { reason: 'BUDGET_TOO_SMALL', fields });
      }
      const prefix = bytesOf(request.prefix);
      const suffix = bytesOf(request.suffix);
      const files = request.chunks.flatMap(({ path, text }) => bytesOf(`${path}\n${text}\n`));
      const over = Math.max(0, files.length + prefix.length + suffix.length + 3 - max);
      const kept = prefix.slice(over);
      return {
        tokenIds: [...files, FIM_PREFIX, ...kept, FIM_PREFIX + 1, ...suffix, FIM_PREFIX + 2],
        stopTokenIds: [EOS, FIM_PREFIX],
        stopStrings: ['<|cursor|>'],
        family: 'mock-fim',
        droppedPrefixTokens: over,
        droppedSuffixTokens: 0,
        droppedChunks: 0,
      };
    },
  };
  const draining = new AbortController();
  const service = defineService(TokenizerServiceService, {
    ...sessionCalls,
    decode(request) {
      const bad = request.tokenIds.find((id) => id >= VOCABULARY_SIZE);
      if (bad !== undefined)
        throw new QuernError('INVALID_ARGUMENT', `unknown token id ${bad}`, {
          fields: [{ field: 'token_ids', description: 'unknown' }],
        });
      return { text: Buffer.concat(request.tokenIds.map((id) => vocabulary[id]!.bytes)).toString() };
    },
    countTokens: (request) => ({ tokenCount: encode(request.text, request.parseSpecial).length }),
    async getVocabulary(request, _call, out) {
      checkModel(request.model, models);
      out.write(header);
      const empty = GetVocabularyResponse.decode(new Uint8Array(0));
      for (let at = 0; at < vocabulary.length; at += 100)
        out.write({ ...empty, pieces: vocabulary.slice(at, at + 100) });
    },
    session: (incoming, _call, out) =>
      session(sessionCalls, incoming, out, { spans: noSpans, draining: draining.signal }),
  });
  const server = await startRpcServer({
    service: 'mock-tokenizer',
    listen: [options.listen],
    services: [service],
    log: createLog({ service: 'mock-tokenizer', level: 'silent' }),
    metrics: createMetrics('mock-tokenizer'),
  });
  server.setServing('', true);
  return {
    address: server.addresses[0] as string,
    calls,
    chunks,
    close() {
      draining.abort();
      return server.close();
    },
  };
}
