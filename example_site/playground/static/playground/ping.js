import { append, clock, LiveSocket, showState } from "./socket.js";

const KEPT = 200; // lines of log

for (const card of document.querySelectorAll("[data-ping]")) {
  const find = (selector) => card.querySelector(selector);
  const log = find(".log");
  const form = find("[data-send]");
  const socket = new LiveSocket(() => card.dataset.ping);
  let last = socket.state;

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
    find("[data-connect]").disabled = !idle;
    find("[data-disconnect]").disabled = idle;
    for (const element of form.elements) element.disabled = !open;
    if (open) {
      write("info", "open");
      form.elements.message.focus({ preventScroll: true });
    } else if (last === "open") {
      write("info", socket.state === "waiting" ? "lost" : "closed");
    }
    last = socket.state;
  });
  find("[data-connect]").addEventListener("click", () => socket.open());
  find("[data-disconnect]").addEventListener("click", () => {
    socket.close();
    find("[data-connect]").focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { message } = form.elements;
    if (socket.send(message.value)) write("out", message.value);
    message.select();
  });
}
