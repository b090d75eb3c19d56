// A page as the specification has it: `io(url)`, `on("event")`, and nothing else. It comes back by itself, and keeps
// its place by Socket.IO's own recovery. Prints what it gets, one JSON line each, until its standard input ends.
// Arguments: the address, the transports (comma-separated).
import { io } from "socket.io-client";

const [address, transports] = process.argv.slice(2);
// What every browser sends by itself, Node does not: the page's origin.
const headers = { Origin: address };
const socket = io(address, {
  transports: transports.split(","),
  extraHeaders: headers,
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
});
const say = (name, data) => process.stdout.write(`${JSON.stringify([name, data ?? null])}\n`);

socket.on("event", (event) => say("event", event));
socket.on("gap", (gap) => say("gap", gap));
socket.on("connect", () => say("connect", { recovered: socket.recovered }));
process.stdin.on("end", () => socket.disconnect()).resume();
