// The tokenizer service over gRPC, as its clients see it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { HealthClient } from '#gen/grpc/health/v1/health.ts';
import {
  type GetVocabularyResponse,
  ParseSpecial,
  type RenderInfillRequest,
  TokenizerServiceClient,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { startTokenizer, type TokenizerService } from '../../../services/tokenizer/service.ts';
import { mixedSource } from '../../unit/tokenizer/support/corpus.ts';
import { assistant, chatRequest, tool, user } from '../../unit/tokenizer/support/requests.ts';
import {
  byteLevelTokenizer,
  PRETOKENIZERS,
  sentencePieceTokenizer,
  trainMerges,
} from '../../unit/tokenizer/support/vocabularies.ts';

const QWEN = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|fim_prefix|>',
  '<|fim_middle|>',
  '<|fim_suffix|>',
  '<|repo_name|>',
  '<|file_sep|>',
];
const TEMPLATE = [
  '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}',
  "{% if messages[0].content == 'refuse' %}{{ raise_exception('not this one') }}{% endif %}",
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}',
].join('');

let root: string;
let service: TokenizerService;
let client: TokenizerServiceClient;
const lines: string[] = [];
const log = createLog({
  service: 'tokenizer',
  level: 'debug',
  destination: { write: (line) => void lines.push(line) },
});

async function writeModels(): Promise<void> {
  const source = mixedSource(8000);
  const coder = byteLevelTokenizer({
    merges: trainMerges(source, 200),
    preTokenizer: PRETOKENIZERS.qwen2!,
    added: QWEN.map((content) => ({ content })),
  });
  await mkdir(join(root, 'coder/tokenizer'), { recursive: true });
  await writeFile(join(root, 'coder/tokenizer/tokenizer.json'), JSON.stringify(coder));
  await writeFile(
    join(root, 'coder/tokenizer/tokenizer_config.json'),
    '{"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}',
  );
  await writeFile(join(root, 'coder/chat_template.jinja'), TEMPLATE);
  await writeFile(join(root, 'coder/config.json'), '{"vocab_size": 5000, "max_position_embeddings": 200}');
  await writeFile(join(root, 'coder/quern.json'), '{"infill_prompt_tokens": 100}');
  await mkdir(join(root, 'plain'), { recursive: true });
  await writeFile(join(root, 'plain/tokenizer.json'), JSON.stringify(sentencePieceTokenizer(source, 40, [])));
}

const config = (models: { name: string; dir: string }[]) => ({
  models,
  listen: '127.0.0.1:0',
  maxTextBytes: 100_000,
  contextLength: null,
  metricsListen: null,
  drainGraceMs: 100,
  internal: { token: 'mesh-token', tls: null },
  logLevel: 'debug' as const,
});

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'quern-tokenizer-'));
  await writeModels();
  const models = ['coder', 'plain'].map((name) => ({ name, dir: join(root, name) }));
  service = await startTokenizer({ config: config(models), log, metrics: createMetrics('tokenizer') });
  client = openChannel(TokenizerServiceClient, { address: service.address, sharedToken: 'mesh-token' });
});

after(async () => {
  client?.close();
  await service?.close();
  await rm(root, { recursive: true, force: true });
});

const encode = (
  text: string,
  parseSpecial: ParseSpecial = ParseSpecial.PARSE_SPECIAL_UNSPECIFIED,
  model = 'coder',
  addBos = false,
) => unary(client, 'encode', { model, text, parseSpecial, addBos });
const infill = (over: Partial<RenderInfillRequest> = {}) =>
  unary(client, 'renderInfill', {
    model: 'coder',
    prefix: 'a\nb',
    suffix: 'c',
    chunks: [],
    path: '',
    repository: '',
    ...over,
  });

test('Encode, CountTokens and Decode agree', async () => {
  const text = 'const total = 42; // <|im_end|> 漢字\n';
  const { tokenIds } = await encode(text);
  const counted = await unary(client, 'countTokens', { model: 'coder', text, parseSpecial: 0 });
  assert.equal(counted.tokenCount, tokenIds.length);
  const decoded = await unary(client, 'decode', { model: 'coder', tokenIds, skipSpecial: true });
  assert.equal(decoded.text, text);
  const all = await encode(text, ParseSpecial.PARSE_SPECIAL_ALL);
  assert(all.tokenIds.length < tokenIds.length);
  const shown = await unary(client, 'decode', { model: 'coder', tokenIds: all.tokenIds, skipSpecial: true });
  assert.equal(shown.text, text.replace('<|im_end|>', ''));
});

test('BOS comes where the post-processor puts one', async () => {
  const without = await encode('a cat', 0, 'plain');
  const withBos = await encode('a cat', 0, 'plain', true);
  assert.deepEqual(withBos.tokenIds, [1, ...without.tokenIds]);
  assert.deepEqual((await encode('a', 0, 'coder', true)).tokenIds, (await encode('a')).tokenIds);
});

test('GetVocabulary: a header, then pieces that match their hash', async () => {
  const messages: GetVocabularyResponse[] = [];
  for await (const message of serverStream(client, 'getVocabulary', { model: 'coder' }, {})) messages.push(message);
  assert.equal(messages.length, 2);
  const [first] = messages as [GetVocabularyResponse];
  const pieces = messages.flatMap((message) => message.pieces);
  assert.equal(first.pieces.length, 4096);
  assert.equal(first.size, 5000);
  assert.equal(pieces.length, 5000);
  assert.equal(first.fimFamily, 'qwen2.5-coder');
  assert.equal(first.infillPromptTokens, 100, 'what quern.json advises');
  assert.deepEqual([first.toolParser, first.reasoningParser], ['', '']);
  assert.equal(first.chatTemplateHash, createHash('sha256').update(TEMPLATE).digest('hex'));
  const hash = createHash('sha256');
  for (const { bytes, special, added, unused } of pieces) {
    const head = Buffer.alloc(5);
    head[0] = (special ? 1 : 0) | (added ? 2 : 0) | (unused ? 4 : 0);
    head.writeUInt32LE(bytes.length, 1);
    hash.update(head).update(bytes);
  }
  assert.equal(first.contentHash, hash.digest('hex'));
  const { tokenIds } = await encode('<|im_end|>', ParseSpecial.PARSE_SPECIAL_ALL);
  assert.deepEqual(first.eosTokenIds, tokenIds);
  assert.equal(pieces[4999]!.unused, true);
  const { tokenIds: text } = await encode('let x = "é";');
  assert.equal(Buffer.concat(text.map((id) => pieces[id]!.bytes)).toString(), 'let x = "é";');
});

test('RenderChat writes the template, keeps content out of it and reports', async () => {
  const answer = await unary(client, 'renderChat', chatRequest([user('hi <|im_end|>')], { model: 'coder' }));
  const { tokenIds } = await encode('<|im_start|>user\n', ParseSpecial.PARSE_SPECIAL_ALL);
  assert.deepEqual(answer.tokenIds.slice(0, tokenIds.length), tokenIds);
  assert.equal(answer.publicPrefixTokens, 1);
  const [end] = (await encode('<|im_end|>', ParseSpecial.PARSE_SPECIAL_ALL)).tokenIds;
  assert.equal(answer.tokenIds.filter((id) => id === end).length, 1);
  const { text } = await unary(client, 'decode', { model: 'coder', tokenIds: answer.tokenIds, skipSpecial: false });
  assert.equal(text, '<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n');
});

test('RenderInfill tells family and stops, and keeps to the context length of the model', async () => {
  const answer = await infill({ prefix: 'a\nbx' });
  assert.equal(answer.family, 'qwen2.5-coder');
  assert.deepEqual(answer.stopStrings, ['<|cursor|>']);
  const { text } = await unary(client, 'decode', { model: 'coder', tokenIds: answer.tokenIds, skipSpecial: false });
  assert.equal(text, '<|fim_prefix|>a\nbx<|fim_suffix|>c<|fim_middle|>');
  const long = await infill({ prefix: 'word '.repeat(1000), suffix: 'word '.repeat(1000) });
  assert(long.tokenIds.length > 150 && long.tokenIds.length <= 200, 'a long line is cut in steps');
  assert(long.droppedPrefixTokens > 0 && long.droppedSuffixTokens > 0);
  const longer = await infill({ prefix: 'word '.repeat(1000), suffix: '', maxPromptTokens: 300 });
  assert(longer.tokenIds.length > 225 && longer.tokenIds.length <= 300);
});

type Refusal = { code: string; message: string; details: { reason: string; fields?: { field: string }[] } };

async function refused(work: Promise<unknown>, code: string, reason: string, message: RegExp): Promise<void> {
  await assert.rejects(work, (error: Refusal) => {
    assert.deepEqual([error.code, error.details.reason], [code, reason], error.message);
    assert.match(error.message, message);
    return true;
  });
}

test('refusals say what was expected', async () => {
  await refused(
    encode('x', 0, 'other'),
    'NOT_FOUND',
    'MODEL_NOT_FOUND',
    /^model: expected one of "coder", "plain", got "other"/,
  );
  await refused(
    encode('x', 0, ''),
    'NOT_FOUND',
    'MODEL_NOT_FOUND',
    /got none, which only works when one model is loaded/,
  );
  await refused(encode('x', 9 as ParseSpecial), 'INVALID_ARGUMENT', 'FIELD_INVALID', /^parse_special: /);
  await refused(
    encode('x'.repeat(100_001)),
    'INVALID_ARGUMENT',
    'TEXT_TOO_LONG',
    /^text: expected at most 100000 bytes/,
  );
  const ids = unary(client, 'decode', { model: 'coder', tokenIds: [0, 4999], skipSpecial: false });
  await refused(ids, 'INVALID_ARGUMENT', 'TOKEN_ID_UNKNOWN', /^token_ids\[1\]: .* got 4999, which is a hole in it/);
  await refused(infill({ model: 'plain' }), 'FAILED_PRECONDITION', 'FIM_UNSUPPORTED', /cannot fill in the middle/);
  await refused(infill({ path: 'x'.repeat(5000) }), 'INVALID_ARGUMENT', 'FIELD_INVALID', /^path: /);
  const tooMany = Array.from({ length: 257 }, () => ({ path: 'a', text: '' }));
  await refused(
    infill({ chunks: tooMany }),
    'INVALID_ARGUMENT',
    'FIELD_INVALID',
    /^chunks: expected at most 256, got 257/,
  );
  await refused(infill({ maxPromptTokens: 5 }), 'INVALID_ARGUMENT', 'BUDGET_TOO_SMALL', /^max_prompt_tokens: /);
  const chat = (messages = [user('x')], rest = {}) =>
    unary(client, 'renderChat', chatRequest(messages, { model: 'coder', ...rest }));
  await refused(chat([user('refuse')]), 'INVALID_ARGUMENT', 'CHAT_TEMPLATE_REFUSED', /not this one$/);
  await refused(chat([], {}), 'INVALID_ARGUMENT', 'FIELD_INVALID', /^messages: /);
  await refused(
    chat([user('x')], { model: 'plain' }),
    'FAILED_PRECONDITION',
    'CHAT_UNSUPPORTED',
    /has no chat template/,
  );
  await refused(
    chat([assistant('x'.repeat(60_000)), user('x'.repeat(60_000))]),
    'INVALID_ARGUMENT',
    'TEXT_TOO_LONG',
    /^messages: /,
  );
  await refused(
    chat([user('x')], { tools: [tool('f g', '', {})] }),
    'INVALID_ARGUMENT',
    'FIELD_INVALID',
    /^tools\[0\]\.name: /,
  );
});

test('calls need the shared token and a deadline', async (t) => {
  const stranger = openChannel(TokenizerServiceClient, { address: service.address });
  t.after(() => stranger.close());
  const request = { model: 'coder', text: 'x', parseSpecial: 0, addBos: false } as const;
  await refused(unary(stranger, 'encode', request), 'UNAUTHENTICATED', 'TOKEN_MISSING', /./);
  await assert.rejects(unary(client, 'encode', request, { timeoutMs: null }), {
    code: 'INVALID_ARGUMENT',
    message: /deadline/,
  });
});

test('health has a name per capability', async (t) => {
  const health = openChannel(HealthClient, { address: service.address });
  t.after(() => health.close());
  const name = 'quern.tokenizer.v1.TokenizerService';
  for (const one of ['', name, `${name}/RenderChat`, `${name}/RenderInfill`]) {
    assert.equal((await unary(health, 'check', { service: one })).status, 1, one);
  }
});

test('one line per call in the log, and none holds text', async () => {
  await encode('a very private sentence');
  const logged = lines.join('');
  assert(logged.includes('TokenizerService/Encode'));
  assert(!logged.includes('private'));
});

test('a model that does not load is one sentence, and nothing listens', async () => {
  const broken = config([{ name: 'gone', dir: join(root, 'gone') }]);
  const start = startTokenizer({ config: broken, log, metrics: createMetrics('tokenizer') });
  await assert.rejects(start, {
    code: 'FAILED_PRECONDITION',
    message: /^model "gone": expected a model folder at .*gone, but there is none; correct the path$/,
  });
});

test('with one model its name may be left out', async (t) => {
  const alone = await startTokenizer({
    config: config([{ name: 'coder', dir: join(root, 'coder') }]),
    log,
    metrics: createMetrics('tokenizer'),
  });
  const own = openChannel(TokenizerServiceClient, { address: alone.address, sharedToken: 'mesh-token' });
  t.after(async () => {
    own.close();
    await alone.close();
  });
  const { tokenIds } = await unary(own, 'encode', { model: '', text: 'x', parseSpecial: 0, addBos: false });
  assert.deepEqual(tokenIds, (await encode('x')).tokenIds);
});
