// node healthcheck.mjs URL: exit code 0 when it answers 200 within two seconds. For images, which have no curl.
const url = process.argv[2];
if (!url) {
  process.stderr.write('usage: node healthcheck.mjs URL\n');
  process.exit(2);
}
try {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  if (response.status !== 200) {
    process.stderr.write(`${url}: expected 200, got ${response.status}\n`);
    process.exitCode = 1;
  }
} catch (error) {
  process.stderr.write(`${url}: ${error.cause?.message ?? error.message}\n`);
  process.exitCode = 1;
}
