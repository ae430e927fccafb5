// Runs inside the sandbox, as `node -e`, around a command with `network: proxy`: programs find an HTTP proxy at 127.0.0.1:3128, which
// hands every connection to the egress proxy's socket. The command keeps this program's standard streams, and its end is this
// program's end. Arguments: the port, the socket, the command.
const { connect, createServer } = process.getBuiltinModule?.('node:net') ?? require('node:net');
const { spawn } = process.getBuiltinModule?.('node:child_process') ?? require('node:child_process');

const [port, socketPath, program, ...args] = process.argv.slice(1);
const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGABRT: 6,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

const server = createServer({ allowHalfOpen: true }, (inner) => {
  const outer = connect({ path: socketPath, allowHalfOpen: true });
  inner.pipe(outer);
  outer.pipe(inner);
  for (const side of [inner, outer]) {
    side.on('error', () => {
      inner.destroy();
      outer.destroy();
    });
  }
});

server.listen(Number(port), '127.0.0.1', () => {
  const child = spawn(program, args, { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    console.error(`${program}: ${error.code}`);
    process.exit(127);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (SIGNALS[signal] ?? 0)));
});
server.on('error', (error) => {
  console.error(`the forwarder cannot listen: ${error.code}`);
  process.exit(126);
});
