/** `node test/editor/draw-icon.ts`: draws the extension's icon from its source, after a change of that. VS Code wants a PNG. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { launchBrowser } from './support/workbench.ts';

const root = join(import.meta.dirname, '../..');
/** At least 128. */
const SIDE = 160;

const ends: (() => unknown)[] = [];
try {
  const browser = await launchBrowser({ after: (end: () => unknown) => void ends.push(end) });
  const page = await browser.newPage({ viewport: { width: SIDE, height: SIDE } });
  const svg = readFileSync(join(root, 'clients/vscode/icon.svg')).toString('base64');
  const style = 'margin:0;background:transparent';
  await page.setContent(`<body style="${style}"><img width="${SIDE}" src="data:image/svg+xml;base64,${svg}"></body>`);
  await page.locator('img').evaluate('image => image.decode()');
  await page.screenshot({ path: join(root, 'docs/images/editors/icon.png'), omitBackground: true });
} finally {
  for (const end of ends) await end();
}
