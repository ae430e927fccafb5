/** The real VS Code workbench in a headless Chromium, driven as a user does: by keys and by what is on the screen. */
import { existsSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { PageServer } from './page-server.ts';

/** Only a failure waits so long. */
const LIMIT_MS = 60_000;

const EXECUTABLES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export async function launchBrowser(t: Pick<TestContext, 'after'>): Promise<Browser> {
  const executablePath = EXECUTABLES.find(existsSync);
  if (!executablePath)
    throw new Error(
      `expected Chromium at ${EXECUTABLES.join(', ')}; install it: apt-get install --no-install-recommends chromium`,
    );
  // Root, as in containers, has no sandbox in Chromium; a user has.
  const root = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  const browser = await chromium.launch({
    executablePath,
    args: [...root, '--disable-gpu', '--disable-dev-shm-usage'],
  });
  t.after(() => browser.close());
  return browser;
}

export const GHOST = '.ghost-text-decoration, .ghost-text';

export class Workbench {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly #server: PageServer;

  constructor(page: Page, context: BrowserContext, server: PageServer) {
    this.page = page;
    this.context = context;
    this.#server = server;
  }

  /** Opens one with a profile of its own. */
  static async open(browser: Browser, server: PageServer): Promise<Workbench> {
    const context = await browser.newContext({ viewport: { width: 1000, height: 560 } });
    const page = await context.newPage();
    page.setDefaultTimeout(LIMIT_MS);
    await page.goto(server.origin);
    const workbench = new Workbench(page, context, server);
    await workbench.status('sparkle');
    return workbench;
  }

  close(): Promise<void> {
    return this.context.close();
  }

  /** Waits until the status bar's item has this icon. */
  async status(icon: string): Promise<void> {
    await this.page.locator(`[id="quern.quern.quern.status"] .codicon-${icon}`).waitFor();
  }

  /** A file of the workspace, from the explorer. */
  async openFile(name: string): Promise<void> {
    await this.page.locator('.explorer-folders-view .monaco-list-row').filter({ hasText: name }).dblclick();
    await this.page.locator(`.tab.active[data-resource-name="${name}"]`).waitFor();
    await this.page.locator('.editor-instance .view-lines').click();
  }

  /** A command by its title in the palette. */
  command(title: string): Promise<void> {
    return this.#pick('F1', `>${title}`, title);
  }

  async #pick(key: string, text: string, label: string): Promise<void> {
    const { page } = this;
    const input = page.locator('.quick-input-widget input.input');
    await page.keyboard.press(key);
    await input.waitFor();
    await input.fill(text);
    await page.locator('.quick-input-list .monaco-list-row').filter({ hasText: label }).first().click();
    await input.waitFor({ state: 'hidden' });
  }

  press(key: string): Promise<void> {
    return this.page.keyboard.press(key);
  }

  type(text: string): Promise<void> {
    return this.page.keyboard.type(text);
  }

  /** Waits for ghost text that holds `text`. */
  async ghost(text: string): Promise<void> {
    await this.page.locator(GHOST).filter({ hasText: text }).first().waitFor();
  }

  async noGhost(): Promise<void> {
    await this.page.locator(GHOST).first().waitFor({ state: 'detached' });
  }

  /** Saves, and what stands in the file then. */
  async saved(name: string, expected: string): Promise<void> {
    const until = Date.now() + LIMIT_MS;
    while (true) {
      await this.press('Control+S');
      const text = this.#server.files.get(name)?.toString();
      if (text === expected) return;
      if (Date.now() > until)
        throw new Error(`${name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(text)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
