import { append, clock, LiveSocket, showState } from "./socket.js";

const room = document.querySelector("[data-room]");
const chat = room.querySelector(".chat");
const empty = room.querySelector("[data-empty]");
const form = room.querySelector("[data-send]");
let newest = 0; // id of the newest message that is on the page
let beat = 0;

// A page that comes back asks for what it has missed.
const socket = new LiveSocket(() => `${room.dataset.room}?after=${newest}`);

const show = {
  message({ id, author, text, at }) {
    if (id <= newest) return;
    newest = id;
    const item = document.createElement("li");
    const who = document.createElement("b");
    const said = document.createElement("p");
    item.className = author === room.dataset.me ? "mine" : "theirs";
    who.textContent = author;
    said.textContent = text;
    item.append(who, clock(at), said);
    append(chat, item);
    empty.hidden = true;
  },
  people({ names }) {
    room.querySelector("[data-people]").textContent = names.join(", ");
    empty.hidden = newest > 0;
  },
};

socket.addEventListener("message", (event) => {
  const item = JSON.parse(event.data);
  show[item.type]?.(item);
});
socket.addEventListener("state", () => {
  const open = socket.state === "open";
  clearInterval(beat);
  if (open) beat = setInterval(() => socket.send({ type: "here" }), room.dataset.beat * 1000);
  else room.querySelector("[data-people]").textContent = "…";
  form.querySelector("button").disabled = !open;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = form.elements.text.value.trim();
  // What could not be sent stays in the box.
  if (text && socket.send({ type: "message", text })) form.reset();
});
showState(socket, room.querySelector(".state"));
socket.open();
