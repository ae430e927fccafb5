/** The thin commands as a user runs them, against one real mesh with the bundled model. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { tlsFile } from '../fixtures/tls/certificates.ts';
import { type Mesh, quern, startMesh } from './mesh.ts';

test('the commands against one mesh', async (t) => {
  const mesh = await startMesh(t);
  const run = (args: string[], input?: string) => {
    const env = { QUERN_GATEWAY: mesh.grpc };
    return quern(args, input === undefined ? { env } : { env, input });
  };
  await t.test('chat', () => chats(run, mesh));
  await t.test('bench', () => benches(run));
  await t.test('call', () => calls(run, mesh));
  await t.test('infill', (t) => infills(t, run));
  await t.test('eval', () => evaluates(run));
  await t.test('models and doctor', () => looks(run, mesh));
  assert.equal(await mesh.stop(), 0);
});

test('a mesh that speaks TLS is called by https:// and its CA', async (t) => {
  const env = { QUERN_GATEWAY_TLS_CERT_FILE: tlsFile('server.pem'), QUERN_GATEWAY_TLS_KEY_FILE: tlsFile('server.key') };
  const mesh = await startMesh(t, { env });
  const plain = await quern(['models', '--gateway', mesh.grpc]);
  assert.equal(plain.code, 1);
  assert.ok(plain.stderr.includes(`speaks TLS: --gateway https://${mesh.grpc}`), plain.stderr);
  const stranger = await quern(['models', '--gateway', `https://${mesh.grpc}`, '--ca', tlsFile('other-ca.pem')]);
  assert.equal(stranger.code, 1);
  assert.match(stranger.stderr, /^quern: the certificate of \S+ is of a CA that is not known here; /);
  const client = { QUERN_GATEWAY: `https://${mesh.grpc}`, QUERN_GATEWAY_CA_FILE: tlsFile('ca.pem') };
  const call = await quern(['call', 'ModelService/ListModels'], { env: client });
  assert.equal(call.code, 0, call.stderr);
  assert.match(call.stdout, /"name":"quern-mini"/);
  const options = ['--scenario', 'fim', '--requests', '1', '--transport', 'both', '--json'];
  const bench = await quern(['bench', ...options], { env: client });
  assert.equal(bench.code, 0, bench.stderr);
  assert.match(bench.stdout, /"transport":"https 127[^}]*"completed":1,/);
  const told = bench.stderr.split('\n').filter((line) => !/^fim over \S+ \S+: .* after \d+ s$/.test(line));
  assert.deepEqual(told, [''], 'how far it is, where it takes long, and nothing else');
  assert.equal(await mesh.stop(), 0);
});

test('a listener that keeps still does not hold the command for ever', async (t) => {
  const server = createServer(() => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const call = await quern(['call', '--timeout-ms', '1000', '--gateway', `127.0.0.1:${port}`, 'Health/Check']);
  assert.equal(call.code, 1);
  assert.equal(call.stderr, `quern: 127.0.0.1:${port} did not answer within 1 s; is it a mesh's gRPC address?\n`);
});

type Run = (args: string[], input?: string) => ReturnType<typeof quern>;

async function chats(run: Run, mesh: Mesh): Promise<void> {
  const options = ['chat', '--max-tokens', '8', '--temperature', '0'];
  const once = await run([...options, '--quiet', 'Hello']);
  assert.equal(once.code, 0, once.stderr);
  const answer = once.stdout;
  assert.ok(answer.trim().length > 0);

  const script = ['Hello', '/foo', '/help', '/clear', 'Hello', '/exit', 'never sent'];
  const { code, stdout, stderr } = await run(options, `${script.join('\n')}\n`);
  assert.equal(code, 0, stderr);
  assert.equal(
    stdout,
    answer + answer,
    'after /clear the same question has the same answer, and nothing else was sent',
  );
  const [greeting] = stderr.split('\n');
  assert.match(greeting ?? '', /^quern-mini at 127\.0\.0\.1:\d+\. .*\/help.*\/exit or Ctrl-D/);
  assert.ok(greeting?.includes(mesh.grpc));
  assert.match(stderr, /^no command "\/foo" \(\/help lists all\)$/m);
  assert.match(stderr, /^\/clear {2}forget/m);
  assert.equal(stderr.match(/tokens in \d+ ms/g)?.length, 2);

  const unknown = await run(['chat', '--model', 'gpt'], 'Hello\n');
  assert.equal(unknown.code, 1);
  assert.equal(unknown.stderr, 'quern: no model "gpt" here; served: "quern-mini"\n');
}

/** Names of vLLM's serving benchmark. */
const VLLM_FIELDS = [
  ...['duration', 'completed', 'total_input_tokens', 'total_output_tokens', 'request_throughput', 'request_goodput'],
  ...['output_throughput', 'total_token_throughput', 'max_concurrency'],
  ...['ttft', 'tpot', 'itl', 'e2el'].flatMap((name) =>
    ['mean', 'median', 'std', 'p99'].map((statistic) => `${statistic}_${name}_ms`),
  ),
];

async function benches(run: Run): Promise<void> {
  // No --http: it is that of the mesh whose gRPC address is given.
  const options = ['--scenario', 'qa', '--requests', '3', '--concurrency', '2', '--transport', 'both', '--json'];
  const { code, stdout, stderr } = await run(['bench', ...options]);
  assert.equal(code, 0, stderr);
  const reports = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number | string>);
  assert.deepEqual(
    reports.map(({ transport }) => String(transport).split(' ')[0]),
    ['grpc', 'http'],
  );
  for (const report of reports) {
    for (const field of VLLM_FIELDS) assert.equal(typeof report[field], 'number', field);
    assert.equal(report.completed, 3);
    assert.equal(report.failed, 0);
    assert.equal(report.total_output_tokens, 3 * 64);
    assert.ok(Number(report.mean_ttft_ms) > 0 && Number(report.mean_ttft_ms) <= Number(report.mean_e2el_ms));
  }
  assert.equal(reports[0]?.total_input_tokens, reports[1]?.total_input_tokens);

  const nobody = await run([
    'bench',
    '--scenario',
    'fim',
    '--requests',
    '1',
    '--transport',
    'http',
    '--http',
    '127.0.0.1:1',
  ]);
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /first failure: nothing answers at http:\/\/127\.0\.0\.1:1/);
  const scenario = await run(['bench', '--scenario', 'nope']);
  assert.equal(scenario.code, 2);
  assert.match(scenario.stderr, /^quern: --scenario: expected one of qa, continuation, multi-turn, fim, got "nope"/);
}

async function calls(run: Run, mesh: Mesh): Promise<void> {
  const request = { text: 'def add(a, b):', sampling: { max_tokens: 4, temperature: 0 } };
  const unary = await run(['call', 'CompletionService/Complete', JSON.stringify(request)]);
  assert.equal(unary.code, 0, unary.stderr);
  const [choice] = (JSON.parse(unary.stdout) as { choices: { text: string }[] }).choices;
  const streamed = await run(['call', 'CompletionService/StreamComplete', '-'], JSON.stringify({ request }));
  assert.equal(streamed.code, 0, streamed.stderr);
  const events = streamed.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { delta?: { text: string } });
  assert.equal(events.map(({ delta }) => delta?.text ?? '').join(''), choice?.text);

  const typo = await run(['call', 'CompletionService/Complete', '{"promt": "x"}']);
  assert.equal(typo.code, 2);
  assert.match(
    typo.stderr,
    /^quern: CompletionService\/Complete has no field "promt"; did you mean "text" or "token_ids"\?/,
  );

  const engine = await run(['call', 'EngineService/Describe']);
  assert.equal(engine.code, 1);
  assert.ok(engine.stderr.startsWith(`quern: EngineService is not served at ${mesh.grpc}; the engine`), engine.stderr);
  const suggested = /npx quern (call --address unix:\/\/\S+ EngineService\/Describe)/.exec(engine.stderr)?.[1];
  assert.ok(suggested !== undefined, engine.stderr);
  const described = await run(suggested.split(' '));
  assert.equal(described.code, 0, described.stderr);
  assert.match(described.stdout, /quern-mini/);

  const http = await run(['models', '--gateway', mesh.http]);
  assert.equal(http.code, 1);
  assert.ok(http.stderr.includes(`the mesh's gRPC address is ${mesh.grpc}`), http.stderr);
  const host = await run(['complete', '--gateway', 'no-such-host.invalid:1', 'x']);
  assert.equal(host.code, 1);
  assert.match(host.stderr, /^quern: no host is called "no-such-host\.invalid"/);
}

async function infills(t: TestContext, run: Run): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'quern-cli-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'add.py');
  writeFileSync(file, 'def add(a, b):\n    return\n');
  const shown = await run(['infill', '--single-line', '--max-tokens', '8', '--show', `${file}:2`]);
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /^def add\(a, b\):\n {4}return/);
  const outside = await run(['infill', `${file}:2:99`]);
  assert.equal(outside.code, 2);
  assert.equal(outside.stderr, `quern: ${file}:2: expected a column from 1 to 11, got 99\n`);
}

async function looks(run: Run, mesh: Mesh): Promise<void> {
  const table = await run(['models']);
  assert.equal(table.code, 0, table.stderr);
  assert.match(table.stdout, /^quern-mini +ready +\d+ +[\d.]+ M +\w+ +cpu \w+ +chat, tools \(hermes\), infill/m);

  const doctor = await run(['doctor', '--json']);
  assert.equal(doctor.code, 0, doctor.stdout);
  const findings = JSON.parse(doctor.stdout) as { name: string; verdict: string; found: string }[];
  const addon = findings.find(({ name }) => name === 'engine addon');
  assert.equal(addon?.verdict, 'ok');
  const running = findings.find(({ name }) => name === 'running mesh');
  assert.ok(running?.found.includes(`gRPC ${mesh.grpc}, HTTP ${mesh.http}`), running?.found);
  // The rule of doctor is the engine's: what it says will run is what runs.
  const isa = /cpu (\w+)/.exec(table.stdout)?.[1] ?? '';
  const kernels = {
    portable: /: portable kernels/,
    avx2: /: AVX2 kernels/,
    avx512: /: AVX-512 kernels without BF16$/,
    avx512bf16: /: AVX-512 kernels with BF16$/,
  }[isa];
  assert.ok(kernels !== undefined, isa);
  assert.match(findings.find(({ name }) => name === 'cpu')?.found ?? '', kernels);
  const text = await run(['doctor']);
  assert.match(text.stdout, /\n\nNothing is missing\./);

  const version = await run(['--version']);
  assert.match(version.stdout, /^quern \d+\.\d+\.\d+\n$/);
  assert.equal((await run(['-V'])).stdout, version.stdout);
  const command = await run(['modles']);
  assert.equal(command.code, 2);
  assert.match(command.stderr, /^quern: no command "modles"; expected one of .*; did you mean models\?\n$/);
}

async function evaluates(run: Run): Promise<void> {
  const { code, stdout, stderr } = await run([
    'eval',
    'infill',
    '--holes',
    '6',
    '--before',
    '20',
    '--after',
    '5',
    '--json',
  ]);
  assert.equal(code, 0, stderr);
  type Figures = { group: string; answered: number; metrics: { edit_similarity: { value: number } } };
  const told = JSON.parse(stdout) as { model: Record<string, string>; figures: Figures[] };
  assert.equal(told.model.name, 'quern-mini');
  assert.match(`${told.model.hash} ${told.model.vocabulary}`, /^[0-9a-f]{32,} [0-9a-f]{64}$/);
  const answered = told.figures.map((figures) => [figures.group, figures.answered]);
  assert.deepEqual(answered, [
    ['javascript', 2],
    ['python', 2],
    ['typescript', 2],
    ['all', 6],
  ]);
  const similarity = told.figures.at(-1)?.metrics.edit_similarity.value ?? 0;
  assert(similarity > 0 && similarity <= 1, String(similarity));
}
