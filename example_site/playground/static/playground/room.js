import { append, clock, follow, showState } from "./socket.js";

const room = document.querySelector("[data-room]");
const chat = room.querySelector(".chat");
const people = room.querySelector("[data-people]");
const empty = room.querySelector("[data-empty]");
const form = room.querySelector("[data-send]");
const shown = new Set(); // ids of the messages on the page
let last = null; // the newest message: who wrote it, and when

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

const show = {
  message({ id, author, text, at }) {
    if (shown.has(id)) return;
    shown.add(id);
    const item = element("li", author === room.dataset.me ? "mine" : "theirs");
    const by = element("p", "by");
    by.append(element("b", "", author), " ", clock(at));
    item.append(by, face(author), element("p", "said", text));
    const more = last?.author === author && new Date(at) - last.at < SAME_BREATH;
    item.classList.toggle("more", more);
    last = { author, at: new Date(at) };
    append(chat, item);
    empty.hidden = true;
  },
  people({ names, more }) {
    const items = names.map((name) => {
      const item = element("li");
      item.append(face(name), element("span", "", name));
      return item;
    });
    people.replaceChildren(...items, ...(more ? [element("li", "", `${more} more`)] : []));
  },
  // The server could not pass it on: it is in the box again.
  unsaid({ text }) {
    form.elements.text.value ||= text;
  },
};

function load(page) {
  const { since, messages } = JSON.parse(page.getElementById("state").textContent);
  chat.replaceChildren();
  shown.clear();
  last = null;
  messages.forEach(show.message);
  empty.hidden = shown.size > 0;
  return since;
}

const socket = follow(
  (since) => `${room.dataset.room}?since=${since}`,
  load,
  (item) => show[item.type]?.(item),
);
socket.addEventListener("state", () => {
  const open = socket.state === "open";
  if (!open) people.replaceChildren();
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
