/**
 * A WebSocket that comes back, and says honestly how it is doing.
 *
 *     const socket = new LiveSocket(() => "ws://localhost:8000/ws/ping/");
 *     socket.addEventListener("message", (event) => console.log(event.data));
 *     showState(socket, document.querySelector(".state"));
 *     socket.open();
 *
 * States, each told by a "state" event:
 *
 *   closed      not connected, and not trying
 *   connecting  the handshake is under way
 *   open        connected
 *   waiting     lost; `retryAt` (ms since the epoch) says when the next try starts
 *   refused     the server does not want this connection: `code` and `why` say so; only open() tries
 *               again
 */

// Close codes after which coming back makes sense: the server or the way to it is at fault, or this
// page was too slow. Anything else, 44xx above all, is meant.
const COMES_BACK = new Set([1001, 1006, 1011, 1012, 1013]);

const WHY = {
  4400: "The server did not understand the request.",
  4401: "You are logged out.",
  4403: "You are not allowed here, or were removed.",
  4404: "This is gone.",
  4408: "Closed for lack of activity.",
  4429: "Too many messages at once.",
};

const SHORTEST = 500; // ms before the first new try; doubled with each one that fails
const LONGEST = 30_000;
const STEADY = 5_000; // ms open after which a connection counts as a good one
const ASKING = 10_000; // ms for the site to say over HTTP why it did not open
const REFUSALS = 5; // handshakes that fail in a row while the site itself answers

export class LiveSocket extends EventTarget {
  state = "closed";
  code = 0;
  why = "";
  retryAt = 0;
  wasOpen = false; // at any time since open() was called
  #url;
  #askUrl;
  #socket = null;
  #timer = 0;
  #steady = 0;
  #failures = 0;
  #refusals = 0;
  #wanted = false;

  /**
   * @param {() => string} url - called for each try, so that a page can say what it has already.
   * @param {string} askUrl - asked over HTTP when a connection never opened, since a browser does not
   *   tell why: the page itself, if it asks for the login that its socket needs.
   */
  constructor(url, askUrl = location.href) {
    super();
    this.#url = url;
    this.#askUrl = askUrl;
    addEventListener("online", () => this.state === "waiting" && this.open());
    // A page kept for the back button must not keep its socket, and gets it back when it is shown.
    addEventListener("pagehide", () => this.#drop());
    addEventListener("pageshow", (event) => event.persisted && this.#wanted && this.open());
  }

  /** Connect now: from closed, instead of waiting, or once more after a refusal. */
  open() {
    if (this.state === "connecting" || this.state === "open") return;
    if (!this.#wanted) this.wasOpen = false;
    this.#wanted = true;
    if (this.state === "refused") this.#refusals = 0;
    this.#connect();
  }

  close() {
    this.#wanted = false;
    this.#failures = this.#refusals = 0;
    this.#drop();
    this.#become("closed");
  }

  /** Return whether the message went out. */
  send(data) {
    if (this.state !== "open") return false;
    this.#socket.send(typeof data === "string" ? data : JSON.stringify(data));
    return true;
  }

  /** Come back as after a loss: what this connection brings is of no use. */
  again() {
    this.#drop();
    this.#wait();
  }

  #connect() {
    this.#drop();
    this.#become("connecting");
    const socket = new WebSocket(this.#url());
    let opened = false;
    this.#socket = socket;
    const current = (handle) => (event) => socket === this.#socket && handle(event);
    socket.onopen = current(() => {
      opened = this.wasOpen = true;
      this.#refusals = 0;
      this.#steady = setTimeout(() => (this.#failures = 0), STEADY);
      this.#become("open");
    });
    socket.onmessage = current((event) =>
      this.dispatchEvent(new MessageEvent("message", { data: event.data })),
    );
    socket.onclose = current((event) => {
      clearTimeout(this.#steady);
      this.#socket = null;
      if (!opened) this.#ask();
      else if (COMES_BACK.has(event.code)) this.#wait();
      else if (event.code === 1000) this.close();
      else this.#refuse(event.code, event.reason);
    });
  }

  // To a browser every denied handshake is a 1006. The site itself can say more.
  async #ask() {
    let answer;
    try {
      answer = await fetch(this.#askUrl, {
        method: "HEAD",
        redirect: "manual",
        cache: "no-store",
        signal: AbortSignal.timeout(ASKING),
      });
    } catch {
      answer = null; // The server is away.
    }
    if (this.state !== "connecting" || this.#socket) return; // Closed, or opened anew, meanwhile.
    if (answer === null) return this.#wait();
    if (answer.type === "opaqueredirect" || answer.status === 401) {
      return this.#refuse(4401);
    }
    if (answer.status >= 400 && answer.status < 500) {
      return this.#refuse(4000 + answer.status);
    }
    if (answer.ok && ++this.#refusals >= REFUSALS) {
      return this.#refuse(1006, "The site answers, but refuses the connection.");
    }
    this.#wait();
  }

  #wait() {
    if (!this.#wanted) return;
    const longest = Math.min(LONGEST, SHORTEST * 2 ** this.#failures++);
    // Jitter: after a restart not every page comes back in the same instant.
    const delay = longest * (0.5 + Math.random() / 2);
    this.retryAt = Date.now() + delay;
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#become("waiting");
  }

  #refuse(code, why) {
    this.#wanted = false;
    this.code = code;
    this.why = WHY[code] || why || `The server closed the connection (${code}).`;
    this.#become("refused");
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#steady);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    if (this.state !== "refused") this.state = "closed";
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/**
 * Return a LiveSocket on groups that remember. A page that comes back says what it has, and gets the rest; what
 * is not to be had any more it takes from itself, as the server renders it now.
 *
 * @param {(since: any) => string} url - of the socket, for a page that has everything up to `since`.
 * @param {(page: Document) => any} load - shows what is on the page, and returns its `since`.
 * @param {(item: object) => void} show - shows one thing more, which the page may have.
 */
export function follow(url, load, show) {
  let since = load(document);
  let done = Promise.resolve();
  const socket = new LiveSocket(() => url(since));
  const reload = async () => {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(ASKING) });
    since = load(new DOMParser().parseFromString(await answer.text(), "text/html"));
  };
  const take = (item) => {
    if (item.type === "gap" || item.recovered === false) return reload().catch(() => socket.again());
    if (item.type === "joined") since = item.since;
    else show(item);
  };
  // One after the other: what comes while the page loads is shown behind that.
  socket.addEventListener("message", ({ data }) => {
    done = done.then(() => take(JSON.parse(data))).catch(reportError);
  });
  return socket;
}

/** Show how `socket` is doing in a `.state` element (templates/playground/_state.html). */
export function showState(socket, element) {
  const text = element.querySelector("[data-state-text]");
  const countdown = element.querySelector("[data-countdown]");
  const retry = element.querySelector("[data-retry]");
  const login = element.querySelector("[data-login]");
  const words = {
    closed: () => "Not connected",
    connecting: () => "Connecting…",
    open: () => "Connected",
    waiting: () => `${socket.wasOpen ? "Connection lost" : "No connection"}, trying again`,
    refused: () => socket.why,
  };
  let ticking = 0;
  // Apart from the text, so that a screen reader tells each state and not each second.
  const tick = () => {
    const seconds = Math.max(1, Math.ceil((socket.retryAt - Date.now()) / 1000));
    countdown.textContent = socket.state === "waiting" ? `in ${seconds} s` : "";
  };
  const show = () => {
    clearInterval(ticking);
    if (socket.state === "waiting") ticking = setInterval(tick, 250);
    tick();
    element.dataset.state = socket.state;
    text.textContent = words[socket.state]();
    login.hidden = socket.state !== "refused" || socket.code !== 4401;
    retry.hidden = !login.hidden || (socket.state !== "waiting" && socket.state !== "refused");
  };
  retry.addEventListener("click", () => socket.open());
  socket.addEventListener("state", show);
  show();
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
