/** What the pages share: how a socket is doing, the page once more, lists and times. */

// Ends that are meant: the page does not come back by itself.
const WHY = {
  1000: "Not connected",
  1006: "You are logged out.", // as the site has said: see reconnects()
  4400: "The server did not understand the request.",
  4401: "You are logged out.",
  4403: "You are not allowed here, or were removed.",
  4404: "This is gone.",
};
const ASKING = 10_000; // ms for the site to answer

const ask = (method, redirect) =>
  fetch(location.href, { method, redirect, cache: "no-store", signal: AbortSignal.timeout(ASKING) });

/**
 * The client's option `reconnects`. To a browser every refused handshake is a 1006; the page itself,
 * which asks for the login that its socket needs, can say more. Without an answer the client tries on.
 */
export async function reconnects({ code, opened }) {
  if (opened) return code === 1006 || !(code in WHY);
  return (await ask("HEAD", "manual")).type !== "opaqueredirect";
}

/** Hand `load` this page as the server renders it now; later, where the server is away. */
export async function loadAgain(load) {
  let html = null;
  while (html === null) {
    try {
      const answer = await ask("GET", "manual");
      if (!answer.ok && answer.status < 500) return; // No longer this reader's: the socket says why.
      if (answer.ok) html = await answer.text();
    } catch {}
    if (html === null) await new Promise((resolve) => setTimeout(resolve, 1000 + Math.random() * 2000));
  }
  load(new DOMParser().parseFromString(html, "text/html"));
}

/** Show how `socket` is doing in a `.state` element (templates/playground/_state.html). */
export function showState(socket, element) {
  const find = (name) => element.querySelector(`[data-${name}]`);
  const [text, countdown, retry, login] = ["state-text", "countdown", "retry", "login"].map(find);
  let wasOpen = false;
  let ticking = 0;
  const show = (state, words) => {
    clearInterval(ticking);
    countdown.textContent = "";
    element.dataset.state = state;
    text.textContent = words;
    login.hidden = state !== "refused" || words !== WHY[4401];
    retry.hidden = !login.hidden || (state !== "waiting" && state !== "refused");
  };
  // Apart from the text, so that a screen reader tells each state and not each second.
  const countDown = (until) => {
    const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
    countdown.textContent = `in ${seconds} s`;
  };
  const words = {
    connecting: () => "Connecting…",
    open: () => "Connected",
    waiting: () => `${wasOpen ? "Connection lost" : "No connection"}, trying again`,
  };
  socket.on("state", ({ state, delay }) => {
    if (state === "closed") return; // Its own event says why.
    wasOpen ||= state === "open";
    show(state, words[state]());
    if (delay === null) return;
    const until = Date.now() + delay;
    countDown(until);
    ticking = setInterval(countDown, 250, until);
  });
  socket.on("closed", ({ code }) => {
    wasOpen = false;
    show(code === 1000 ? "closed" : "refused", WHY[code] ?? `The server closed the connection (${code}).`);
  });
  retry.addEventListener("click", () => socket.reconnect());
}

/** Append a list item and keep the newest in sight, unless the reader has scrolled up to read. */
export function append(list, item) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** Return a time element for an ISO date, or for now: the reader's own time, with the day if it is another. */
export function clock(iso) {
  const date = iso ? new Date(iso) : new Date();
  const time = document.createElement("time");
  const today = date.toDateString() === new Date().toDateString();
  time.dateTime = date.toISOString();
  time.textContent = date.toLocaleString([], {
    ...(today ? {} : { day: "numeric", month: "short" }),
    hour: "2-digit",
    minute: "2-digit",
  });
  return time;
}
