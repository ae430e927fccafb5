/** `quern-lsp --stdio`: the language server on standard input and output. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import {
  createConnection,
  ProposedFeatures,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-languageserver/node';
import { readCommandLine } from './command-line.ts';
import { readConfig, targetFrom } from './config.ts';
import { openFileSurroundings } from './file-surroundings.ts';
import { openGatewaySource } from './rpc/gateway-source.ts';
import { startServer } from './server.ts';

const HELP = `usage: quern-lsp --stdio | --help | --version

Code completion by a Quern mesh for editors that speak LSP 3.18 (textDocument/inlineCompletion) or older.
QUERN_GATEWAY, QUERN_API_KEY and QUERN_GATEWAY_CA_FILE say where the mesh is, as for the quern command; the editor's
settings may say so too. docs/editors.md tells more.
`;

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function main(args: string[]): number | null {
  const wish = readCommandLine(args);
  if (wish.kind === 'wrong') {
    process.stderr.write(`quern-lsp: ${wish.message}\n${HELP}`);
    return 2;
  }
  if (wish.kind !== 'serve') {
    process.stdout.write(wish.kind === 'help' ? HELP : `quern-lsp ${version()}\n`);
    return 0;
  }
  const base = readConfig(process.env);
  let kept = base;
  const connection = createConnection(
    ProposedFeatures.all,
    new StreamMessageReader(process.stdin),
    new StreamMessageWriter(process.stdout),
  );
  startServer({
    connection,
    version: version(),
    openSurroundings: openFileSurroundings,
    openSource: (settings) => {
      const { target, problems } = targetFrom(settings, base, kept);
      kept = target;
      return { source: openGatewaySource(target), problems, target: JSON.stringify(target) };
    },
  });
  return null;
}

// The protocol says exit, or the editor is gone: nothing is left to do.
process.stdin.on('close', () => process.exit(0));
process.stdout.on('error', () => process.exit(0));

try {
  const code = main(process.argv.slice(2));
  if (code !== null) process.exit(code);
} catch (error) {
  process.stderr.write(`quern-lsp: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
