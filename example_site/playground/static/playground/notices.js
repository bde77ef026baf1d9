import { clock, LiveSocket, showState } from "./socket.js";

const page = document.querySelector("[data-notices]");
const feed = page.querySelector(".feed");
const form = page.querySelector("[data-send]");
const error = page.querySelector("[data-error]");
let newest = Number(feed.querySelector("[data-id]")?.dataset.id ?? 0);

// From the first try on: something may have been sent since the page was rendered.
const socket = new LiveSocket(() => `${page.dataset.notices}?after=${newest}`);

socket.addEventListener("message", (event) => {
  const notice = JSON.parse(event.data);
  if (notice.id <= newest) return;
  newest = notice.id;
  const item = document.createElement("li");
  const text = document.createElement("p");
  const small = document.createElement("small");
  item.className = "new";
  text.textContent = notice.text;
  small.append(notice.for ? "to you · " : "to everybody · ", clock(notice.at));
  item.append(text, small);
  feed.prepend(item);
  page.querySelector("[data-empty]").hidden = true;
});

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

for (const time of feed.querySelectorAll("time")) time.replaceWith(clock(time.dateTime));
showState(socket, page.querySelector(".state"));
socket.open();
