// Messages and tools through a model's chat template to ids, so that no untrusted text becomes a control token and text
// without control literals gives the ids of the plain rendering.
import { QuernError } from '#kit/errors.ts';
import type { ChatTemplate } from './chat-template.ts';
import { type Conversation, templateVariables } from './chat-variables.ts';
import { IdBuffer } from './id-buffer.ts';
import {
  chooseMarks,
  createHeavyGuard,
  createLightGuard,
  type Guard,
  type GuardMarks,
  notePrivateUse,
  removeMark,
} from './injection-guard.ts';
import { WITNESS_EDGE_UNITS } from './limits.ts';
import type { TextTokenizer } from './tokenizer.ts';

export type ChatPrompt = {
  ids: Uint32Array;
  /** The prompt's text, control literals included, for logs of none and tests of all. */
  text: string;
  /** Leading ids that come from the template and tools alone; 0 when unsure. */
  publicPrefixTokens: number;
};

export type ChatRenderer = { render(conversation: Conversation): ChatPrompt };

type Mode = { wrapBroken: boolean };

/** Cuts at the mark behind the last message's content. A template that trims took the blank behind the mark too. */
function cutAtEnd(prompt: string, marks: GuardMarks): string {
  const at = prompt.lastIndexOf(marks.end);
  if (at < 0) {
    const message = 'continue_final_message: the chat template does not write the last message; send it without';
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'CHAT_TEMPLATE_REFUSED' });
  }
  return prompt[at + 1] === ' ' ? prompt.slice(0, at) : prompt.slice(0, at).trimEnd();
}

export function createChatRenderer(template: ChatTemplate, tokenizer: TextTokenizer): ChatRenderer {
  const lightGuard = createLightGuard(tokenizer.added);
  const heavyGuard = createHeavyGuard(tokenizer.added, template.words);
  const knowsDeveloper = template.words.has('developer');
  const taken = new Set<number>();
  for (const text of [template.source, ...tokenizer.added.map(({ content }) => content)]) notePrivateUse(text, taken);

  function renderWith(conversation: Conversation, guard: Guard, marks: GuardMarks | null, mode: Mode): string {
    const shape = template.shape(conversation.tools.length > 0);
    const end = marks && conversation.continueFinalMessage ? `${marks.end} ` : '';
    const options = { guard, shape, knowsDeveloper, wrapBroken: mode.wrapBroken, end };
    const prompt = template.render(templateVariables(conversation, options));
    return end === '' ? prompt : cutAtEnd(prompt, marks!);
  }

  /** Marks that occur nowhere in the conversation. */
  function marksFor(conversation: Conversation): GuardMarks {
    const seen = new Set(taken);
    const note: Guard = (text) => {
      notePrivateUse(text, seen);
      return text;
    };
    const shape = template.shape(conversation.tools.length > 0);
    templateVariables(conversation, { guard: note, shape, knowsDeveloper, wrapBroken: false, end: '' });
    return chooseMarks(seen);
  }

  /** Broken tool arguments go in as text; a template that cannot take text gets them wrapped. */
  function renderLight(conversation: Conversation, marks: GuardMarks): { prompt: string; mode: Mode } {
    const guard = lightGuard(marks.shared);
    try {
      const mode = { wrapBroken: false };
      return { prompt: renderWith(conversation, guard, marks, mode), mode };
    } catch (error) {
      if (!conversation.hasBrokenArguments) throw error;
      const mode = { wrapBroken: true };
      return { prompt: renderWith(conversation, guard, marks, mode), mode };
    }
  }

  function publicLiterals(witness: string, at: readonly { at: number }[], conversation: Conversation, mark: string) {
    // Blank strings carry no mark: where they stand cannot be seen.
    if (conversation.messages.some(({ content }) => content !== '' && content.trim() === '')) return 0;
    const first = witness.indexOf(mark);
    return first < 0 ? 0 : at.filter((literal) => literal.at < first).length;
  }

  function render(conversation: Conversation): ChatPrompt {
    const marks = marksFor(conversation);
    const { prompt, mode } = renderLight(conversation, marks);
    const witness = renderWith(conversation, heavyGuard(marks, WITNESS_EDGE_UNITS), marks, mode);
    const own = tokenizer.literalsOf(witness);
    const out = new IdBuffer(1024);
    const written = tokenizer.encodeRendered(prompt, (run) => removeMark(run, marks.shared), out);
    const agree = written.length === own.length && written.every(({ id }, index) => id === own[index]!.token.id);
    if (!agree) return renderHeavy(conversation, marks, mode);
    const shared = publicLiterals(witness, own, conversation, marks.private);
    return {
      ids: out.toIds(),
      text: removeMark(prompt, marks.shared),
      publicPrefixTokens: shared === 0 ? 0 : written[shared - 1]!.end,
    };
  }

  /** Untrusted text completed a literal together with the template's text: the rendering in which it could not is used. */
  function renderHeavy(conversation: Conversation, marks: GuardMarks, mode: Mode): ChatPrompt {
    const witness = renderWith(conversation, heavyGuard(marks, Number.POSITIVE_INFINITY), marks, mode);
    const out = new IdBuffer(1024);
    const clean = (run: string): string => removeMark(removeMark(run, marks.private), marks.shared);
    tokenizer.encodeRendered(witness, clean, out);
    return { ids: out.toIds(), text: clean(witness), publicPrefixTokens: 0 };
  }

  return { render };
}
