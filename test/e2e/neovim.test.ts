/** Neovim from the distribution, which knows no inline completion, completes by quern-lsp as its user would: keys are sent to it. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { eventually, startMesh as startFakes } from '../contract/gateway/fakes/mesh.ts';
import { bytesOf } from '../contract/gateway/fakes/mock-tokenizer.ts';
import { startMesh } from './mesh.ts';

const run = promisify(execFile);
const BIN = join(import.meta.dirname, '../../clients/lsp/bin.mjs');
/** What only a failure waits for. */
const LIMIT_MS = 60_000;
/** For one question to the model; the machine may be busy. */
const MENU_MS = 20_000;

/** What docs/editors.md tells users of Neovim before 0.12, with deadlines that a busy machine does not reach. */
const INIT = `
vim.o.swapfile = false
vim.o.completeopt = 'menuone,noinsert'
vim.api.nvim_create_autocmd('FileType', {
  pattern = { 'python', 'typescript' },
  callback = function(args)
    local id = vim.lsp.start_client({
      name = 'quern',
      cmd = vim.json.decode(vim.env.TEST_COMMAND),
      -- Without a word 0.7 does not say that it can be asked, though it can; nvim-lspconfig and newer ones do.
      capabilities = vim.tbl_deep_extend('force', vim.lsp.protocol.make_client_capabilities(), { workspace = { configuration = true } }),
      settings = vim.json.decode(vim.env.TEST_PULLED),
      root_dir = vim.fn.getcwd(),
      init_options = vim.tbl_extend('force', { multiLine = 'never', softDeadlineMs = 20000, hardDeadlineMs = 60000, warm = false },
        vim.json.decode(vim.env.TEST_SETTINGS)),
    })
    vim.lsp.buf_attach_client(args.buf, id)
    vim.bo[args.buf].omnifunc = 'v:lua.vim.lsp.omnifunc'
  end,
})
-- Asks without the menu and applies the item's own edit, as completion plug-ins do.
function _G.take_first()
  local answers = vim.lsp.buf_request_sync(0, 'textDocument/completion', vim.lsp.util.make_position_params(), ${LIMIT_MS})
  for _, answer in pairs(answers or {}) do
    local item = answer.result and answer.result.items[1]
    if item then vim.lsp.util.apply_text_edits({ item.textEdit }, vim.api.nvim_get_current_buf(), 'utf-16') end
    return item and item.textEdit.newText or ''
  end
  return 'no answer'
end
`;

type Neovim = {
  file: string;
  /** Keys in Neovim's notation, as if typed. */
  keys(keys: string): Promise<void>;
  /** A Lua expression's value. */
  lua(expression: string): Promise<string>;
  lines(): Promise<string[]>;
};

type Opening = { gateway: string; text: string; name?: string; settings?: Record<string, unknown>; pulled?: unknown };

async function openInNeovim(
  t: TestContext,
  { gateway, text, name = 'answer.py', settings = {}, pulled = { other: {} } }: Opening,
): Promise<Neovim> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-nvim-'));
  const file = join(folder, name);
  const socket = join(folder, 'nvim.sock');
  const init = join(folder, 'init.lua');
  writeFileSync(file, text);
  writeFileSync(init, INIT);
  const child = spawn('nvim', ['--clean', '--headless', '-u', init, '--listen', socket, file], {
    cwd: folder,
    env: {
      ...process.env,
      ...{ HOME: folder, XDG_STATE_HOME: folder, XDG_CACHE_HOME: folder, QUERN_GATEWAY: gateway },
      TEST_COMMAND: JSON.stringify([process.execPath, BIN, '--stdio']),
      TEST_SETTINGS: JSON.stringify(settings),
      TEST_PULLED: JSON.stringify(pulled),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    said += piece;
  });
  let failure: Error | null = null;
  child.once('error', (error) => {
    failure = error;
  });
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  t.after(async () => {
    child.kill('SIGTERM');
    await closed;
    rmSync(folder, { recursive: true, force: true });
  });
  const remote = async (flag: string, words: string): Promise<string> => {
    const { stdout, stderr } = await run('nvim', ['--clean', '--headless', '--server', socket, flag, words], {
      timeout: LIMIT_MS,
    });
    return stdout || stderr; // 0.7 prints a value on the error output
  };
  const lua = async (expression: string): Promise<string> =>
    (await remote('--remote-expr', `luaeval(${JSON.stringify(expression)})`)).trimEnd();
  const isReady = async (): Promise<boolean> => {
    if (failure) throw new Error(`Neovim does not start (${failure.message}): node scripts/bootstrap.mjs test`);
    if (child.exitCode !== null) throw new Error(`Neovim ended with ${child.exitCode}: ${said}`);
    return (await lua('#vim.lsp.buf_get_clients(0)').catch(() => '')) === '1';
  };
  await eventually(isReady, `Neovim has a language server; it said: ${said}`, LIMIT_MS);
  return {
    file,
    lua,
    keys: async (keys) => void (await remote('--remote-send', keys)),
    lines: async () => JSON.parse(await lua('vim.json.encode(vim.api.nvim_buf_get_lines(0, 0, -1, true))')) as string[],
  };
}

/** Keys are taken when Neovim comes to them. */
const inInsertMode = (neovim: Neovim): Promise<void> =>
  eventually(async () => (await neovim.lua('vim.fn.mode()')) === 'i', 'it is in insert mode', LIMIT_MS);

async function holds(neovim: Neovim, expected: string[]): Promise<void> {
  let lines: string[] = [];
  const isThere = async (): Promise<boolean> => {
    lines = await neovim.lines();
    return JSON.stringify(lines) === JSON.stringify(expected);
  };
  await eventually(isThere, 'the text is as expected', LIMIT_MS).catch(() => assert.deepEqual(lines, expected));
}

const menuIsOpen = (neovim: Neovim) => async (): Promise<boolean> => (await neovim.lua('vim.fn.pumvisible()')) === '1';

test('what is typed is completed through omnifunc, from a mesh as users start it', async (t) => {
  const mesh = await startMesh(t);
  const neovim = await openInNeovim(t, { gateway: mesh.grpc, text: 'def add(a, b):\n    \n\n\nprint(add(1, 2))\n' });
  await neovim.keys('jA    return a ');
  // What a sampled model says may be nothing, or nothing that is worth showing: then a user types on and asks again.
  let isOpen = false;
  for (const more of ['', '+ b ', '* a ', '- b ', '+ a ', '* b ']) {
    await neovim.keys(`${more}<C-x><C-o>`);
    isOpen = await eventually(menuIsOpen(neovim), 'the menu is open', MENU_MS).then(
      () => true,
      () => false,
    );
    if (isOpen) break;
  }
  assert(isOpen, 'the menu was open after one of six questions');
  await neovim.keys('<C-y><Esc>:w<CR>');
  await eventually(() => readFileSync(neovim.file, 'utf8').includes('return a '), 'it is written', LIMIT_MS);
  const written = readFileSync(neovim.file, 'utf8').split('\n');
  // What follows is the model's; that it is there, and only there, is ours.
  assert.match(written[1] ?? '', /^ {4,8}return a \S/);
  assert.deepEqual(written.toSpliced(1, 1), ['def add(a, b):', '', '', 'print(add(1, 2))', '']);
  const metrics = await (await fetch(`http://${mesh.http}/metrics`)).text();
  assert.match(metrics, /quern_gateway_requests_total\{[^}]*method="infill"/);
});

test('the item goes behind what is typed, also behind characters of several bytes', async (t) => {
  const mesh = await startFakes(t, { engine: { script: () => bytesOf('ntwort(42)') } });
  const neovim = await openInNeovim(t, { gateway: mesh.gateway.grpcAddress, text: 'x = "𝒳é"\n' });
  await neovim.keys('A + a<C-x><C-o>');
  await eventually(menuIsOpen(neovim), 'the menu is open', LIMIT_MS);
  await neovim.keys('<C-y><Esc>');
  await holds(neovim, ['x = "𝒳é" + antwort(42)']);
  const sent = Buffer.from((mesh.engine.requests[0]?.tokenIds ?? []).filter((id) => id < 256)).toString();
  assert(sent.includes('x = "𝒳é" + a'), sent);
});

test('an edit of several lines keeps the line ends of a file with CRLF', async (t) => {
  const mesh = await startFakes(t, { engine: { script: () => bytesOf('\n    total += x\n  print(total)') } });
  const text = 'def f(xs):\r\n  total = 0\r\n  for x in xs:\r\n\r\n\r\nf([])\r\n';
  const neovim = await openInNeovim(t, {
    ...{ gateway: mesh.gateway.grpcAddress, text },
    settings: { multiLine: 'always' },
  });
  await neovim.lua('vim.api.nvim_win_set_cursor(0, { 3, 14 })');
  await neovim.keys('A');
  await inInsertMode(neovim);
  const inserted = await neovim.lua('take_first()');
  await neovim.keys('<Esc>:w<CR>');
  await eventually(() => readFileSync(neovim.file, 'utf8') !== text, `it is written: ${inserted}`, LIMIT_MS);
  const written = readFileSync(neovim.file, 'utf8');
  assert.equal(written, text.replace('in xs:\r\n', 'in xs:\r\n    total += x\r\n  print(total)\r\n'));
});

test('what stands in settings.quern is asked for at the start, and goes before what the start gave', async (t) => {
  const mesh = await startFakes(t, { engine: { script: () => bytesOf('ntwort(42)') } });
  const neovim = await openInNeovim(t, {
    ...{ gateway: '127.0.0.1:1', text: 'x = a\n', settings: { maxTokens: 8 } },
    pulled: { quern: { gateway: mesh.gateway.grpcAddress, maxTokens: 16 } },
  });
  await neovim.keys('A');
  await inInsertMode(neovim);
  await eventually(async () => (await neovim.lua('take_first()')) !== '', 'the mesh of the settings answers', LIMIT_MS);
  assert.equal(mesh.engine.requests[0]?.sampling?.maxTokens, 16);
});

test('turned off, no request reaches the gateway: nobody even connects', async (t) => {
  let connections = 0;
  const gateway = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => gateway.close(resolve)));
  const { port } = gateway.address() as AddressInfo;
  const opening = { gateway: `127.0.0.1:${port}`, text: 'value = \n' };
  const off = await openInNeovim(t, { ...opening, settings: { enabled: false } });
  await off.keys('A1 + <C-x><C-o>');
  await holds(off, ['value = 1 + ']);
  assert.equal(await off.lua('take_first()'), '');
  assert.equal(connections, 0);
  const on = await openInNeovim(t, opening);
  await on.keys('A1 + ');
  await holds(on, ['value = 1 + ']);
  assert.equal(await on.lua('take_first()'), '');
  assert(connections > 0, 'turned on, the same keys do connect');
});
