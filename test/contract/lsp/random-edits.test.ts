/**
 * A client that edits at random, a thousand times: every request is answered, and what is suggested is what the mesh said about the
 * very text that was asked about. The scripted mesh marks its words with a hash of that text, so that nothing hangs on timing.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { CancellationTokenSource, type InlineCompletionItem, type Position } from 'vscode-languageserver/node';
import { TextDocument } from 'vscode-languageserver-textdocument';
import { seeded } from '../../bench/replay/random.ts';
import { eventually, startMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf, FIM_PREFIX } from '../gateway/fakes/mock-tokenizer.ts';
import { startEditor } from './support/editor.ts';

const EDITS = 1_000;
const CANDIDATES = 3;
/** Less than what the client's cache looks at, so that the same surroundings are the same text. */
const LINES_MAX = 16;
const TYPED_MAX = 40;
const ALPHABET = ['a', 'b', 'total', ' ', '\n', '\n    ', '(', ')', '.', '"', 'é', '𝒳', ' = ', 'if x:\n    ', '}'];
const uri = 'file:///project/random.py';

const saidOf = (prefix: string, suffix: string, choice: number): string => {
  const hash = createHash('sha256').update(`${prefix}\0${suffix}\0${choice}`).digest('hex');
  return `v${hash.slice(0, 8)}(w${hash.slice(8, 12)})`;
};

function placeIn(tokenIds: readonly number[]): { prefix: string; suffix: string } {
  const text = (from: number, to: number): string => Buffer.from(tokenIds.slice(from, to)).toString();
  const [start, middle, end] = [0, 1, 2].map((mark) => tokenIds.indexOf(FIM_PREFIX + mark)) as [number, number, number];
  return { prefix: text(start + 1, middle), suffix: text(middle + 1, end) };
}

type Snapshot = { document: TextDocument; position: Position };

/** Brackets and quotes at the end may be left out or cover those that stand there. */
const agrees = (added: string, said: string): boolean => {
  let at = 0;
  while (at < added.length && added[at] === said[at]) at++;
  return at > 0 && /^\W*$/.test(added.slice(at)) && /^\W*$/.test(said.slice(at));
};

/** Why an item cannot be right for the text that it was asked for; null: it is. */
function faultOf({ insertText, range }: InlineCompletionItem, { document, position }: Snapshot): string | null {
  const all = document.getText();
  const line = all.split('\n')[position.line] ?? '';
  if (!range || typeof insertText !== 'string') return 'no text or no range';
  const { start, end } = range;
  if (start.line !== position.line || end.line !== position.line) return 'its range leaves the line';
  const isAround = start.character <= position.character && position.character <= end.character;
  if (!isAround || end.character > line.length) return 'its range is not around the cursor';
  if (/\w/.test(line.slice(position.character, end.character))) return 'it replaces what stands behind the cursor';
  const before = line.slice(start.character, position.character);
  const isBlank = before.trim() === '';
  if (!isBlank && !insertText.startsWith(before)) return 'it changes what stands before the cursor';
  const added = isBlank ? insertText.trimStart() : insertText.slice(before.length);
  const offset = document.offsetAt(position);
  const [prefix, suffix] = [all.slice(0, offset), all.slice(offset)];
  for (let typed = 0; typed <= Math.min(TYPED_MAX, prefix.length); typed++) {
    for (let choice = 0; choice < CANDIDATES; choice++) {
      const said = saidOf(prefix.slice(0, prefix.length - typed), suffix, choice);
      const rest = said.slice(typed);
      if (rest !== '' && said.startsWith(prefix.slice(prefix.length - typed)) && agrees(added, rest)) return null;
    }
  }
  return `the mesh never said "${added}" about this text`;
}

test('1,000 random edits: every request is answered, about the text that it was made for', {
  timeout: 300_000,
}, async (t) => {
  const random = seeded('random edits', 1);
  const script = (request: { tokenIds: readonly number[] }, choice: number): number[] => {
    const { prefix, suffix } = placeIn(request.tokenIds);
    return bytesOf(saidOf(prefix, suffix, choice));
  };
  const mesh = await startMesh(t, { engine: { script, stepMs: 1 } });
  const settings = { crossFile: false, maxTokens: 64 };
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings });
  let document = TextDocument.create(uri, 'python', 1, 'def f():\n    \n');
  await editor.open(uri, document.getText());
  let offset = document.getText().length - 1;
  /** What is left to type of a suggestion that was waited for: the edits do not depend on what came in time. */
  let suggestion = '';
  let latest: readonly InlineCompletionItem[] = [];
  let shown = 0;
  const answered = new Set<number>();
  const open: { index: number; cancel: CancellationTokenSource; answer: Promise<void> }[] = [];

  const edit = async (from: number, to: number, text: string): Promise<void> => {
    const range = { start: document.positionAt(from), end: document.positionAt(to) };
    document = TextDocument.update(document, [{ range, text }], document.version + 1);
    const { version } = document;
    await editor.connection.sendNotification('textDocument/didChange', {
      textDocument: { uri, version },
      contentChanges: [{ range, text }],
    });
    offset = from + text.length;
  };
  /** Not between the halves of a character. */
  const whole = (at: number): number => (/[\udc00-\udfff]/.test(document.getText().charAt(at)) ? at - 1 : at);

  const disturb = async (): Promise<void> => {
    const text = document.getText();
    const what = random.next();
    const [next] = suggestion;
    if (what < 0.8 && next !== undefined) {
      suggestion = suggestion.slice(next.length);
      return edit(offset, offset, next);
    }
    suggestion = '';
    if (document.lineCount > LINES_MAX) return edit(0, whole(Math.floor(text.length / 2)), '');
    if (what > 0.85) offset = whole(random.below(text.length + 1));
    const removed = what > 0.75 ? whole(Math.min(text.length, offset + random.below(12))) : offset;
    await edit(Math.min(offset, removed), Math.max(offset, removed), random.pick(ALPHABET));
  };

  for (let index = 0; index < EDITS; index++) {
    mesh.engine.settings.stepMs = random.pick([0, 0, 1, 2]);
    await disturb();
    const previous = open.at(-1);
    if (previous && random.next() < 0.5) previous.cancel.cancel();
    const invoked = random.next() < 0.15;
    const asked = { document: TextDocument.create(uri, 'python', document.version, document.getText()), offset };
    const position = document.positionAt(offset);
    const cancel = new CancellationTokenSource();
    const answer = editor.complete(uri, position, { invoked, cancel }).then((items) => {
      answered.add(index);
      for (const item of items) {
        shown++;
        const fault = faultOf(item, { document: asked.document, position });
        assert.equal(fault, null, `edit ${index}: ${JSON.stringify(item)}: ${fault}`);
      }
      latest = items;
    });
    open.push({ index, cancel, answer });
    if (suggestion !== '' || random.next() > (invoked ? 0.7 : 0.04)) continue;
    await answer;
    const { insertText, range } = latest[0] ?? {};
    if (typeof insertText === 'string')
      suggestion = insertText.slice(position.character - (range?.start.character ?? 0));
  }
  await Promise.all(open.map(({ answer }) => answer));
  assert.equal(answered.size, EDITS);
  assert(shown > 100, `only ${shown} suggestions: the test shows little`);
  await eventually(() => mesh.engine.live === 0, 'nothing runs at the engine any more');
});
