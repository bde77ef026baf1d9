import { connect } from "../django_ws_dispatch/client.js";
import { append, clock, showState } from "./ui.js";

const KEPT = 200; // lines of log

for (const card of document.querySelectorAll("[data-ping]")) {
  const find = (selector) => card.querySelector(selector);
  const log = find(".log");
  const form = find("[data-send]");
  const toggle = find("[data-toggle]");
  let socket = null;
  let last = "closed";
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

  const begin = () => {
    // The raw handler speaks no subprotocol.
    socket = connect(card.dataset.ping, { plain: "plain" in card.dataset });
    showState(socket, find(".state"));
    socket.on("message", ({ data }) => write("in", data));
    socket.on("state", ({ state }) => {
      toggle.textContent = state === "closed" ? "Connect" : "Disconnect";
      toggle.classList.toggle("quiet", state !== "closed");
      form.querySelector("button").disabled = state !== "open";
      if (state === "open") {
        write("info", "open");
        if (asked) form.elements.message.focus({ preventScroll: true });
        asked = false;
      } else if (last === "open") {
        write("info", state === "waiting" ? "lost" : "closed");
      }
      last = state;
    });
  };

  toggle.addEventListener("click", () => {
    asked = last === "closed";
    if (!asked) socket.close();
    else if (socket) socket.reconnect();
    else begin();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { message } = form.elements;
    if (last !== "open") return;
    socket.send(message.value);
    write("out", message.value);
    message.select();
  });
}
