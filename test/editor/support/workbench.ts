/** The real VS Code workbench in a headless Chromium, driven as a user does: by keys and by what is on the screen. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { PageServer } from './page-server.ts';

/** Only a failure waits so long. */
const LIMIT_MS = 60_000;
/** For Chromium and a workbench to start beside compilers. */
const START_MS = 180_000;
/** After so long without ghost text a user asks by hand. */
const PATIENCE_MS = 15_000;

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
    timeout: START_MS,
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

  /** Opens one with a profile of its own, and waits until the status bar's item has this icon. */
  static async open(browser: Browser, server: PageServer, icon = 'sparkle'): Promise<Workbench> {
    const context = await browser.newContext({ viewport: { width: 1000, height: 560 } });
    const page = await context.newPage();
    page.setDefaultTimeout(START_MS);
    await page.goto(server.origin);
    const workbench = new Workbench(page, context, server);
    await workbench.status(icon);
    page.setDefaultTimeout(LIMIT_MS);
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
    const rows = page.locator('.quick-input-list .monaco-list-row');
    // Titles begin alike, and the palette sorts by what was used last.
    const whole = new RegExp(`^\\s*${label.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}\\s*$`);
    await rows.locator('.label-name').filter({ hasText: whole }).first().click();
    await rows.first().waitFor({ state: 'hidden' }); // a command that asks shows the box again, without a list
    await page.mouse.move(640, 400); // a row lies over what has tooltips of its own
  }

  /** What the status bar's item says to who asks. */
  async statusText(): Promise<string> {
    return (await this.page.locator('[id="quern.quern.quern.status"] a').getAttribute('aria-label')) ?? '';
  }

  /** With the mouse on the status bar's item: its tooltip is shown. */
  async hoverStatus(): Promise<void> {
    await this.page.locator('[id="quern.quern.quern.status"]').hover();
    await this.page.locator('.workbench-hover-container').filter({ hasText: 'Quern' }).waitFor();
  }

  /** How much the output channel "Quern" takes. */
  async logLevel(level: string): Promise<void> {
    const { page } = this;
    const input = page.locator('.quick-input-widget input.input');
    const row = (label: string) =>
      page.locator('.quick-input-list .monaco-list-row .label-name').filter({ hasText: new RegExp(`^${label}$`) });
    const command = 'Developer: Set Log Level...';
    await page.keyboard.press('F1');
    await input.waitFor();
    await input.fill(`>${command}`);
    await row(command).first().click();
    await row('Quern').click();
    await row('Quern').waitFor({ state: 'hidden' }); // the first list begins with the levels, too
    await row(level).click();
    await input.waitFor({ state: 'hidden' });
  }

  /** All that the output channel holds. */
  async log(): Promise<string> {
    await this.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: this.#server.origin });
    await this.command('Quern: Show Log');
    await this.page.locator('.part.panel .monaco-editor textarea').first().focus();
    await this.press('Control+A');
    await this.press('Control+C');
    return String(await this.page.evaluate('navigator.clipboard.readText()'));
  }

  /** Answers an input box. */
  async input(text: string): Promise<void> {
    const input = this.page.locator('.quick-input-widget input.input');
    await input.fill(text);
    await input.press('Enter');
    await input.waitFor({ state: 'hidden' });
  }

  async notification(text: string): Promise<void> {
    await this.page.locator('.notification-toast').filter({ hasText: text }).first().waitFor();
  }

  async clearNotifications(): Promise<void> {
    await this.command('Notifications: Clear All Notifications');
    await this.page.locator('.notification-toast').first().waitFor({ state: 'detached' });
    await this.page.locator('.editor-instance .view-lines').first().focus();
  }

  /** Events of suggestions as the language server has counted them: kind -> how many. */
  async events(): Promise<Record<string, number>> {
    await this.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: this.#server.origin });
    await this.command('Quern: Copy Diagnostics');
    await this.notification('diagnostics are in the clipboard');
    const text = await this.page.evaluate('navigator.clipboard.readText()');
    await this.clearNotifications();
    const statistics = /^statistics: `(.*)`$/m.exec(String(text))?.[1] ?? '{}';
    return (JSON.parse(statistics) as { events?: Record<string, number> }).events ?? {};
  }

  /** For the documentation, where a folder for it is named. */
  async picture(name: string): Promise<void> {
    const folder = process.env.EDITOR_PICTURES;
    if (folder) await this.page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled' });
  }

  press(key: string): Promise<void> {
    return this.page.keyboard.press(key);
  }

  type(text: string): Promise<void> {
    return this.page.keyboard.type(text);
  }

  /** Waits for ghost text that holds `text`; what VS Code dropped, as when a setting arrives between, is asked for by hand. */
  async ghost(text: string): Promise<void> {
    const ghost = this.page.locator(GHOST).filter({ hasText: text }).first();
    for (const until = Date.now() + LIMIT_MS; Date.now() < until; ) {
      const isThere = await ghost.waitFor({ timeout: PATIENCE_MS }).then(
        () => true,
        () => false,
      );
      if (isThere) return;
      await this.command('Quern: Suggest Now');
    }
    await ghost.waitFor();
  }

  async noGhost(): Promise<void> {
    await this.page.locator(GHOST).first().waitFor({ state: 'detached' });
  }

  /** Saves until the file is `expected`. */
  saved(name: string, expected: string): Promise<void> {
    return this.savedAs(name, (text) => text === expected, expected);
  }

  async savedAs(name: string, fits: (text: string) => boolean, expected = 'another text'): Promise<void> {
    const until = Date.now() + LIMIT_MS;
    while (true) {
      await this.press('Control+S');
      const text = this.#server.files.get(name)?.toString() ?? '';
      if (fits(text)) return;
      if (Date.now() > until)
        throw new Error(`${name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(text)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
