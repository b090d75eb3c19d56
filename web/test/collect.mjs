// A viewer on the real socket.io-client: prints what it gets, one JSON line each, until its standard input ends.
// Arguments: the address, the transports (comma-separated), the handshake's auth as JSON, the client's package.
const [address, transports, auth, client] = process.argv.slice(2);
const { io } = await import(client ?? "socket.io-client");
const place = JSON.parse(auth ?? "{}");
const socket = io(address, {
  transports: transports.split(","),
  auth: (answer) => answer(place),
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
});
const say = (name, data) => process.stdout.write(`${JSON.stringify([name, data ?? null])}\n`);

for (const name of ["hello", "state", "position", "gap", "bye"]) socket.on(name, (data) => say(name, data));
socket.on("event", (event) => {
  place.since = event.id;
  say("event", event);
});
socket.io.on("open", () => say("open")); // a session of its own, which may end before its namespace is connected
socket.on("connect", () => say("connect", socket.io.engine.transport.name));
socket.on("connect", () => socket.io.engine.once("upgrade", (transport) => say("upgrade", transport.name)));
socket.on("disconnect", (reason) => say("disconnect", reason));

// What is written to standard input is sent: [name, argument], answered by ["ack", answer].
let text = "";
process.stdin.setEncoding("utf8").on("data", (chunk) => {
  text += chunk;
  const lines = text.split("\n");
  text = lines.pop();
  for (const line of lines) socket.emit(...JSON.parse(line), (answer) => say("ack", answer));
});
process.stdin.on("end", () => {
  socket.disconnect();
});
