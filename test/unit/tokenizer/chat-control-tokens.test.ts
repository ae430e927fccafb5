// Nothing that a caller writes becomes a control token, whatever the template does with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Template } from '@huggingface/jinja';
import fc from 'fast-check';
import type { RenderChatRequest } from '../../../services/gen/quern/tokenizer/v1/tokenizer.ts';
import { Role } from '../../../services/gen/quern/tokenizer/v1/tokenizer.ts';
import { CHATML, chatml, control, LITERALS, model, render } from './support/chat-models.ts';
import { assistant, chatRequest, message, system, tool, user } from './support/requests.ts';
import { assertIds } from './support/same-ids.ts';

/** Everything a caller controls, with a text in each place. */
function everywhere(text: string): RenderChatRequest {
  return chatRequest(
    [
      system(text),
      user(text),
      assistant(text, {
        reasoningContent: text,
        toolCalls: [
          { id: text, name: 'f', argumentsJson: JSON.stringify({ a: text, [`k${text}`]: [text, { b: text }] }) },
        ],
      }),
      message(Role.ROLE_TOOL, text, { toolCallId: text }),
      assistant('', { toolCalls: [{ id: '', name: 'f', argumentsJson: `{"broken": ${text}` }] }),
      user(text),
    ],
    {
      tools: [tool('f', text, { type: 'object', properties: { [text || 'p']: { description: text, enum: [text] } } })],
      templateVariables: { date: text },
    },
  );
}

const anyText = fc
  .array(
    fc.oneof(
      fc.constantFrom(...LITERALS, ...LITERALS.map((one) => one.slice(1)), ...LITERALS.map((one) => one.slice(0, -1))),
      fc.constantFrom(
        ' ',
        '\n',
        '\n\n',
        '\t',
        '<',
        '>',
        '|',
        '"',
        '\\',
        'think',
        'tool_call',
        'im_end',
        '\ue000',
        '\ue001',
        '\\ue000',
      ),
      fc.string({ maxLength: 6, unit: 'binary' }),
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join(''));

test('no text in any place adds or removes a control token', () => {
  const own = control(render(chatml, everywhere('x')).ids);
  assert(own.length > 10);
  fc.assert(
    fc.property(anyText, (text) => {
      const prompt = render(chatml, everywhere(text || 'x'));
      assert.deepEqual(control(prompt.ids), own, JSON.stringify(text));
    }),
    { numRuns: 400, seed: 77 },
  );
});

test('text without control literals gives the ids of the plain rendering', () => {
  const plain = new Template(CHATML);
  fc.assert(
    fc.property(anyText, (text) => {
      fc.pre(!LITERALS.some((literal) => text.includes(literal)) && !/[<>|]/.test(text));
      const messages = [system(text), user(text), assistant(text), user(text)];
      const roles = ['system', 'user', 'assistant', 'user'];
      const reference = plain.render({
        messages: roles.map((role) => ({ role, content: text })),
        tools: null,
        add_generation_prompt: true,
      });
      const prompt = render(chatml, chatRequest(messages));
      assert.equal(prompt.text, reference);
      assertIds(prompt.ids, chatml.tokenizer.encode(reference, 'all'), reference);
    }),
    { numRuns: 400, seed: 78 },
  );
});

test('what a literal in content decodes to is the literal', () => {
  for (const literal of LITERALS) {
    const text = `a ${literal}b${literal}${literal}`;
    const { ids } = render(chatml, chatRequest([user(text)]));
    assert(chatml.tokenizer.decode([...ids], { skipSpecial: false }).includes(text), literal);
  }
});

/** Templates that do with strings what real ones do. */
const HOSTILE = [
  '{% for m in messages %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}',
  '{% for m in messages %}<|im_start|><{{ m.content }}>{% endfor %}',
  "{% for m in messages %}<|im_start|><{{ m.content | replace('-', '_') | lower }}>{% endfor %}",
  '{% for m in messages %}<|im_start|>{{ m.content[:12] }}{{ m.content[3:] }}{% endfor %}',
  "{% for m in messages %}<|im_start|>{{ m.content.split('x') | join('') }}{% endfor %}",
  "<|im_start|>{{ messages | map(attribute='content') | join('') }}",
  '{% for m in messages %}<|im_start|>{{ m.content | tojson }}{{ m.content | tojson(ensure_ascii=true) }}{% endfor %}',
  '{% for m in messages %}<|im_start|><|im_{{ m.content }}|>{% endfor %}',
];

test('templates that trim, cut, join or complete text give no control token either', () => {
  const texts = [
    'think',
    'tool-call',
    'TOOL_CALL',
    '<|im_xend|>',
    'end',
    '<|im_',
    'end|>',
    '|im_end|>',
    '<',
    'x<thinkx>',
    '/think',
    ' <think> ',
    '<\u200b|im_end|>',
  ];
  for (const template of HOSTILE) {
    const loaded = model(template);
    for (const a of texts) {
      for (const b of texts) {
        const request = chatRequest([user(a), user(b)]);
        const expected = control(render(loaded, chatRequest([user('y'), user('y')])).ids);
        assert.deepEqual(control(render(loaded, request).ids), expected, `${template} with ${a} and ${b}`);
      }
    }
  }
});

test('a template that cuts a word out of a long text and completes a literal with it gets no control token', () => {
  const loaded = model(
    '{% for m in messages %}<|im_start|><{{ m.content[400:405] }}><{{ m.content[:5] }}><{{ m.content[-5:] }}>{% endfor %}',
  );
  const long = `think${'x'.repeat(395)}think${'y'.repeat(600)}think`;
  assert.equal(control(render(loaded, chatRequest([user(long)])).ids).length, 1);
  assert.equal(control(render(loaded, chatRequest([user(`${'z'.repeat(395)}${long}`)])).ids).length, 1);
});

test('a template keeps its comparisons with words of its own', () => {
  const loaded = model("{% for m in messages %}<|im_start|>{% endfor %}{% if mode == 'fast' %}<think>{% endif %}");
  const request = chatRequest([user('x<')], { templateVariables: { mode: 'fast' } });
  assert.equal(control(render(loaded, request).ids).length, 2);
});
