/** A clock that only moves when told, a WebSocket that does what a test says, and a page. */

import { readFileSync } from "node:fs";

export const CLIENT = new URL(
  "../../django_ws_dispatch/static/django_ws_dispatch/client.js",
  import.meta.url,
);
export const { connect } = await import(CLIENT);
export const source = readFileSync(CLIENT, "utf-8");
export const V1 = "django-ws-dispatch.v1";

const real = { setTimeout, clearTimeout, setImmediate, now: performance.now, random: Math.random };

/** Return once nothing is left that only waits for promises. */
export const settle = () => new Promise((resolve) => real.setImmediate(resolve));

export class Clock {
  now = 0;
  #next = 1;
  #timers = new Map();
  #heap = []; // of [when, number], the earliest first

  /** Take the place of the real one until the test is over. */
  install(test) {
    globalThis.setTimeout = (run, ms = 0) => {
      // As real ones: what is no number, is negative, or too large, is 1.
      const delay = ms >= 0 && ms < 2 ** 31 ? ms : 1;
      const timer = [this.now + delay, this.#next++];
      this.#timers.set(timer[1], run);
      this.#push(timer);
      return timer[1];
    };
    globalThis.clearTimeout = (number) => void this.#timers.delete(number);
    performance.now = () => this.now;
    test?.after(() => {
      Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
      performance.now = real.now;
      Math.random = real.random;
    });
    return this;
  }

  /** How many timers are set. */
  get waiting() {
    return this.#timers.size;
  }

  /** Let so many ms go by, with all that is due meanwhile. */
  async pass(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const timer = this.#heap[0];
      if (!timer || timer[0] > end) break;
      this.#pop();
      const run = this.#timers.get(timer[1]);
      if (!run) continue;
      this.#timers.delete(timer[1]);
      this.now = Math.max(this.now, timer[0]);
      run();
      await settle();
    }
    this.now = Math.max(this.now, end);
  }

  /** The page stands still for so many ms: what is due meanwhile comes late. */
  async freeze(ms) {
    this.now += ms;
    await this.pass(0);
  }

  #push(timer) {
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(heap[at], heap[above])) break;
      [heap[at], heap[above]] = [heap[above], heap[at]];
      at = above;
    }
  }

  #pop() {
    const heap = this.#heap;
    const last = heap.pop();
    if (!heap.length) return;
    heap[0] = last;
    for (let at = 0; ; ) {
      let least = at;
      for (const below of [2 * at + 1, 2 * at + 2]) {
        if (below < heap.length && isBefore(heap[below], heap[least])) least = below;
      }
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least], heap[at]];
      at = least;
    }
  }
}

const isBefore = (one, other) => one[0] - other[0] < 0 || (one[0] === other[0] && one[1] < other[1]);

/** A class of WebSockets that a test plays the server of. `all` has every one that was made. */
export function scripted() {
  return class Scripted {
    static all = [];
    static get last() {
      return this.all.at(-1);
    }

    readyState = 0;
    protocol = "";
    binaryType = "blob";
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    sent = [];
    closed = null; // [code, reason] that the page closed it with

    constructor(url, protocols) {
      this.url = url;
      this.protocols = protocols;
      new.target.all.push(this);
    }

    send(data) {
      if (this.readyState === 0) throw new DOMException("not open", "InvalidStateError");
      this.sent.push(data);
    }

    close(code, reason) {
      if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
        throw new DOMException("such a code is not for scripts", "InvalidAccessError");
      }
      this.closed ??= [code, reason];
    }

    // What the server does.

    accept(protocol = this.protocols?.[0] ?? "") {
      this.readyState = 1;
      this.protocol = protocol;
      this.onopen?.({});
    }

    /** Accept, and say hello. */
    greet(id = "id", settings = { ping: 25 }) {
      this.accept();
      this.frame(["hello", id, settings]);
    }

    say(data) {
      this.onmessage?.({ data });
    }

    /** A frame with such a head, and JSON or a text as its payload. */
    frame(head, payload = "") {
      const text = typeof payload === "string" ? payload : JSON.stringify(payload);
      this.say(`${head === null ? "" : JSON.stringify(head)}\n${text}`);
    }

    /** Close it, as the server; 1006: it is lost. */
    end(code, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason, wasClean: code !== 1006 });
    }

    /** Refuse the handshake: browsers send both events, Node the first alone. */
    refuse(node = false) {
      if (!node) this.readyState = 3;
      this.onerror?.({});
      if (!node) this.onclose?.({ code: 1006, reason: "", wasClean: false });
    }

    /** The heads that the page sent. */
    get heads() {
      return this.sent
        .filter((data) => typeof data === "string")
        .map((data) => data.slice(0, data.indexOf("\n")))
        .filter(Boolean)
        .map((head) => JSON.parse(head));
    }
  };
}

const TYPES = ["open", "message", "joined", "presence", "gap", "state", "closed"];

/** Connect under a clock and with random numbers of 0.5; `seen` has all events, in order. */
export async function begin(test, { url = "ws://site.test/ws/", random = 0.5, ...options } = {}) {
  const clock = new Clock().install(test);
  Math.random = () => random;
  const server = scripted();
  const warned = test.mock.method(console, "warn", () => {}).mock;
  const socket = connect(url, { WebSocket: server, ...options });
  test.after(() => socket.close());
  const seen = [];
  for (const type of TYPES) socket.on(type, (detail) => seen.push([type, detail]));
  await settle();
  return {
    clock,
    server,
    socket,
    seen,
    /** The details of the events of a type. */
    details: (type) => seen.filter(([one]) => one === type).map(([, detail]) => detail),
    /** The lines in the page's console. */
    warnings: () => warned.calls.map((call) => call.arguments.map(String).join(" ")),
  };
}

/** Connect, and have the server say hello. */
export async function open(test, options) {
  const all = await begin(test, options);
  if (options?.plain) all.server.last.accept();
  else all.server.last.greet();
  all.seen.length = 0;
  return all;
}

/** Be in a browser, until the test is over: window, document and location. */
export function page(test, href = "https://site.test/rooms/1/?q=1#top") {
  const window = new EventTarget();
  const document = new EventTarget();
  document.hidden = false;
  const listening = { count: 0 };
  for (const target of [window, document]) {
    const add = target.addEventListener.bind(target);
    target.addEventListener = (type, run, options) => {
      listening.count += 1;
      options?.signal?.addEventListener("abort", () => (listening.count -= 1));
      add(type, run, options);
    };
  }
  const globals = { addEventListener: window.addEventListener, document, location: { href } };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    test.after(() => delete globalThis[name]);
  }
  return {
    listening,
    fire: (type, more) => window.dispatchEvent(Object.assign(new Event(type), more)),
    show(visible) {
      document.hidden = !visible;
      document.dispatchEvent(new Event("visibilitychange"));
    },
  };
}

/** The object in a token. */
export const decode = (token) => JSON.parse(Buffer.from(token, "base64url").toString());
export const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
/** The object in the token that a socket offered. */
export const offered = (socket) => decode(socket.protocols[1].slice("since.".length));
