// A peer: Socket.IO on Node with ws, WebSocket alone. `node peer_node.mjs PORT`; obeys lines `emit RATE SECONDS`.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false, perMessageDeflate: false });
http.listen(Number(process.argv[2]), "127.0.0.1", 4096, () => console.log("listens"));

let number = 0;
const event = () => ({
  type: "sense.project", ts: new Date().toISOString(), cycle: 42, day: 1551,
  data: { mark: Number(process.hrtime.bigint()), sense: "pain", projection: "Pain: identity_crisis: what am I for?" },
  id: `1771095683456-${number}`, by: `kai-4711-9f3a2c01:${number}`, n: number++,
});

createInterface({ input: process.stdin }).on("line", (line) => {
  const [rate, seconds] = line.split(" ").slice(1).map(Number);
  const began = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(rate * seconds, Math.floor((performance.now() - began) / 1000 * rate));
    for (; sent < due; sent++) io.emit("event", event());
    if (sent >= rate * seconds) { clearInterval(timer); console.log("emitted"); }
  }, Math.max(1, 1000 / rate));
}).on("close", () => process.exit(0));
