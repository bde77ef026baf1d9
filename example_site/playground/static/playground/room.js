import { connect } from "../django_ws_dispatch/client.js";
import { append, clock, loadAgain, reconnects, showState } from "./ui.js";

const room = document.querySelector("[data-room]");
const chat = room.querySelector(".chat");
const people = room.querySelector("[data-people]");
const empty = room.querySelector("[data-empty]");
const error = room.querySelector("[data-error]");
const form = room.querySelector("[data-send]");
const { text } = form.elements;
const known = new Map(); // the messages on the page, by id
let last = null; // the newest of them

const SAME_BREATH = 5 * 60_000; // ms in which one's further messages need no name of their own

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

// The first letter on a colour that goes with the name.
function face(name) {
  const made = element("span", "face", [...name][0]);
  const sum = [...name].reduce((hash, letter) => (hash * 31 + letter.codePointAt(0)) % 360, 40);
  made.ariaHidden = "true";
  made.style.setProperty("--hue", sum);
  return made;
}

function show(message) {
  const { author, at } = message;
  const item = element("li", author === room.dataset.me ? "mine" : "theirs");
  const by = element("p", "by");
  by.append(element("b", "", author), " ", clock(at));
  item.append(by, face(author), element("p", "said", message.text));
  const more = last?.author === author && new Date(at) - new Date(last.at) < SAME_BREATH;
  item.classList.toggle("more", more);
  last = message;
  append(chat, item);
  empty.hidden = true;
}

// What came meanwhile stays.
function load(page) {
  const messages = JSON.parse(page.getElementById("messages").textContent);
  for (const message of messages) known.set(message.id, message);
  chat.replaceChildren();
  last = null;
  [...known.values()].sort((one, other) => one.id - other.id).forEach(show);
  empty.hidden = known.size > 0;
}

load(document);
const socket = connect(room.dataset.room, { since: room.dataset.since, reconnects });
socket.on("message", ({ data, group }) => {
  const message = JSON.parse(data);
  if (!group) {
    error.textContent = message.error;
  } else if (!known.has(message.id)) {
    known.set(message.id, message);
    show(message);
    // It has been said: so long it stays in the box.
    if (message.author === room.dataset.me && message.text === text.value.trim()) form.reset();
  }
});
socket.on("gap", () => loadAgain(load));
socket.on("presence", ({ present, count }) => {
  const items = (present ?? []).map(({ info: name }) => {
    const item = element("li");
    item.append(face(name), element("span", "", name));
    return item;
  });
  const more = count - items.length; // Of a great many only the number is known.
  people.replaceChildren(...items, ...(more ? [element("li", "", `${more} more`)] : []));
});
socket.on("state", ({ state }) => {
  if (state !== "open") people.replaceChildren();
  form.querySelector("button").disabled = state !== "open";
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  error.textContent = "";
  if (socket.state !== "open" || !text.value.trim()) return;
  socket.sendJSON({ text: text.value.trim() });
  text.select(); // Who types on replaces it.
});
showState(socket, room.querySelector(".state"));
