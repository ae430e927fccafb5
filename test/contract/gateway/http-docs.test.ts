/** The calls that docs/http.md gives to try are answered, each. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { startMesh } from './fakes/mesh.ts';

const PAGE = new URL('../../../docs/http.md', import.meta.url);
const CALL = /^curl -sN? \$M(\/\S*)(?: -d '([^']+)')?(?: \| grep '([^']+)')?$/;

type Call = { line: string; path: string; body: string | undefined; pattern: string | undefined };

function calls(): Call[] {
  const blocks = [...readFileSync(PAGE, 'utf8').matchAll(/```sh\n(.*?)```/gs)].map(([, block = '']) => block);
  return blocks
    .flatMap((block) => block.split('\n').filter((line) => line.startsWith('curl')))
    .map((line) => {
      const [whole, path = '', body, pattern] = CALL.exec(line) ?? [];
      assert(whole, `a form that this test cannot read: ${line}`);
      return { line, path, body, pattern };
    });
}

test('every call of docs/http.md is answered with 200', async (t) => {
  const mesh = await startMesh(t);
  const all = calls();
  assert(all.length > 15, `${all.length} calls`);
  for (const { line, path, body, pattern } of all) {
    const response = await fetch(mesh.url + path, body === undefined ? {} : { method: 'POST', body });
    const text = await response.text();
    assert.equal(response.status, 200, `${line}\n${text}`);
    if (body !== undefined) JSON.parse(body);
    if (pattern) assert.match(text, new RegExp(pattern, 'm'), line);
    if (body?.includes('"stream": true')) assert.match(text, /^data: \{/, line);
    else if (response.headers.get('content-type') === 'application/json') JSON.parse(text);
  }
});

test('the page names every path that the gateway serves', async (t) => {
  const mesh = await startMesh(t);
  const page = readFileSync(PAGE, 'utf8');
  const unknown = (await (await fetch(`${mesh.url}/nowhere`)).json()) as { error: { message: string } };
  const served = unknown.error.message.split('served: ')[1]?.split(', ') ?? [];
  assert(served.length > 10, unknown.error.message);
  for (const path of served) assert(page.includes(path.replace('*', 'NAME')), path);
});
