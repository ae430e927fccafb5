// What only one format knows: look-alikes (kind 10), other orders and encodings (kind 7), missing tags.
import type { Case, Expected } from './make-corpus.ts';
import type { Format } from './writers.ts';

const made = (name: string, args: string): Expected => ({ call: { name, arguments: args } });
const PARIS = made('get_weather', '{"city":"Paris"}');
const text = (name: string, output: string): Case => ({ name, kind: 10, output, expected: [{ text: output }] });
const one = (name: string, kind: number, output: string, ...expected: Expected[]): Case => ({ name, kind, output, expected });

/** Of formats whose calls are JSON objects: `wrap` puts one where it belongs. */
function jsonOrders(wrap: (object: string) => string, key = 'arguments'): Case[] {
  return [
    one('arguments before the name', 7, wrap(`{"${key}": {"city": "Paris"}, "name": "get_weather"}`), PARIS),
    one('arguments encoded twice', 7, wrap(`{"name": "get_weather", "${key}": "{\\"city\\": \\"Pa\\\\u0072is\\"}"}`), PARIS),
    one('arguments encoded twice, before the name', 7, wrap(`{"${key}": "{\\"city\\": \\"Paris\\"}", "name": "get_weather"}`), PARIS),
    one('no arguments at all', 3, wrap(`{"name": "now", "${key}": null}`), made('now', '{}')),
    one('other keys', 13, wrap(`{"type": "function", "id": [1, {"a": "}"}], "name": "get_weather", "${key}": {"city": "Paris"}}`), PARIS),
    one('escapes', 12, wrap(`{"name": "get_weather", "${key}": {"city": "\\ud83d\\ude00\\/\\u00e9\\t"}}`), made('get_weather', '{"city":"😀/é\\t"}')),
    one('a line end as it is in a string', 9, wrap(`{"name": "get_weather", "${key}": {"city": "a\nb\tc"}}`), made('get_weather', '{"city":"a\\nb\\tc"}')),
  ];
}

const BROKEN = '{"name": "get_weather", "arguments": {"city": Paris}}';

const CASES: Record<Format, Case[]> = {
  hermes: [
    ...jsonOrders((object) => `<tool_call>\n${object}\n</tool_call>`),
    one('no arguments at all, not even null', 3, '<tool_call>{"name": "now"}</tool_call>', made('now', '{}')),
    text('look-alikes in code', 'a<tool_b> Vec<tool_call , </tool_call> <tool_calls>{"name": 1}</tool_calls>'),
    text('a tag cut by the end', 'Vec<tool_call'),
    text('text about the tag', 'Write <tool_call> in front and </tool_call> behind.'),
    one('broken JSON', 11, `Hm. <tool_call>\n${BROKEN}\n</tool_call> So?`, { text: 'Hm. ' }, { invalid: `<tool_call>\n${BROKEN}\n</tool_call>`, started: true }, { text: ' So?' }),
    one('broken, then right', 8, `<tool_call>{nam: 1}<tool_call>{"name": "now"}</tool_call>`, { invalid: '<tool_call>{nam: 1}', started: false }, made('now', '{}')),
    one('a value that fits nothing', 5, '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris", "days": "soon"}}</tool_call>', { invalid: '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris", "days": "soon"}}</tool_call>', started: true }),
    one('blanks around an invalid call', 4, '\n <tool_call>{]</tool_call>\n', { invalid: '\n <tool_call>{]</tool_call>', started: false }, { text: '\n' }),
    one('two objects between one pair of tags', 2, '<tool_call>\n{"name": "now"}\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>', made('now', '{}'), PARIS),
    one('no close tag between two calls', 10, '<tool_call>{"name": "now"}\n<tool_call>{"name": "now"}', made('now', '{}'), made('now', '{}')),
  ],
  'qwen3-coder': [
    text('look-alikes in code', 'a<tool_b> <function=f() {}> </parameter> x <function> <tool_call> y'),
    text('a tag cut by the end', 'Vec<tool_call'),
    one('two functions between one pair of tags', 2, '<tool_call>\n<function=now>\n</function>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>', made('now', '{}'), PARIS),
    one('no <tool_call>', 10, 'Now:\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>', { text: 'Now:\n' }, PARIS),
    one('no </parameter>', 10, '<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n<parameter=days>\n3\n</function>\n</tool_call>', made('get_weather', '{"city":"Paris","days":3}')),
    one('all on one line', 9, '<tool_call><function=get_weather><parameter=city>Paris</parameter><parameter=days> 3 </parameter></function></tool_call>', made('get_weather', '{"city":"Paris","days":3}')),
    one('a whole close tag in a value', 9, '<tool_call>\n<function=write_file>\n<parameter=content>\nx </parameter> y </function> z\n</parameter>\n</function>\n</tool_call>', made('write_file', '{"content":"x </parameter> y </function> z"}')),
    one('the JSON format of its sister models', 7, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>', PARIS),
    one('a value that fits nothing', 5, '<tool_call>\n<function=get_weather>\n<parameter=days>\nsoon\n</parameter>\n</function>\n</tool_call> ok', { invalid: '<tool_call>\n<function=get_weather>\n<parameter=days>\nsoon\n</parameter>\n</function>\n</tool_call>', started: true }, { text: ' ok' }),
  ],
  'llama3-json': [
    ...jsonOrders((object) => object, 'parameters'),
    one('behind its tag', 4, 'Let me see.<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}', { text: 'Let me see.' }, PARIS),
    one('the other key', 7, '{"name": "get_weather", "arguments": {"city": "Paris"}}', PARIS),
    one('a function key', 7, '{"type": "function", "function": {"name": "get_weather", "parameters": {"city": "Paris"}}}', PARIS),
    text('an answer in JSON', '{"name": "Bob", "age": 3}'),
    text('an answer in JSON with a name only', '{"name": "Bob"} is what you want; {"name": "now", "parameters": {}}'),
    text('JSON that breaks', '{"name": Bob, "parameters": {}}'),
    text('text behind the tag', 'x <|python_tag|>print(1)'),
  ],
  'llama-pythonic': [
    one('every literal', 6, '[numbers(id=+12345678901234567890, ratio=.5, flag=True, nothing=None)]', made('numbers', '{"id":12345678901234567890,"ratio":0.5,"flag":true,"nothing":null}')),
    one('lists, tuples and dicts', 5, "[configure(options={'retries': '3', \"layers\": [{'size': 1, 'tags': ('a', 'b',)}]},)]", made('configure', '{"options":{"retries":3,"layers":[{"size":1,"tags":["a","b"]}]}}')),
    one('quotes and escapes', 9, `[write_file(content="""a "b" 'c'\n\\x41\\u00e9\\d""", path='')]`, made('write_file', `{"content":${JSON.stringify('a "b" \'c\'\nAé\\d')},"path":""}`)),
    one('between its tags', 10, 'So: <|python_start|>[now()]<|python_end|>', { text: 'So: ' }, made('now', '{}')),
    one('blanks everywhere', 10, ' [ get_weather( city = "Paris" , days = 3 ) ,\n now ( ) ]\n', made('get_weather', '{"city":"Paris","days":3}'), made('now', '{}')),
    text('a link', '[link](https://example.com) and [f(a=1)]'),
    text('a list', '[1, 2, f(x)]'),
    text('a call without keywords', '[print("x")]'),
    one('a broken value', 11, '[get_weather(city=Paris)]', { invalid: '[get_weather(city=Paris)]', started: true }),
  ],
  'deepseek-v3': [
    text('look-alikes', '<｜tool▁calls▁begin｜> is a tag, <|tool_calls_begin|> is none'),
    one('no tag of all calls', 10, '<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>', made('now', '{}')),
    one('no end of a call', 10, '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁calls▁end｜>', made('now', '{}')),
    one('no fence', 11, '<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n{}<｜tool▁call▁end｜>.', { invalid: '<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n{}<｜tool▁call▁end｜>', started: false }, { text: '.' }),
  ],
  'deepseek-v3.1': [
    text('look-alikes', '<｜tool▁calls▁begin｜> is a tag, <|tool_calls_begin|> is none'),
    one('arguments encoded twice', 7, '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"{\\"city\\": \\"Paris\\"}"<｜tool▁call▁end｜><｜tool▁calls▁end｜>', PARIS),
  ],
  'mistral-list': [
    ...jsonOrders((object) => `[TOOL_CALLS] [${object}]`),
    text('look-alikes', '[TOOL_CALL] [TOOLS] [1, 2] [TOOL_CALLS] [] ['),
    one('a call without the list', 10, '[TOOL_CALLS] {"name": "get_weather", "arguments": {"city": "Paris"}}', PARIS),
    one('the second call broken', 8, '[TOOL_CALLS] [{"name": "now"}, {"name": }]', made('now', '{}'), { invalid: '{"name": }]', started: false }),
  ],
  mistral: [
    one('with an id', 7, '[TOOL_CALLS]get_weather[CALL_ID]Ab3dE6gH9[ARGS]{"city": "Paris"}', PARIS),
    one('without its second tag', 10, 'Look: [TOOL_CALLS]get_weather{"city": "Paris"}', { text: 'Look: ' }, PARIS),
    text('text about the tag', 'Write [TOOL_CALLS] in front, [ARGS] behind the name.'),
  ],
};

export function formatCases(format: Format): Case[] {
  return CASES[format];
}
