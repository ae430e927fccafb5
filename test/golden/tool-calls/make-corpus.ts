// Writes the corpus: node make-corpus.ts. What a case expects is written here by hand; the outputs are written by this file's
// own writers, one per format, which share nothing with any parser.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cutCases } from './make-cuts.ts';
import { formatCases } from './make-special.ts';
import { type Call, FORMATS, type Format, type Part, write } from './writers.ts';

export type Expected = { text: string } | { reasoning: string } | { call: { name: string; arguments: string } } | { invalid: string; started: boolean };
export type Case = { name: string; kind: number; output: string; starts_inside?: boolean; expected: Expected[] };

type Spec = { name: string; kind: number; parts: (string | (Call & { expect: string }))[]; not?: readonly Format[] };

const call = (name: string, args: [string, string][], expect: string): Call & { expect: string } => ({ name, args, expect });
const weather = (city: string): Call & { expect: string } => call('get_weather', [['city', JSON.stringify(city)]], JSON.stringify({ city }));
const file = (content: string): Call & { expect: string } =>
  call('write_file', [['path', '"a b.ts"'], ['content', JSON.stringify(content)]], JSON.stringify({ path: 'a b.ts', content }));

const CODE = `if (a </parameter && b) { s = "<function=x>" + '\\n\\t"\\\\'; }\r\n<parameter=nope>\r\n\tconst e = "😀 é \u2028";\n\n`;
const CONTROL = 'a <tool_call> b </tool_call> c <|im_end|> [TOOL_CALLS] <｜tool▁call▁end｜> </think> <|python_tag|> \u0000 d';
const LAYERS = '[{"size": "64", "tags": ["a", "7"], "deep": {"flag": "false", "limit": "10"}}, {"size": 8, "deep": {"flag": true, "limit": null}}]';
const LAYERS_MADE = '[{"size":64,"tags":["a","7"],"deep":{"flag":false,"limit":10}},{"size":8,"deep":{"flag":true,"limit":null}}]';

/** Formats whose calls end the answer, or must begin it. */
const NO_TEXT_AROUND: Format[] = ['llama3-json', 'llama-pythonic'];

const SPECS: Spec[] = [
  { name: 'no call', kind: 4, parts: ['Plain text,\n  with a blank line.\n\nAnd an end.\n'] },
  { name: 'one call', kind: 1, parts: [weather('Paris')] },
  { name: 'two calls', kind: 2, parts: [weather('Paris'), weather('Rome')] },
  { name: 'three calls', kind: 2, parts: [weather('Paris'), file('x = 1\n'), weather('Rome')] },
  { name: 'no arguments, then another call', kind: 3, parts: [call('now', [], '{}'), weather('Oslo')] },
  { name: 'text, call, text, call, text', kind: 4, parts: ['  Let me look.\n', weather('Paris'), '\n\n And then:\t\n', weather('Rome'), ' Done.\n'], not: NO_TEXT_AROUND },
  {
    name: 'wrong types at depth 3 and more', kind: 5,
    parts: [call('configure', [['options', `{"retries": "3", "ratio": "0.5", "verbose": "true", "note": null, "layers": ${LAYERS}}`]], `{"options":{"retries":3,"ratio":0.5,"verbose":true,"note":null,"layers":${LAYERS_MADE}}}`)],
  },
  {
    name: 'right types stay', kind: 5,
    parts: [call('configure', [['options', '{"retries": 3, "ratio": 2, "verbose": false, "note": "3", "layers": []}'], ['mode', '"7"']], '{"options":{"retries":3,"ratio":2,"verbose":false,"note":"3","layers":[]},"mode":"7"}')],
  },
  {
    name: 'an object as its JSON in a string', kind: 5,
    parts: [call('configure', [['options', JSON.stringify('{"retries": "3", "layers": [{"size": 9007199254740993}]}')]], '{"options":{"retries":3,"layers":[{"size":9007199254740993}]}}')],
  },
  { name: 'a number where text is wanted', kind: 5, parts: [call('get_weather', [['city', '12345678901234567890']], '{"city":"12345678901234567890"}')] },
  {
    name: 'digits beyond 2^53, exponents, -0', kind: 6,
    parts: [call('numbers', [['id', '12345678901234567890'], ['ratio', '-0'], ['other', '1.50e-7'], ['flag', 'true'], ['nothing', 'null']], '{"id":12345678901234567890,"ratio":-0,"other":1.50e-7,"flag":true,"nothing":null}')],
  },
  {
    name: 'numbers, booleans and null as text', kind: 6,
    parts: [call('numbers', [['id', '"-9007199254740993"'], ['ratio', '"6.02E+23"'], ['flag', '"False"'], ['nothing', '"null"']], '{"id":-9007199254740993,"ratio":6.02E+23,"flag":false,"nothing":null}')],
  },
  { name: 'one call twice', kind: 8, parts: [weather('Paris'), weather('Paris')] },
  { name: 'an argument twice: the first one counts', kind: 8, parts: [call('get_weather', [['city', '"Paris"'], ['days', '3'], ['city', '"Rome"']], '{"city":"Paris","days":3}')] },
  { name: 'tags, quotes, CRLF and emoji in a text argument', kind: 9, parts: [file(CODE)] },
  { name: 'an empty text argument', kind: 9, parts: [file('')] },
  { name: 'blanks in a text argument', kind: 9, parts: [file('\n\n  \t\n\n')] },
  { name: 'characters of two units, in text and arguments', kind: 12, parts: ['😀 Grüße 𝒳 ', file('𝒳😀\u{10ffff}é'), weather('東京')], not: NO_TEXT_AROUND },
  { name: 'characters of two units in arguments', kind: 12, parts: [file('𝒳😀\u{10ffff}é'), weather('東京')] },
  { name: 'a tool that nobody offered', kind: 13, parts: [call('nobody', [['x', '"1"']], '{"x":"1"}')] },
  { name: 'an argument that the schema does not know', kind: 13, parts: [call('get_weather', [['city', '"Paris"'], ['__proto__', '"x"'], ['constructor', '"5"']], '{"city":"Paris","__proto__":"x","constructor":"5"}')] },
  { name: 'control text in a text argument', kind: 15, parts: [file(CONTROL)] },
];

const expectedOf = (part: Spec['parts'][number]): Expected =>
  typeof part === 'string' ? { text: part } : { call: { name: part.name, arguments: part.expect } };

function common(format: Format): Case[] {
  return SPECS.filter((spec) => !spec.not?.includes(format)).map(({ name, kind, parts }) => ({
    name,
    kind,
    output: write(format, parts as Part[]),
    expected: parts.map(expectedOf),
  }));
}

/** Kind 14, the same for every format: reasoning in front, calls inside it that are none. */
function reasoning(format: Format): Case[] {
  const one = write(format, [weather('Paris')]);
  const expected: Expected = { call: { name: 'get_weather', arguments: '{"city":"Paris"}' } };
  return [
    { name: 'reasoning, then a call', kind: 14, output: `<think>\nParis, I think.\n\nYes.\n</think>\n\n${one}`, expected: [{ reasoning: 'Paris, I think.\n\nYes.' }, expected] },
    { name: 'reasoning that the prompt opened', kind: 14, output: `Hm.</think>${one}`, starts_inside: true, expected: [{ reasoning: 'Hm.' }, expected] },
    { name: 'a call inside the reasoning', kind: 14, output: `<think>maybe ${one} or not</think>\nNo.`, expected: [{ reasoning: `maybe ${one} or not` }, { text: 'No.' }] },
    { name: 'reasoning never closed', kind: 14, output: `<think>\nmaybe ${one}\n</thin`, expected: [{ reasoning: `maybe ${one}\n</thin` }] },
    { name: 'reasoning that the prompt opened, never closed', kind: 14, output: `so ${one}\n`, starts_inside: true, expected: [{ reasoning: `so ${one}\n` }] },
    { name: 'empty reasoning', kind: 14, output: '<think>\n\n</think>\n\nHello.', expected: [{ text: 'Hello.' }] },
    { name: 'no reasoning, a tag in the text', kind: 14, output: 'Use <think> and </think>.', expected: [{ text: 'Use <think> and </think>.' }] },
  ];
}

for (const format of FORMATS) {
  const cases = [...common(format), ...formatCases(format), ...cutCases(format), ...reasoning(format)];
  writeFileSync(join(import.meta.dirname, `${format}.json`), `${JSON.stringify({ format, reasoning: 'think', cases }, null, 1)}\n`);
}
