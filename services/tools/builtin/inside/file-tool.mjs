// The file tools' own program. It runs inside the sandbox, in the workspace, as `node -e`, reads one request (JSON) from stdin,
// writes its answer as text to stdout, or one sentence to stderr with exit code 2. Plain JavaScript without imports, so that it
// starts at once and needs nothing beside Node. It follows no link, opens nothing but files and folders, and waits for nothing:
// the sandbox protects the host; this protects the answer.
const fs = process.getBuiltinModule?.('node:fs') ?? require('node:fs');
const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;

class Refusal extends Error {}

const REASONS = {
  ENOENT: 'does not exist; list_dir shows what is there',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'is a folder',
  ELOOP: 'is a link, which is not followed',
  EACCES: 'may not be accessed',
  EPERM: 'may not be accessed',
  EROFS: 'is read-only here',
  EEXIST: 'exists already',
  ENOSPC: 'does not fit: the disk is full',
  EFBIG: 'would be too large',
  ENXIO: 'is not a file',
  ENAMETOOLONG: 'has a name that is too long',
};

function refuse(path, problem) {
  throw new Refusal(`${JSON.stringify(path)} ${problem}`);
}

/** Runs one step; what the system refuses is told in words. */
function at(path, run) {
  try {
    return run();
  } catch (error) {
    if (error instanceof Refusal || !error.code) throw error;
    return refuse(path, REASONS[error.code] ?? `cannot be used (${error.code})`);
  }
}

const kindOf = (stat) => {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'folder';
  if (stat.isSymbolicLink()) return 'link';
  if (stat.isFIFO()) return 'FIFO';
  return stat.isSocket() ? 'socket' : 'device';
};

/** Every folder on the way is one, and no link. `missing`: what is done about one that is not there: "refuse", "make" or "leave". */
function checkWay(path, missing) {
  const names = path.split('/').slice(0, -1);
  for (let i = 1; i <= names.length; i++) {
    const way = names.slice(0, i).join('/');
    const stat = fs.lstatSync(way, { throwIfNoEntry: false });
    if (!stat && missing === 'leave') return;
    if (!stat && missing === 'make') at(way, () => fs.mkdirSync(way));
    else if (!stat) refuse(path, REASONS.ENOENT);
    else if (!stat.isDirectory()) refuse(way, `is a ${kindOf(stat)}, not a folder`);
  }
}

/** Opens a regular file without waiting for anything. */
function openFile(path) {
  checkWay(path, 'refuse');
  const file = at(path, () => fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  const stat = fs.fstatSync(file);
  if (stat.isFile()) return { file, stat };
  fs.closeSync(file);
  return refuse(path, `is a ${kindOf(stat)}, not a file`);
}

/** At most `length` bytes from `offset`. */
function readBytes(file, offset, length) {
  const data = Buffer.alloc(length);
  let size = 0;
  while (size < length) {
    const count = fs.readSync(file, data, size, length - size, offset + size);
    if (count === 0) break;
    size += count;
  }
  return data.subarray(0, size);
}

function wholeFile(path, bytesMax) {
  const { file, stat } = openFile(path);
  try {
    if (stat.size > bytesMax) refuse(path, `has ${stat.size} bytes; expected at most ${bytesMax}`);
    const data = readBytes(file, 0, bytesMax + 1);
    if (data.length > bytesMax) refuse(path, `has more than ${bytesMax} bytes`);
    return { data, mode: stat.mode & 0o777 };
  } finally {
    fs.closeSync(file);
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Null: not text. */
function textOf(data) {
  if (data.includes(0)) return null;
  try {
    return utf8.decode(data);
  } catch {
    return null;
  }
}

/** Cuts what is left of a character at the ends of a part of a file. */
function wholeCharacters(data) {
  let begin = 0;
  while (begin < Math.min(4, data.length) && (data[begin] & 0xc0) === 0x80) begin++;
  for (let back = 1; back <= Math.min(4, data.length - begin); back++) {
    const byte = data[data.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return data.subarray(begin, needs > back ? data.length - back : data.length);
  }
  return data.subarray(begin);
}

function readFile({ path, offset, bytes, encoding }) {
  const { file, stat } = openFile(path);
  const data = readBytes(file, offset, bytes);
  fs.closeSync(file);
  const isPart = offset > 0 || offset + data.length < stat.size;
  const part = isPart && encoding !== 'base64' ? wholeCharacters(data) : data;
  const end = offset + part.byteOffset - data.byteOffset + part.length;
  const rest = stat.size - end;
  const note = rest > 0 ? `\n[${rest} more bytes of ${stat.size}; go on with offset ${end}]\n` : '';
  if (encoding === 'base64') return data.toString('base64') + note;
  const text = textOf(part);
  if (text === null) refuse(path, `is not text (${stat.size} bytes); use encoding "base64"`);
  return text + note;
}

/** Names that cannot be text are shown with their bytes escaped, and cannot be used. */
function* entriesOf(path) {
  const stream = at(path, () => fs.opendirSync(path === '' ? '.' : path));
  try {
    for (let entry = stream.readSync(); entry; entry = stream.readSync()) yield entry.name;
  } finally {
    stream.closeSync();
  }
}

/** Visits everything below a folder in an order of its own. False from `visit`: no further. */
function walk(path, depth, visit) {
  const names = [];
  for (const name of entriesOf(path)) {
    names.push(name);
    if (names.length > 100_000) break;
  }
  for (const name of names.sort()) {
    const inner = path === '' ? name : `${path}/${name}`;
    const stat = fs.lstatSync(inner, { throwIfNoEntry: false });
    if (!stat) continue;
    if (visit(inner, stat) === false) return false;
    if (stat.isDirectory() && depth > 1 && walk(inner, depth - 1, visit) === false) return false;
  }
  return true;
}

function checkFolder(path) {
  if (path === '') return;
  checkWay(path, 'refuse');
  const stat = at(path, () => fs.lstatSync(path));
  if (!stat.isDirectory()) refuse(path, `is a ${kindOf(stat)}, not a folder`);
}

function listDir({ path, depth, entries }) {
  checkFolder(path);
  const lines = [];
  const whole = walk(path, depth, (inner, stat) => {
    if (lines.length >= entries) return false;
    const name = path === '' ? inner : inner.slice(path.length + 1);
    const kind = kindOf(stat);
    const shown = /[\p{Cc}\ufffd]/u.test(name) ? JSON.stringify(name) : name;
    lines.push(kind === 'folder' ? `${shown}/` : kind === 'file' ? `${shown}\t${stat.size}` : `${shown}\t(${kind})`);
    return true;
  });
  if (!whole) lines.push(`[more than ${entries} entries; list a folder below, or with less depth]`);
  return lines.length === 0 ? '[empty]\n' : `${lines.join('\n')}\n`;
}

/** "*" and "?" within a name, "**" over folders. */
function globPattern(glob) {
  const source = glob
    .split(/(\*\*\/|\*\*|\*|\?)/)
    .map((part) => {
      if (part === '**/') return '(?:[^/]+/)*';
      if (part === '**') return '.*';
      if (part === '*') return '[^/]*';
      return part === '?' ? '[^/]' : part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    })
    .join('');
  return new RegExp(glob.includes('/') ? `^${source}$` : `(?:^|/)${source}$`, 'su');
}

const SHOWN_LINE_CHARS_MAX = 400;

function search({ pattern, regex, ignore_case: ignoreCase, path, glob, matches, file_bytes: fileBytes }) {
  const flags = ignoreCase ? 'iu' : 'u';
  const expression = regex
    ? new RegExp(pattern, flags)
    : new RegExp(pattern.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), flags);
  const wanted = glob === null ? null : globPattern(glob);
  const lines = [];
  let passed = 0;
  const searchFile = (inner) => {
    const { file, stat } = openFile(inner);
    const data = stat.size <= fileBytes ? readBytes(file, 0, stat.size) : null;
    fs.closeSync(file);
    const text = data && textOf(data);
    if (text === null || text === undefined) {
      passed++;
      return true;
    }
    for (const [i, line] of text.split('\n').entries()) {
      if (!expression.test(line)) continue;
      if (lines.length >= matches) return false;
      lines.push(`${inner}:${i + 1}:${line.slice(0, SHOWN_LINE_CHARS_MAX)}`);
    }
    return true;
  };
  const start = path === '' ? null : fs.lstatSync(path, { throwIfNoEntry: false });
  let whole = true;
  if (start?.isFile()) whole = searchFile(path);
  else {
    checkFolder(path);
    whole = walk(path, 64, (inner, stat) => {
      if (!stat.isFile() || inner.startsWith('.git/') || inner.includes('/.git/')) return true;
      return wanted?.test(inner) === false || searchFile(inner);
    });
  }
  if (!whole) lines.push(`[more than ${matches} matches; narrow the pattern, path or glob]`);
  if (passed > 0) lines.push(`[${passed} files that are not text or too large were passed over]`);
  return lines.length === 0 ? '[no matches]\n' : `${lines.join('\n')}\n`;
}

let temporaries = 0;
/** Begin of this call's temporary names. Other calls write in the same folder, and process numbers are equal in every sandbox. */
let temporaryName = '';

/** Writes beside the place where it belongs; the name comes later. */
function writeTemporary(path, data, mode) {
  const folder = path.includes('/') ? `${path.slice(0, path.lastIndexOf('/'))}/` : '';
  const temporary = `${folder}${temporaryName}-${++temporaries}`;
  at(path, () => {
    const file = fs.openSync(temporary, 'wx', mode);
    try {
      fs.writeFileSync(file, data);
    } catch (error) {
      fs.rmSync(temporary, { force: true });
      throw error;
    } finally {
      fs.closeSync(file);
    }
  });
  return temporary;
}

/** What is there now; null: nothing. Anything but a file is refused. */
function present(path) {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  if (stat && !stat.isFile()) refuse(path, `is a ${kindOf(stat)}, not a file`);
  return stat ?? null;
}

function writeFile({ path, content, encoding, mode }) {
  checkWay(path, 'make');
  const before = present(path);
  if (mode === 'create' && before) refuse(path, 'exists already; use mode "overwrite"');
  let data = Buffer.from(content, encoding);
  if (mode === 'append' && before) data = Buffer.concat([wholeFile(path, 64 * 1024 * 1024).data, data]);
  const temporary = writeTemporary(path, data, before ? before.mode & 0o777 : 0o644);
  try {
    at(path, () => fs.renameSync(temporary, path));
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
  return `${before ? 'changed' : 'created'} ${path}, ${data.length} bytes\n`;
}

/** Where the old lines of a hunk stand: at the place it names, else at the only other one. */
function findHunk(path, lines, hunk, shift) {
  const { old, line } = hunk;
  const fits = (begin) =>
    begin >= 0 && begin + old.length <= lines.length && old.every((one, i) => lines[begin + i] === one);
  const named = (old.length === 0 ? line : line - 1) + shift;
  if (fits(named)) return named;
  const places = [];
  for (let begin = 0; old.length > 0 && begin + old.length <= lines.length && places.length < 2; begin++) {
    if (fits(begin)) places.push(begin);
  }
  if (places.length === 1) return places[0];
  const why = places.length === 0 ? 'its old lines are not in the file' : 'its old lines stand in several places';
  return refuse(path, `the hunk at line ${line} does not fit: ${why}; read the file again`);
}

/** The new text. Lines keep their ends, so that a file without one at its end, or with CR, stays as it is. */
function patched(path, text, hunks) {
  const lines = text === '' ? [] : text.split('\n');
  const endsWithNewline = lines.at(-1) === '';
  if (endsWithNewline) lines.pop();
  let noNewline = !endsWithNewline && lines.length > 0;
  let shift = 0;
  let last = 0;
  for (const hunk of hunks) {
    const begin = findHunk(path, lines, hunk, shift);
    if (begin < last) refuse(path, `the hunk at line ${hunk.line} overlaps the one before`);
    const atEnd = begin + hunk.old.length === lines.length;
    const marked = hunk.oldNoNewline || hunk.newNoNewline;
    if (marked && (!atEnd || (hunk.oldNoNewline && !noNewline))) {
      refuse(path, 'ends otherwise than the patch says ("No newline at end of file")');
    }
    lines.splice(begin, hunk.old.length, ...hunk.new);
    if (marked) noNewline = hunk.newNoNewline; // a diff without the mark leaves the end as it was
    shift = begin - (hunk.old.length === 0 ? hunk.line : hunk.line - 1) + hunk.new.length - hunk.old.length;
    last = begin + hunk.new.length;
  }
  return lines.length === 0 ? '' : lines.join('\n') + (noNewline ? '' : '\n');
}

/** What each file becomes; nothing is written yet. */
function planPatch({ files, file_bytes: bytesMax }) {
  return files.map(({ path, kind, hunks }) => {
    if (kind === 'create') {
      checkWay(path, 'leave'); // missing folders are made when all else is known to fit
      if (present(path)) refuse(path, 'exists already, and the patch creates it');
      return { path, kind, data: Buffer.from(patched(path, '', hunks)), mode: 0o644 };
    }
    const { data, mode } = wholeFile(path, bytesMax);
    const text = textOf(data);
    if (text === null) refuse(path, 'is not text');
    const result = patched(path, text, hunks);
    if (Buffer.byteLength(result) > bytesMax) refuse(path, `would have more than ${bytesMax} bytes`);
    if (kind === 'delete' && result !== '') refuse(path, 'is deleted by the patch, which does not have all its lines');
    return { path, kind, data: Buffer.from(result), mode, old: data };
  });
}

/** Puts back what was changed before a step failed. */
function undoAll(done) {
  for (const { path, kind, old, mode } of done.reverse()) {
    if (kind === 'create') fs.rmSync(path, { force: true });
    else fs.renameSync(writeTemporary(path, old, mode), path);
  }
}

/** All or nothing: every new content is on the disk before the first file changes. */
function applyPatch(request) {
  const plan = planPatch(request);
  const done = [];
  const temporaries = [];
  try {
    for (const step of plan) {
      if (step.kind === 'delete') continue;
      checkWay(step.path, 'make');
      step.temporary = writeTemporary(step.path, step.data, step.mode);
      temporaries.push(step.temporary);
    }
    for (const step of plan) {
      at(step.path, () =>
        step.kind === 'delete' ? fs.unlinkSync(step.path) : fs.renameSync(step.temporary, step.path),
      );
      done.push(step);
    }
  } catch (error) {
    for (const temporary of temporaries) fs.rmSync(temporary, { force: true });
    undoAll(done);
    throw error;
  }
  const words = { create: 'created', modify: 'changed', delete: 'deleted' };
  return plan.map(({ path, kind }) => `${words[kind]} ${path}\n`).join('');
}

const OPERATIONS = { read: readFile, write: writeFile, list: listDir, search, patch: applyPatch };

function main() {
  const request = JSON.parse(fs.readFileSync(0, 'utf8'));
  temporaryName = request.temporary;
  try {
    const answer = Buffer.from(OPERATIONS[request.op](request));
    for (let rest = answer; rest.length > 0; ) rest = rest.subarray(fs.writeSync(1, rest));
  } catch (error) {
    if (!(error instanceof Refusal) && !(error instanceof SyntaxError)) throw error;
    fs.writeSync(2, `${error.message}\n`);
    process.exitCode = 2;
  }
}

main();
