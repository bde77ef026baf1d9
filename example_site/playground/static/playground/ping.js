import { append, clock, LiveSocket, showState } from "./socket.js";

const KEPT = 200; // lines of log

for (const card of document.querySelectorAll("[data-ping]")) {
  const find = (selector) => card.querySelector(selector);
  const log = find(".log");
  const form = find("[data-send]");
  const socket = new LiveSocket(() => card.dataset.ping);
  const toggle = find("[data-toggle]");
  let last = socket.state;
  let asked = false; // by the button: coming back by itself must not move the focus

  const write = (kind, text) => {
    const item = document.createElement("li");
    const said = document.createElement("span");
    item.className = kind;
    said.textContent = text;
    item.append(clock(), said);
    append(log, item);
    if (log.children.length > KEPT) log.firstElementChild.remove();
  };

  showState(socket, find(".state"));
  socket.addEventListener("message", (event) => write("in", event.data));
  socket.addEventListener("state", () => {
    const open = socket.state === "open";
    const idle = socket.state === "closed" || socket.state === "refused";
    toggle.textContent = idle ? "Connect" : "Disconnect";
    toggle.classList.toggle("quiet", !idle);
    form.querySelector("button").disabled = !open;
    if (open) {
      write("info", "open");
      if (asked) form.elements.message.focus({ preventScroll: true });
      asked = false;
    } else if (last === "open") {
      write("info", socket.state === "waiting" ? "lost" : "closed");
    }
    last = socket.state;
  });
  toggle.addEventListener("click", () => {
    asked = socket.state === "closed" || socket.state === "refused";
    if (asked) socket.open();
    else socket.close();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { message } = form.elements;
    if (socket.send(message.value)) write("out", message.value);
    message.select();
  });
}
