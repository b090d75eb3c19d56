// The mind on a page of this site: bridge and site have one origin, since nginx serves both.
const main = document.getElementById("mind");
const mind = new URL(main.dataset.url, location.href);
const SENSES_MAX = 8;
const RETRY_MS = 2000;

const connect = await loaded();

// Asked anew on every connection, so that the pass is never an old one. Never in an address: those are kept in logs.
const token = async () => {
  const answer = await fetch("/mind-token");
  if (!answer.ok) throw new Error("you are not logged in any more");
  return (await answer.json()).token;
};

/** Which process lives the cycles, and whether it is gone. */
let [run, isGone] = ["", false];

const connection = connect(mind, { token, catchup: 200, onState: tell, onEvent: follow });
connection.on("sense.project", ({ data }) => {
  const line = document.createElement("li");
  line.textContent = String(data.projection); // as text: what a mind says is not to be trusted with markup
  const list = document.getElementById("senses");
  list.prepend(line);
  while (list.children.length > SENSES_MAX) list.lastChild.remove();
});
// What changes seldom may lie farther back than the newest of all events: each has the last of its own type.
connect(mind, { token, types: "state.mood", catchup: 1 }).on("state.mood", ({ data }) => show("mood", data.new));
connect(mind, { token, types: "decision", catchup: 1 }).on("decision", ({ data }) => {
  show("decision", `${data.intention}: ${data.rationale ?? ""}`);
});

/** The mind is gone when it says so, or when the bridges no longer hear of its process. */
function follow({ type, cycle, by = "", data }) {
  if (type === "cycle.start") run = by.slice(0, by.lastIndexOf(":"));
  if (type === "daemon.stop") isGone = true;
  else if (type === "broadcast.producer") isGone ||= data.state === "down" && data.producer === run;
  else if (!type.startsWith("broadcast.")) isGone = false;
  if (cycle) show("cycle", cycle);
  tell(connection.state);
}

function tell(state) {
  const isLive = state.name === "live" && state.redis !== "down";
  show("state", isLive && isGone ? "The mind is gone: this is the last of it." : sentence(state));
}

/** The client comes from the bridge, too: while that is down there is none. */
async function loaded() {
  for (let attempt = 0; ; attempt += 1) {
    try {
      // A browser may keep what failed under one address.
      return (await import(new URL(`client.js?attempt=${attempt}`, mind))).connect;
    } catch {
      show("state", "The bridge cannot be reached. Trying again…");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

/** How it stands with the connection; what the mind does is another matter. */
function sentence(state) {
  switch (state.name) {
    case "live":
      return state.redis === "down" ? "The bridge runs, but cannot read what the mind says." : "You see the mind live.";
    case "waiting":
      return state.code === "unreachable" || state.code === "dropped"
        ? "The bridge cannot be reached. Trying again…"
        : `Not connected: ${state.reason}. Trying again…`;
    case "ended":
      return `Not connected: ${state.reason}.`;
    default:
      return "Connecting…";
  }
}

function show(id, value) {
  document.getElementById(id).textContent = String(value ?? "–");
}
