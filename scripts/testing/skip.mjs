/** Suites that QUERN_TEST_SKIP leaves out, a comma-separated list: QUERN_TEST_SKIP=cuda,tsan */
export function skippedSuites() {
  const names = (process.env.QUERN_TEST_SKIP ?? '').split(',').map((name) => name.trim());
  return new Set(names.filter((name) => name !== ''));
}
