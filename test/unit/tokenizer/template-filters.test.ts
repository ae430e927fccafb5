import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Template } from '@huggingface/jinja';
import { pythonText } from '../../../services/tokenizer/python-text.ts';
import { FILTER_FUNCTIONS, rewriteFilters } from '../../../services/tokenizer/template-filters.ts';

function render(source: string, variables: Record<string, unknown> = {}): string {
  const template = new Template(source);
  rewriteFilters(template.parsed);
  return template.render({ ...FILTER_FUNCTIONS, ...variables });
}

test('select and reject with the tests that templates use', () => {
  const x = ['a', 'b', '', 'c'];
  assert.equal(render("{{ x | reject('in', ['a', 'c']) | join('-') }}", { x }), 'b-');
  assert.equal(render("{{ x | select('in', ['a', 'c']) | join('-') }}", { x }), 'a-c');
  assert.equal(render("{{ x | select | join('-') }}", { x }), 'a-b-c');
  assert.equal(render("{{ x | reject('equalto', 'a') | list | length }}", { x }), '3');
  assert.equal(
    render("{% for k in o.keys() | reject('in', ['a']) %}{{ k }}={{ o[k] }};{% endfor %}", { o: { a: 1, b: 2 } }),
    'b=2;',
  );
  assert.equal(render("{{ x | select('mapping') | list | length }}", { x: [{ a: 1 }, [], 'a'] }), '1');
  assert.throws(() => render("{{ x | select('sameas', 1) }}", { x }), /Unknown test: sameas/);
});

test('map with the name of a filter, and map(attribute=) as before', () => {
  assert.equal(render("{{ x | map('trim') | join('|') }}", { x: [' a ', 'b'] }), 'a|b');
  assert.equal(render("{{ x | map('upper') | select('in', ['A']) | join('|') }}", { x: ['a', 'b'] }), 'A');
  assert.equal(render("{{ x | map(attribute='n') | join('|') }}", { x: [{ n: 'a' }, { n: 'b' }] }), 'a|b');
});

test('items of what is not defined are none, as in Python; of what is no mapping they are an error', () => {
  const source = '{% for k, v in t.properties | items %}{{ k }}={{ v }};{% endfor %}.';
  assert.equal(render(source, { t: { properties: { a: 1, b: 2 } } }), 'a=1;b=2;.');
  assert.equal(render(source, { t: {} }), '.');
  assert.throws(() => render(source, { t: { properties: null } }), /items/);
  assert.throws(() => render(source, { t: { properties: 'text' } }), /items/);
});

test('string writes values as Python does', () => {
  const x = { s: "it's", n: null, t: true, f: [1, 2.5, 'a"b', { k: 'v\n' }] };
  assert.equal(
    render('{{ x | string }}', { x }),
    `{'s': "it's", 'n': None, 't': True, 'f': [1, 2.5, 'a"b', {'k': 'v\\n'}]}`,
  );
  assert.equal(
    render('{{ x.n | string }}{{ x.t | string }}{{ 3 | string }}{{ x.s | string }}{{ y | string }}', { x }),
    "NoneTrue3it's",
  );
});

test('filters inside of macros, tests and loops are rewritten too', () => {
  const source =
    "{% macro m(l) %}{% if l | select('in', ['a']) | length > 0 %}{{ l | reject('in', ['a']) | join }}{% endif %}{% endmacro %}{{ m(x) }}";
  assert.equal(render(source, { x: ['a', 'b', 'c'] }), 'bc');
});

test("text that is not printable is escaped as in Python's repr", () => {
  // Made with CPython: repr(['\x00\x7f\xa0\u200b\u2028\U000e0001é漢😀', '\\', "'\""])
  assert.equal(
    pythonText(['\x00\x7f\xa0\u200b\u2028\u{e0001}é漢😀', '\\', '\'"']),
    "['\\x00\\x7f\\xa0\\u200b\\u2028\\U000e0001é漢😀', '\\\\', '\\'\"']",
  );
});
