/** Finds functions and their length by their braces: enough of a grammar for code that compiles and is formatted. */
import { isCpp, lineAt, type SourceFile, viewsOf } from './source.ts';

/** `lines` from the first of its head to its closing brace; `ownLines` without the lines inside nested functions. */
export type FoundFunction = { name: string; line: number; lines: number; ownLines: number };

type Kind = 'function' | 'scope' | 'value';
type Brace = { kind: Kind; name: string; headStart: number; parens: number; nestedLines: number };

/** The functions of a file: declarations, methods, arrow functions with a block, lambdas. Nested ones count too. */
export function findFunctions(file: SourceFile): FoundFunction[] {
  const { code } = viewsOf(file);
  const classify = isCpp(file.path) ? classifyCppHead : classifyTypeScriptHead;
  const found: FoundFunction[] = [];
  const open: Brace[] = [];
  let headStart = 0;
  let parens = 0;
  for (let at = 0; at < code.length; at++) {
    const char = code[at];
    if (char === '(') parens++;
    else if (char === ')') parens--;
    else if (char === ';' && parens === 0) headStart = at + 1;
    else if (char === '#' && isCpp(file.path)) {
      at = endOfDirective(code, at);
      if (parens === 0) headStart = at;
    } else if (char === '{') {
      const { kind, name } = classify(code.slice(headStart, at).trim(), parens);
      open.push({ kind, name, headStart, parens, nestedLines: 0 });
      if (kind !== 'value') headStart = at + 1;
      parens = 0;
    } else if (char === '}') {
      const brace = open.pop();
      if (!brace) continue;
      parens = brace.parens;
      if (brace.kind === 'value') headStart = brace.headStart;
      else headStart = at + 1;
      if (brace.kind === 'function') found.push(measure(code, brace, at));
      const outer = open.at(-1);
      if (outer) outer.nestedLines += brace.kind === 'function' ? found.at(-1)!.lines - 1 : brace.nestedLines;
    }
  }
  return found;
}

function endOfDirective(code: string, start: number): number {
  let end = code.indexOf('\n', start);
  while (end > 0 && code[end - 1] === '\\') end = code.indexOf('\n', end + 1);
  return end === -1 ? code.length : end;
}

function measure(code: string, brace: Brace, end: number): FoundFunction {
  const head = /\S/.exec(code.slice(brace.headStart));
  const line = lineAt(code, brace.headStart + (head?.index ?? 0));
  const lines = lineAt(code, end) - line + 1;
  return { name: brace.name, line, lines, ownLines: lines - brace.nestedLines };
}

const control = /^(?:else\s+)?(?:if|for|while|switch|catch|try|do|else|finally|case|default)\b/;

function classifyTypeScriptHead(head: string): { kind: Kind; name: string } {
  if (head.endsWith('=>')) {
    // A describe block is a chapter of tests, not a function that somebody has to keep in mind.
    if (/\b(?:describe|suite)(?:\.\w+)?\s*\([\s\S]*=>$/.test(head)) return { kind: 'scope', name: '' };
    const name = /([\w$]+)\s*(?::[^=]*)?=\s*(?:async\s*)?(?:<[\s\S]*>)?\s*(?:\([\s\S]*|[\w$]+\s*=>)$/.exec(head)?.[1];
    return { kind: 'function', name: name ?? 'arrow function' };
  }
  if (/^(?:export\s+|default\s+|declare\s+|abstract\s+)*(?:class|interface|namespace|enum)\b/.test(head)) {
    return { kind: 'scope', name: '' };
  }
  const declared = /\bfunction\b\s*\*?\s*([\w$]*)/.exec(head);
  if (declared && !/[=(,:|&<]$/.test(head)) return { kind: 'function', name: declared[1] || 'function' };
  if (head === '' || control.test(head)) return { kind: 'scope', name: '' };
  if (/(?:[=(,:?[&|<]|\breturn)$/.test(head)) return { kind: 'value', name: '' };
  const modifiers = /^(?:(?:public|private|protected|static|async|override|readonly|get|set)\s+)*\*?\s*/;
  const method = /^(#?[\w$]+|\[[^\]]*\])\s*(?:<[\s\S]*>)?\s*\([\s\S]*\)\s*(?::[\s\S]*)?$/.exec(
    lastMember(head).replace(modifiers, ''),
  );
  if (method) return { kind: 'function', name: method[1]! };
  return { kind: 'value', name: '' };
}

/** In an object literal earlier members may stand in the head: keeps what follows the last comma outside brackets. */
function lastMember(head: string): string {
  let depth = 0;
  for (let i = head.length - 1; i >= 0; i--) {
    if (')]}>'.includes(head[i]!)) depth++;
    if ('([{<'.includes(head[i]!)) depth--;
    if (head[i] === ',' && depth === 0) return head.slice(i + 1).trim();
  }
  return head;
}

function classifyCppHead(fullHead: string, parens: number): { kind: Kind; name: string } {
  const head = fullHead
    .replace(/^(?:(?:public|private|protected):\s*)+/, '')
    .replace(/^template\s*<[\s\S]*?>\s*(?=\w)/, '');
  if (/\[[^\][]*\]\s*(?:\([\s\S]*\)\s*)?(?:mutable\s*|constexpr\s*|noexcept\s*)*(?:->[\s\S]*)?$/.test(head)) {
    return { kind: 'function', name: 'lambda' };
  }
  if (head === '' || control.test(head)) return { kind: 'scope', name: '' };
  if (/^(?:inline\s+)?namespace\b|^extern$/.test(head)) return { kind: 'scope', name: '' };
  const signature =
    /\)\s*(?:const\b\s*|noexcept\b\s*(?:\([\s\S]*\)\s*)?|override\b\s*|final\b\s*|&&?\s*|->[\s\S]*|requires[\s\S]*)*$/;
  const isFunction = parens === 0 && (signature.test(head) || /\)\s*:\s*[\w:]+\s*[({][\s\S]*[)}]$/.test(head));
  if (/^(?:typedef\s+)?(?:class|struct|union|enum)\b/.test(head) && !/\)\s*(?:const\s*)?$/.test(head)) {
    return { kind: 'scope', name: '' };
  }
  if (!isFunction || /(?:=|\breturn)\s*[\w:]*\([\s\S]*$/.test(head)) return { kind: 'value', name: '' };
  return { kind: 'function', name: /([~\w:]+|operator[^\w\s(]+)\s*\(/.exec(head)?.[1] ?? 'function' };
}
