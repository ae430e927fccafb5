// read_file, write_file, list_dir, search, apply_patch: one small program inside the sandbox does the work, with the request on its
// stdin. It is run by Node because that is there wherever this service runs; it is passed as an argument, so that nothing of
// Quern's installation is mounted.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { sha256Hex } from '#kit/secure.ts';
import type { CallContext, JsonObject, JsonValue, PreparedCall, Tool } from '../tool.ts';
import {
  LIST_ENTRIES_MAX,
  PATCH_FILE_BYTES_MAX,
  PATH_CHARS_MAX,
  READ_BYTES_DEFAULT,
  READ_BYTES_MAX,
  SEARCH_FILE_BYTES_MAX,
  SEARCH_MATCHES_DEFAULT,
  SEARCH_MATCHES_MAX,
} from '../tool-limits.ts';
import { TEMPORARY_PREFIX, workspaceFile, workspacePath, writableFile } from '../workspace-path.ts';
import {
  answered,
  type BuiltinSpec,
  builtinTool,
  failed,
  invalidArgument,
  numberArgument,
  type Programs,
  READS,
  textArgument,
} from './builtin-tool.ts';
import { parseUnifiedDiff } from './unified-diff.ts';

const MIB = 1024 * 1024;
const PROGRAM = readFileSync(new URL('./inside/file-tool.mjs', import.meta.url), 'utf8');
/** Exit code of a refusal that is told on stderr. */
const REFUSED = 2;

const LIMITS = { wallMs: 10_000, cpuMs: 10_000, memoryBytes: 512 * MIB, pids: 64, outputBytes: 4 * MIB };
const PATH: JsonObject = { type: 'string', maxLength: PATH_CHARS_MAX, description: 'Path below the workspace' };

function runs(node: string, request: JsonObject, call: CallContext, writable: boolean): PreparedCall {
  const temporary = `${TEMPORARY_PREFIX}${randomBytes(12).toString('hex')}`; // calls may write in one folder at once
  return {
    kind: 'sandbox',
    command: {
      argv: [node, '--max-old-space-size=256', '-e', PROGRAM],
      env: {},
      stdin: Buffer.from(JSON.stringify({ ...request, temporary })),
      workspace: { ...call.workspace, writable },
      binds: [],
      network: 'none',
    },
    answer(end, { stdout, stderr }) {
      if (end.exitCode === 0) return answered(stdout);
      if (end.exitCode === REFUSED) return failed(stderr.trim(), stderr);
      return failed(`the file tool failed (exit code ${end.exitCode ?? 'none'})`, stderr);
    },
  };
}

type FileSpec = Pick<
  BuiltinSpec,
  'name' | 'description' | 'properties' | 'required' | 'annotations' | 'taint' | 'modelOutputBytes'
> & {
  readonly writes: boolean;
  request(args: JsonObject, call: CallContext): { op: string; [key: string]: JsonValue };
};

function fileTool({ writes, request, ...spec }: FileSpec, node: string | null): Tool {
  return builtinTool({
    ...spec,
    limits: LIMITS,
    runs: { program: sha256Hex(PROGRAM), node, writes },
    unavailable: () => (node === null ? 'there is no Node in the toolchain; install it there' : null),
    async prepare(args, call) {
      return runs(node ?? '', request(args, call), call, writes);
    },
  });
}

const READ: FileSpec = {
  name: 'read_file',
  description: 'Reads a text file of the workspace, or a part of it.',
  properties: {
    path: PATH,
    offset: { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'First byte; default 0' },
    bytes: {
      type: 'integer',
      minimum: 1,
      maximum: READ_BYTES_MAX,
      description: `Bytes to read; default ${READ_BYTES_DEFAULT}`,
    },
    encoding: { enum: ['utf8', 'base64'], description: 'base64 for what is not text' },
  },
  required: ['path'],
  annotations: READS,
  taint: { hasPrivate: true },
  modelOutputBytes: READ_BYTES_MAX,
  writes: false,
  request: (args) => ({
    op: 'read',
    path: workspaceFile(textArgument(args, 'path', ''), 'arguments.path'),
    offset: numberArgument(args, 'offset', 0),
    bytes: numberArgument(args, 'bytes', READ_BYTES_DEFAULT),
    encoding: textArgument(args, 'encoding', 'utf8'),
  }),
};

const WRITE: FileSpec = {
  name: 'write_file',
  description: 'Writes a file of the workspace, whole or not at all. Missing folders are made.',
  properties: {
    path: PATH,
    content: { type: 'string' },
    encoding: { enum: ['utf8', 'base64'] },
    mode: {
      enum: ['create', 'overwrite', 'append'],
      description: 'create refuses a file that exists; default overwrite',
    },
  },
  required: ['path', 'content'],
  annotations: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  taint: {},
  writes: true,
  request(args, call) {
    const content = textArgument(args, 'content', '');
    const encoding = textArgument(args, 'encoding', 'utf8');
    if (encoding === 'base64' && Buffer.from(content, 'base64').toString('base64') !== content) {
      throw invalidArgument('content', 'expected base64 with padding and without line breaks');
    }
    const path = writableFile(textArgument(args, 'path', ''), 'arguments.path', call.workspace.protected);
    return { op: 'write', path, content, encoding, mode: textArgument(args, 'mode', 'overwrite') };
  },
};

const LIST: FileSpec = {
  name: 'list_dir',
  description: 'Lists a folder of the workspace: folders with "/", files with their size.',
  properties: {
    path: { ...PATH, description: 'Folder; default the workspace' },
    depth: { type: 'integer', minimum: 1, maximum: 32, description: 'Levels of folders; default 1' },
    entries: { type: 'integer', minimum: 1, maximum: LIST_ENTRIES_MAX, description: 'Default 1000' },
  },
  required: [],
  annotations: READS,
  taint: { hasPrivate: true },
  modelOutputBytes: MIB,
  writes: false,
  request: (args) => ({
    op: 'list',
    path: workspacePath(textArgument(args, 'path', ''), 'arguments.path'),
    depth: numberArgument(args, 'depth', 1),
    entries: numberArgument(args, 'entries', 1_000),
  }),
};

function checkExpression(pattern: string, flags: string): void {
  try {
    new RegExp(pattern, flags);
  } catch (error) {
    throw invalidArgument('pattern', (error as Error).message);
  }
}

const SEARCH: FileSpec = {
  name: 'search',
  description: 'Finds lines in the text files of the workspace, .git left out. Answers path:line:text.',
  properties: {
    pattern: {
      type: 'string',
      minLength: 1,
      maxLength: 1_000,
      description: 'Text, or with regex a regular expression (ECMAScript)',
    },
    regex: { type: 'boolean' },
    ignore_case: { type: 'boolean' },
    path: { ...PATH, description: 'File or folder; default the workspace' },
    glob: {
      type: 'string',
      minLength: 1,
      maxLength: 200,
      description: 'Only files that match, such as *.ts or src/**/*.py',
    },
    matches: {
      type: 'integer',
      minimum: 1,
      maximum: SEARCH_MATCHES_MAX,
      description: `Default ${SEARCH_MATCHES_DEFAULT}`,
    },
  },
  required: ['pattern'],
  annotations: READS,
  taint: { hasPrivate: true },
  modelOutputBytes: 512 * 1024,
  writes: false,
  request(args) {
    const pattern = textArgument(args, 'pattern', '');
    if (args.regex === true) checkExpression(pattern, 'u');
    const glob = textArgument(args, 'glob', '');
    return {
      op: 'search',
      pattern,
      regex: args.regex === true,
      ignore_case: args.ignore_case === true,
      path: workspacePath(textArgument(args, 'path', ''), 'arguments.path'),
      glob: glob === '' ? null : glob,
      matches: numberArgument(args, 'matches', SEARCH_MATCHES_DEFAULT),
      file_bytes: SEARCH_FILE_BYTES_MAX,
    };
  },
};

const PATCH: FileSpec = {
  name: 'apply_patch',
  description: 'Applies a unified diff (as of git diff) to text files of the workspace: all of it or nothing.',
  properties: { patch: { type: 'string', minLength: 1, description: 'Unified diff; context must match exactly' } },
  required: ['patch'],
  annotations: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  taint: {},
  writes: true,
  request(args, call) {
    const files = parseUnifiedDiff(textArgument(args, 'patch', ''), call.workspace.protected);
    return { op: 'patch', files: files as unknown as JsonValue, file_bytes: PATCH_FILE_BYTES_MAX };
  },
};

/** The five tools that read and change files. */
export function fileTools({ node }: Pick<Programs, 'node'>): Tool[] {
  return [READ, WRITE, LIST, SEARCH, PATCH].map((spec) => fileTool(spec, node));
}
