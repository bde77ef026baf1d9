import { clock, follow, showState } from "./socket.js";

const page = document.querySelector("[data-notices]");
const feed = page.querySelector(".feed");
const form = page.querySelector("[data-send]");
const error = page.querySelector("[data-error]");
const empty = page.querySelector("[data-empty]");

function load(rendered) {
  feed.replaceChildren(...rendered.querySelectorAll(".feed > li"));
  for (const time of feed.querySelectorAll("time")) time.replaceWith(clock(time.dateTime));
  empty.hidden = feed.children.length > 0;
  return JSON.parse(rendered.getElementById("since").textContent);
}

function show(notice) {
  const items = [...feed.children];
  if (items.some((item) => Number(item.dataset.id) === notice.id)) return;
  const item = document.createElement("li");
  const text = document.createElement("p");
  const small = document.createElement("small");
  item.className = "new";
  item.dataset.id = notice.id;
  text.textContent = notice.text;
  small.append(notice.for ? "to you · " : "to everybody · ", clock(notice.at));
  item.append(text, small);
  // Newest first, also where those to everybody come before those to one.
  feed.insertBefore(item, items.find((older) => Number(older.dataset.id) < notice.id) ?? null);
  empty.hidden = true;
}

const socket = follow((since) => `${page.dataset.notices}?${new URLSearchParams(since)}`, load, show);

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

showState(socket, page.querySelector(".state"));
socket.open();
