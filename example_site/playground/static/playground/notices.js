import { connect } from "../django_ws_dispatch/client.js";
import { clock, loadAgain, reconnects, showState } from "./ui.js";

const page = document.querySelector("[data-notices]");
const feed = page.querySelector(".feed");
const form = page.querySelector("[data-send]");
const error = page.querySelector("[data-error]");
const empty = page.querySelector("[data-empty]");

// Newest first, also where those to everybody come before those to one. Any may be there already.
function show(item) {
  const items = [...feed.children];
  const id = Number(item.dataset.id);
  if (items.some((other) => Number(other.dataset.id) === id)) return;
  feed.insertBefore(item, items.find((other) => Number(other.dataset.id) < id) ?? null);
  empty.hidden = true;
}

function load(rendered) {
  rendered.querySelectorAll(".feed > li").forEach(show);
  for (const time of feed.querySelectorAll("time")) time.replaceWith(clock(time.dateTime));
}

function made(notice) {
  const item = document.createElement("li");
  const text = document.createElement("p");
  const small = document.createElement("small");
  item.className = "new";
  item.dataset.id = notice.id;
  text.textContent = notice.text;
  small.append(notice.for ? "to you · " : "to everybody · ", clock(notice.at));
  item.append(text, small);
  return item;
}

load(document);
const socket = connect(page.dataset.notices, { since: page.dataset.since, reconnects });
socket.on("message", ({ data }) => show(made(JSON.parse(data))));
socket.on("gap", () => loadAgain(load));
showState(socket, page.querySelector(".state"));

// Without JavaScript the same form posts and comes back.
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  error.textContent = "";
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      redirect: "manual",
    });
    if (answer.ok) form.elements.text.value = "";
    else error.textContent = answer.status === 400 ? (await answer.json()).error : "Not sent: are you still logged in?";
  } catch {
    error.textContent = "Not sent: the server does not answer.";
  }
});
