/** The extension before the mesh that `npm start` starts, with the model that comes with it. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually } from '../contract/gateway/fakes/mesh.ts';
import { startMesh } from '../e2e/mesh.ts';
import { startPageServer } from './support/page-server.ts';
import { GHOST, launchBrowser, Workbench } from './support/workbench.ts';

const CODE = `def total(prices):
    result = 0
    for price in prices:
        result += price
    return result


def mean(prices):
`;

test('ghost text comes from the bundled model, Tab takes it, and the mesh is told', async (t) => {
  const ends: (() => unknown)[] = [];
  const whole = { after: (end: () => unknown): void => void ends.unshift(end) };
  t.after(async () => {
    for (const end of ends) await end();
  });
  const folder = mkdtempSync(join(tmpdir(), 'quern-editor-'));
  whole.after(() => rmSync(folder, { recursive: true, force: true }));
  const server = await startPageServer(whole, folder);
  server.files.set('mean.py', Buffer.from(CODE));
  const mesh = await startMesh(whole, { env: { QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS: server.origin } });
  const gatewayUrl = `http://${mesh.http.replace(/^https?:\/\//, '')}`;
  Object.assign(server.defaults, { 'quern.gatewayUrl': gatewayUrl });
  Object.assign(server.defaults, { 'quern.softDeadlineMs': 60_000, 'quern.hardDeadlineMs': 60_000 });
  const at = await Workbench.open(await launchBrowser(whole), server);
  await at.openFile('mean.py');
  await at.press('Control+End');
  await at.type('    return total(');
  const ghost = at.page.locator(GHOST).first();
  // The model may draw what a filter takes away: whoever wants a suggestion then asks again.
  for (let i = 0; i < 20 && !(await ghost.isVisible()); i++) {
    await at.command('Quern: Suggest Now');
    await ghost.waitFor({ timeout: 3_000 }).catch(() => undefined);
  }
  await ghost.waitFor();
  await at.picture('0-running-mesh');
  const bare = (text: string | null): string => (text ?? '').replace(/\s/g, '');
  const shown = bare(await ghost.textContent());
  await at.press('Tab');
  const start = `${CODE}    return total(`;
  await at.savedAs('mean.py', (text) => text.startsWith(start) && bare(text.slice(start.length)).startsWith(shown));
  assert.notEqual(shown, '');
  const told = /^quern_suggestion_events_total\{event="accepted",language="python".*\} 1$/m;
  const isTold = async (): Promise<boolean> => told.test(await (await fetch(`${gatewayUrl}/metrics`)).text());
  await eventually(isTold, 'the mesh is told of the acceptance', 60_000);
});
