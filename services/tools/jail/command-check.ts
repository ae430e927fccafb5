// What a command must be before anything is made for it.
import { lstatSync, statSync } from 'node:fs';
import { isAbsolute, normalize } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { WORK } from './launch-options.ts';
import {
  ARGUMENT_MAX_BYTES,
  ARGUMENTS_MAX_BYTES,
  BINDS_MAX_COUNT,
  ENV_MAX_COUNT,
  PROTECTED_MAX_COUNT,
  STDIN_MAX_BYTES,
} from './limits.ts';
import type { SandboxCommand, SandboxLimits } from './sandbox.ts';

/** Places that the sandbox makes itself; nothing may be bound over them ... */
const OWN_PLACES = ['/', '/proc', '/dev', '/etc', '/tmp', '/usr', '/bin', '/sbin', '/lib', '/lib64', WORK];
/** ... nor into these: in a workspace, a link could lead the mount elsewhere. */
const OWN_FOLDERS = ['/proc', '/dev', '/etc', WORK];

function refuse(field: string, description: string): never {
  throw new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

function checkText(field: string, text: string): number {
  if (text.includes('\0')) refuse(field, 'expected text without NUL');
  const bytes = Buffer.byteLength(text);
  if (bytes > ARGUMENT_MAX_BYTES) refuse(field, `expected at most ${ARGUMENT_MAX_BYTES} bytes, got ${bytes}`);
  return bytes;
}

function checkAbsolute(field: string, path: string): void {
  checkText(field, path);
  if (!isAbsolute(path) || normalize(path) !== path) {
    refuse(field, `expected an absolute path without "." and "..", got "${path.slice(0, 200)}"`);
  }
}

const LIMIT_RANGES: Readonly<Record<keyof SandboxLimits, readonly [number, number]>> = {
  wallMs: [1, 86_400_000],
  cpuMs: [1, 86_400_000],
  memoryBytes: [4 * 1024 ** 2, 2 ** 50],
  pids: [1, 65_536],
  openFiles: [8, 1_048_576],
  fileBytes: [0, 2 ** 50],
  outputBytes: [0, 2 ** 40],
  tmpBytes: [4096, 2 ** 50],
};

function checkLimits(limits: SandboxLimits): void {
  for (const [name, [least, most]] of Object.entries(LIMIT_RANGES)) {
    const value = limits[name as keyof SandboxLimits];
    if (!Number.isSafeInteger(value) || value < least || value > most) {
      refuse(`limits.${name}`, `expected a whole number ${least}..${most}, got ${value}`);
    }
  }
}

function checkBinds({ binds }: SandboxCommand): void {
  if (binds.length > BINDS_MAX_COUNT) refuse('binds', `expected at most ${BINDS_MAX_COUNT}, got ${binds.length}`);
  for (const { from, to } of binds) {
    checkAbsolute('binds.from', from);
    checkAbsolute('binds.to', to);
    if (OWN_PLACES.includes(to) || OWN_FOLDERS.some((folder) => to.startsWith(`${folder}/`)))
      refuse('binds.to', `${to} is made by the sandbox`);
    const found = statSync(from, { throwIfNoEntry: false });
    // A socket can be connected to even where it is read-only.
    if (!found?.isFile() && !found?.isDirectory()) refuse('binds.from', `expected a file or folder at ${from}`);
  }
}

function checkWorkspace({ workspace }: SandboxCommand): void {
  if (workspace === null) return;
  checkAbsolute('workspace.path', workspace.path);
  if (!lstatSync(workspace.path, { throwIfNoEntry: false })?.isDirectory()) {
    refuse('workspace.path', `expected a folder at ${workspace.path}`);
  }
  const count = workspace.protected.length;
  if (count > PROTECTED_MAX_COUNT)
    refuse('workspace.protected', `expected at most ${PROTECTED_MAX_COUNT}, got ${count}`);
  for (const path of workspace.protected) {
    checkText('workspace.protected', path);
    if (path === '' || isAbsolute(path) || normalize(path) !== path || path.split('/').includes('..') || path === '.') {
      refuse('workspace.protected', `expected a path below the workspace, got "${path.slice(0, 200)}"`);
    }
  }
}

/** Throws INVALID_ARGUMENT naming the field that is wrong. */
export function checkCommand(command: SandboxCommand): void {
  const { argv, env, stdin } = command;
  if (argv.length === 0) refuse('argv', 'expected a program, got nothing');
  checkAbsolute('argv[0]', argv[0]!);
  let bytes = 0;
  for (const text of argv) bytes += checkText('argv', text) + 1;
  const variables = Object.entries(env);
  if (variables.length > ENV_MAX_COUNT) refuse('env', `expected at most ${ENV_MAX_COUNT}, got ${variables.length}`);
  for (const [name, value] of variables) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) refuse('env', `"${name.slice(0, 80)}" is no name of a variable`);
    bytes += checkText(`env.${name}`, value) + name.length + 2;
  }
  if (bytes > ARGUMENTS_MAX_BYTES) refuse('argv', `expected at most ${ARGUMENTS_MAX_BYTES} bytes, got ${bytes}`);
  if (stdin !== null && stdin.length > STDIN_MAX_BYTES) {
    refuse('stdin', `expected at most ${STDIN_MAX_BYTES} bytes, got ${stdin.length}`);
  }
  checkLimits(command.limits);
  checkBinds(command);
  checkWorkspace(command);
}
