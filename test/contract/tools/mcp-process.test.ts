/** An MCP server through the whole tool service: from a pack to a result, and gone with the service. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fakeServer } from '../../sandbox/mcp-client.ts';
import { openFolder, quernTools, startProcess, writePacks } from './support/process.ts';

const RSS_KIB_MAX = 200 * 1024;

test('a pack’s MCP server: listed, called by hand, pinned; its process ends with the service', async (t) => {
  const dir = openFolder(t);
  const server = fakeServer('def go(m): reply(m, text(open("/proc/self/comm").read() + str(os.getuid())))', {
    annotations: { destructive: false },
  });
  const pack = JSON.stringify({ mcp_servers: { fake: server } });
  const service = await startProcess(t, { dir, env: { QUERN_TOOLS_PACK_DIR: writePacks(dir, { 'fake.json': pack }) } });
  assert.equal(service.info.tier, 'A', service.info.missing.join('\n'));
  let listed: { name: string; kind: string }[] = [];
  for (let tries = 0; tries < 20 && !listed.some(({ name }) => name === 'fake__go'); tries++) {
    if (tries > 0) await sleep(250);
    listed = JSON.parse((await quernTools(['list', '--json'], service.address)).stdout) as typeof listed;
  }
  assert.match(JSON.stringify(listed.find(({ name }) => name === 'fake__go')), /mcp/);
  const { code, stdout, stderr } = await quernTools(['run', 'fake__go', '--json', '{}'], service.address);
  assert.equal(code, 0, `${stdout}${stderr}`);
  const result = JSON.parse(stdout) as { outcome: string; content: string; tier: string };
  assert.deepEqual([result.outcome, result.tier], ['ok', 'mcp']);
  assert.match(result.content, /^python3[.\d]*\n1000$/);
  const pins = readFileSync(join(dir, 'tools', 'mcp-pins.json'), 'utf8');
  assert.match(pins, /"description": "Goes"/);
  const rssKib = Number.parseInt(service.status('VmRSS'), 10);
  t.diagnostic(`resident with a conversation: ${Math.round(rssKib / 1024)} MiB`);
  assert(rssKib < RSS_KIB_MAX, `${rssKib} KiB`);
  const children = readFileSync(`/proc/${service.child.pid}/task/${service.child.pid}/children`, 'utf8').trim();
  const [pid] = children.split(' ').filter((child) => readFileSync(`/proc/${child}/comm`, 'utf8').includes('bwrap'));
  assert(pid !== undefined, 'control: the conversation is kept');
  assert.equal(await service.stop(), 0);
  assert.equal(existsSync(`/proc/${pid}`), false);
});
