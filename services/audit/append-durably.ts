// One line more in a file that only grows.
import { open } from 'node:fs/promises';

/** On disk when it returns. On an error the file is cut back to what it was, where that is possible. */
export async function appendDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'a', 0o600);
  try {
    const { size } = await file.stat();
    try {
      await file.writeFile(text);
      await file.datasync();
    } catch (error) {
      await file.truncate(size).catch(() => {}); // a torn line would spoil the one that comes next
      throw error;
    }
  } finally {
    await file.close();
  }
}
