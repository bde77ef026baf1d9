/** A WebSocket that comes back by itself, and goes on where it was: see client.d.ts. */

const PROTOCOL = "django-ws-dispatch.v1";
const TOKEN = 3072; // bytes: 4096 characters of base64

const utf8 = new TextEncoder();
const text = (data) => (typeof data === "string" ? data : new TextDecoder().decode(data));
const isString = (value) => typeof value === "string";

// The server or the way to it is at fault, or this page was too slow. All else is meant.
const COMES_BACK = /^(1001|1005|1006|101[1-5]|4408|4429|45\d\d)$/;

function resolve(url) {
  const at = new URL(url, globalThis.location?.href);
  at.protocol = at.protocol.replace("http", "ws");
  at.hash = "";
  if (!/^wss?:$/.test(at.protocol)) throw new DOMException(`No WebSocket: ${at}`, "SyntaxError");
  return at.href;
}

function readToken(token) {
  try {
    const bytes = atob(token.replaceAll("-", "+").replaceAll("_", "/"));
    const json = text(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
    return json[0] === "{" ? Object.entries(JSON.parse(json)) : [];
  } catch {
    return [];
  }
}

// Entries without a value, and those for which there is no room, are left out.
function writeToken(entries) {
  let json = "";
  for (const [name, value] of entries) {
    const more = `${json && `${json},`}${JSON.stringify(name)}:${JSON.stringify(value)}`;
    if (value?.length && utf8.encode(more).length <= TOKEN - 2) json = more;
  }
  const base64 = json && btoa(String.fromCharCode(...utf8.encode(`{${json}}`)));
  return base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Return the head, null if it is empty and [] if it can not be read, and the payload. */
function readFrame(data) {
  const cut = isString(data) ? data.indexOf("\n") : new Uint8Array(data).indexOf(10);
  const payload = data.slice(cut + 1);
  if (cut === 0) return [null, payload];
  try {
    const head = JSON.parse(text(data.slice(0, Math.max(cut, 0))));
    if (Array.isArray(head)) return [head, payload];
  } catch {}
  return [[]];
}

function writeFrame(head, data) {
  if (isString(data)) return head + data;
  if (data instanceof Blob) return new Blob([head, data]);
  const { buffer = data, byteOffset, byteLength } = data;
  if (byteLength === undefined) throw new TypeError("No string, ArrayBuffer, view or Blob.");
  const bytes = new Uint8Array(head.length + byteLength).fill(10);
  bytes.set(new Uint8Array(buffer, byteOffset, byteLength), head.length);
  return bytes;
}

const byKey = (list = []) =>
  new Map(list.filter((one) => isString(one?.key)).map((one) => [one.key, one]));
const facts = (one) => one && JSON.stringify([one.info, one.sockets, one.since]);

class Socket extends EventTarget {
  #options = {
    since: "",
    plain: false,
    queue: 0,
    minDelay: 500,
    maxDelay: 20000,
    ping: 25000,
    patience: 8000,
    WebSocket: globalThis.WebSocket,
  };
  #source;
  #url = "";
  #state = "connecting";
  #attempt = 0; // tries since it was open
  #refusals = 0; // in a row
  #failures = 0; // ends since a message came: delays grow with them
  #delay = null;
  #turn = 0; // another one whenever what is under way is given up
  #socket = null;
  #timers = {};
  #page;
  #wasOpen = false;
  #id = null;
  #ids = [];
  #latency = null;
  #beat;
  #asked = null; // the oldest ping without an answer
  #pings = 0;
  #pinged;
  #groups = new Map();
  #holds = new Map(); // group -> what waits behind a gap that is to be told
  #queue = [];

  constructor(url, options = {}) {
    super();
    for (const name in options) {
      if (options[name] !== undefined) this.#options[name] = options[name];
    }
    const isFunction = typeof url === "function";
    this.#source = isFunction ? url : () => url;
    if (!isFunction) this.#url = resolve(url);
    for (const [group, value] of readToken(this.#options.since)) {
      if (group && isString(value)) this.#place(group, value);
      if (!group && Array.isArray(value)) this.#ids = value.filter(isString).slice(-8);
    }
    this.#watchPage();
    // Listeners hear of the first try, too.
    queueMicrotask(() => this.#turn || this.#try());
  }

  get url() {
    return this.#url;
  }

  get state() {
    return this.#state;
  }

  get id() {
    return this.#id;
  }

  get latency() {
    return this.#latency;
  }

  get groups() {
    return this.#groups;
  }

  get since() {
    const positions = Array.from(this.#groups, ([group, { position }]) => [group, position]);
    return writeToken([["", this.#ids], ...positions]);
  }

  on(type, listener) {
    const listen = ({ detail }) => listener(detail);
    this.addEventListener(type, listen);
    return () => this.removeEventListener(type, listen);
  }

  send(data) {
    const message = writeFrame(this.#options.plain ? "" : "\n", data);
    if (this.#state === "open") {
      this.#socket.send(message);
    } else if (this.#state !== "closed" && this.#queue.length < this.#options.queue) {
      this.#queue.push(message);
    } else {
      const full = this.#queue.length ? ", its queue full" : "";
      throw new DOMException(`The socket is ${this.#state}${full}.`, "InvalidStateError");
    }
  }

  sendJSON(value) {
    this.send(JSON.stringify(value));
  }

  close(code = 1000, reason = "") {
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException("Not 1000 or 3000-4999.", "InvalidAccessError");
    }
    if (utf8.encode(reason).length > 123) {
      throw new DOMException("Over 123 bytes.", "SyntaxError");
    }
    if (this.#state === "closed") return;
    this.#drop(code, reason);
    this.#finish(code, reason);
  }

  reconnect() {
    if (this.#state === "connecting") return;
    if (this.#state === "closed") {
      this.#attempt = this.#refusals = this.#failures = 0;
      this.#watchPage();
      for (const [group, hold] of this.#holds) this.#owe(group, hold);
    }
    this.#try();
  }

  async #try() {
    this.#drop();
    const turn = this.#turn;
    const { plain, maxDelay, patience, WebSocket } = this.#options;
    this.#attempt += 1;
    this.#after("try", Math.max(maxDelay, patience), () => this.#lost(1006));
    this.#become("connecting");
    if (turn !== this.#turn) return;
    try {
      const url = resolve(await this.#source());
      if (turn !== this.#turn) return;
      this.#url = url;
      const { since } = this;
      const offer = since ? [PROTOCOL, `since.${since}`] : [PROTOCOL];
      this.#begin(plain ? new WebSocket(url) : new WebSocket(url, offer));
    } catch (error) {
      if (turn === this.#turn) this.#lost(1006, "", error);
    }
  }

  #begin(socket) {
    let accepted = false;
    const mine = (handle) => (event) => socket === this.#socket && handle(event);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = mine(() => {
      accepted = true;
      if (this.#options.plain) this.#opened();
      else if (socket.protocol !== PROTOCOL) this.#foreign();
    });
    socket.onmessage = mine(({ data }) => this.#receive(data));
    socket.onclose = mine(({ code, reason }) => this.#lost(code, reason));
    // Node sends no close after a handshake that failed.
    socket.onerror = mine(() => accepted || this.#lost(1006));
  }

  #opened() {
    const turn = this.#turn;
    const reopened = this.#wasOpen;
    this.#wasOpen = true;
    this.#refusals = 0;
    clearTimeout(this.#timers.try);
    this.#after("steady", this.#options.maxDelay, () => (this.#failures = 0));
    for (const message of this.#queue.splice(0)) {
      try {
        this.#socket.send(message);
      } catch (error) {
        console.warn(error);
      }
    }
    this.#become("open");
    if (turn === this.#turn) this.#fire("open", { reopened });
  }

  #foreign() {
    this.#lost(1006, "", `It speaks no ${PROTOCOL}: try { plain: true }.`);
  }

  // It has ended, and not because the page said so.
  async #lost(code, reason = "", why = "Browsers do not tell why (a raw handler: { plain: true }).") {
    const opened = this.#state === "open";
    this.#drop();
    const turn = this.#turn;
    if (!opened && ++this.#refusals === 1) {
      const look = 'See the network tab, and the log "django_ws_dispatch" of the server.';
      console.warn(`WebSocket refused: ${this.#url.split("?")[0]}`, why, look);
    }
    this.#state = "waiting";
    this.#delay = null;
    const { reconnects, minDelay, maxDelay } = this.#options;
    let again = COMES_BACK.test(code);
    if (reconnects) {
      try {
        again = reconnects({ code, reason, opened, refusals: this.#refusals });
        if (again?.then) {
          if (turn === this.#turn) this.#become("waiting");
          again = await again;
        }
      } catch {
        again = true;
      }
    }
    if (turn !== this.#turn) return;
    if (again === false) return this.#finish(code, reason);
    const most = Math.min(maxDelay, minDelay * 2 ** Math.min(this.#failures++, 30));
    const delay = Math.random() * most + (code === 4429 ? 5000 : 0);
    this.#after("try", delay, () => this.#try());
    this.#become("waiting", delay);
  }

  // What waits behind a gap comes again: its positions have not moved.
  #drop(code = 1000, reason = "") {
    this.#turn += 1;
    if (this.#state === "open") this.#attempt = 0;
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    for (const hold of this.#holds.values()) Object.assign(hold, { frames: [], left: false });
    this.#asked = this.#latency = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code, reason);
  }

  #finish(code, reason) {
    for (const { timer } of this.#holds.values()) clearTimeout(timer);
    this.#queue = [];
    this.#page.abort();
    this.#become("closed");
    if (this.#state === "closed") this.#fire("closed", { code, reason });
  }

  #become(state, delay = null) {
    this.#state = state;
    this.#delay = delay;
    this.#fire("state", { state, attempt: this.#attempt, delay, refusals: this.#refusals });
  }

  #fire(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #after(name, ms, run) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(run, Math.min(ms, 2 ** 31 - 1));
  }

  #watchPage() {
    this.#page = new AbortController();
    const { signal } = this.#page;
    const on = (target, type, run) => target?.addEventListener?.(type, run, { signal });
    const wake = () => {
      if (this.#state === "waiting" && this.#delay !== null) this.#try();
      if (this.#state === "open") this.#pingIn(0);
    };
    on(globalThis, "online", wake);
    on(globalThis.document, "visibilitychange", () => document.hidden || wake());
    on(globalThis, "pagehide", () => {
      this.#drop(1000, "away");
      this.#become("waiting");
    });
    on(globalThis, "pageshow", ({ persisted }) => {
      if (persisted && this.#state === "waiting") this.#try();
    });
  }

  #pingIn(ms) {
    if (this.#options.plain) return;
    const rest = this.#pinged + 1000 - performance.now();
    this.#after("ping", Math.max(ms, rest), () => {
      const at = (this.#pinged = performance.now());
      const n = ++this.#pings;
      if (!this.#asked) {
        this.#asked = { n, at };
        this.#listen();
      }
      this.#socket.send(`["ping",${n}]\n`);
      this.#pingIn(this.#beat);
    });
  }

  #listen(again) {
    const { patience } = this.#options;
    const due = performance.now() + patience;
    this.#after("pong", patience, () => {
      // A page that stood still has not read the answer yet.
      if (!again && performance.now() > due + 1000) this.#listen(true);
      else this.#lost(1006);
    });
  }

  #receive(data) {
    if (this.#options.plain) return this.#message(data);
    const [head, payload] = readFrame(data);
    if (this.#state === "open") {
      try {
        if (head) this.#take(head, payload);
        else this.#message(payload);
      } catch {} // No JSON, or too deep.
      return;
    }
    const [kind, id, settings] = head ?? [];
    if (kind !== "hello" || !isString(id)) return this.#foreign();
    this.#id = id;
    this.#ids = [...this.#ids, id].slice(-8);
    this.#pinged = -Infinity;
    this.#beat = Math.min(this.#options.ping, settings?.ping * 1000 || Infinity);
    this.#pingIn(this.#beat);
    this.#opened();
  }

  #take([kind, group, position, recovered], payload) {
    if (kind === "pong" && group === this.#asked?.n) {
      this.#latency = performance.now() - this.#asked.at;
      this.#asked = null;
      clearTimeout(this.#timers.pong);
    }
    if (!group || !isString(group)) return;
    const entry = this.#groups.get(group);
    const hold = this.#holds.get(group);
    const inOrder = (run) => (hold ? hold.frames.push(run) : run());
    if (kind === "l") {
      if (hold) hold.left = true;
      else this.#groups.delete(group);
    } else if (kind === "p") {
      if (entry && entry.count !== null) this.#presence(group, JSON.parse(text(payload)));
    } else if (position !== null && !isString(position)) {
      return;
    } else if (kind === "m") {
      this.#failures = 0;
      inOrder(() => this.#message(payload, group, position));
    } else if (kind === "g") {
      inOrder(() => this.#place(group, position));
      if (!hold) this.#owe(group);
    } else if (kind === "j" && [true, false, null].includes(recovered)) {
      const turn = this.#turn;
      const told = text(payload) && JSON.parse(text(payload));
      const gap = recovered === null ? entry?.position : !recovered;
      if (hold) hold.left = false;
      inOrder(() => this.#place(group, position));
      if (gap && !hold) this.#owe(group);
      this.#fire("joined", { group, recovered });
      if (told && turn === this.#turn) this.#presence(group, told);
    }
  }

  #message(data, group = null, position = null) {
    this.#failures = 0;
    if (position) this.#place(group, position);
    this.#fire("message", { data, group, position });
  }

  #place(group, position) {
    const entry = this.#groups.get(group) ?? { present: null, count: null };
    this.#groups.set(group, Object.assign(entry, { position }));
  }

  #presence(group, { count, present, left, joined }) {
    const entry = this.#groups.get(group);
    const before = byKey(entry.present ?? []);
    let after = null; // Above the cap nobody is listed.
    if (present) {
      after = byKey(present);
    } else if (entry.present && (left || joined)) {
      after = new Map(before);
      for (const key of byKey(left).keys()) after.delete(key);
      for (const [key, one] of byKey(joined)) after.set(key, one);
    }
    const now = after && [...after.values()].sort((a, b) => a.since - b.since);
    const came = (now ?? []).filter((one) => facts(one) !== facts(before.get(one.key)));
    const gone = after ? [...before.values()].filter(({ key }) => !after.has(key)) : [];
    if (typeof count !== "number") return;
    Object.assign(entry, { present: now, count });
    this.#fire("presence", { group, present: now, count, joined: came, left: gone });
  }

  // At random, so that not every page loads at once what is missing.
  #owe(group, hold = { frames: [], left: false }) {
    this.#holds.set(group, hold);
    hold.timer = setTimeout(() => {
      if (this.#holds.get(group) !== hold) return;
      this.#fire("gap", { group });
      while (hold.frames.length) hold.frames.shift()();
      if (hold.left) this.#groups.delete(group);
      this.#holds.delete(group);
    }, Math.random() * 3000);
  }
}

export function connect(url, options) {
  return new Socket(url, options);
}
