// The mind on a page of this site: bridge and site have one origin, since nginx serves both.
const main = document.getElementById("mind");
const mind = new URL(main.dataset.url, location.href);
const { connect } = await import(new URL("client.js", mind));

const SENSES_MAX = 8;

const connection = connect(mind, {
  // Asked anew on every connection, so that the pass is never an old one. Never in an address: those are kept in logs.
  token: async () => {
    const answer = await fetch("/mind-token");
    if (!answer.ok) throw new Error("you are not logged in any more");
    return (await answer.json()).token;
  },
  catchup: 200,
  onState: ({ name }) => show("state", name),
  onEvent: ({ cycle }) => cycle && show("cycle", cycle),
});
connection.on("state.mood", ({ data }) => show("mood", data.new));
connection.on("decision", ({ data }) => show("decision", `${data.intention}: ${data.rationale ?? ""}`));
connection.on("sense.project", ({ data }) => {
  const line = document.createElement("li");
  line.textContent = String(data.projection); // as text: what a mind says is not to be trusted with markup
  const list = document.getElementById("senses");
  list.prepend(line);
  while (list.children.length > SENSES_MAX) list.lastChild.remove();
});

function show(id, value) {
  document.getElementById(id).textContent = String(value ?? "–");
}
