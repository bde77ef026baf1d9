import assert from "node:assert/strict";
import { test } from "node:test";

import { V1, begin, connect, encode, open, page, scripted, settle } from "./kit.mjs";

test("a socket connects, and is open with the server's hello", async (t) => {
  const { server, socket, seen } = await begin(t);
  assert.deepEqual(server.last.protocols, [V1]);
  assert.equal(server.last.binaryType, "arraybuffer");
  assert.equal(socket.state, "connecting");
  server.last.accept();
  assert.equal(socket.state, "connecting");
  assert.equal(socket.id, null);
  server.last.frame(["hello", "first", { ping: 25 }]);
  assert.equal(socket.state, "open");
  assert.equal(socket.id, "first");
  assert.deepEqual(seen, [
    ["state", { state: "connecting", attempt: 1, delay: null, refusals: 0 }],
    ["state", { state: "open", attempt: 1, delay: null, refusals: 0 }],
    ["open", { reopened: false }],
  ]);
});

test("hello may be a binary frame", async (t) => {
  const { server, socket } = await begin(t);
  server.last.accept();
  server.last.say(new TextEncoder().encode('["hello","b",{"ping":25}]\n').buffer);
  assert.equal(socket.id, "b");
});

test("what the handler sends is a message without a group", async (t) => {
  const { server, details } = await open(t);
  server.last.frame(null, "text\nwith lines");
  server.last.say(new Uint8Array([10, 1, 10, 2]).buffer);
  const [text, bytes] = details("message");
  assert.deepEqual(text, { data: "text\nwith lines", group: null, position: null });
  assert.deepEqual([...new Uint8Array(bytes.data)], [1, 10, 2]);
  assert.ok(bytes.data instanceof ArrayBuffer);
});

test("a URL may be relative, and of http", async (t) => {
  page(t);
  const urls = {
    "/ws/": "wss://site.test/ws/",
    "x": "wss://site.test/rooms/1/x",
    "//other.test/ws/#part": "wss://other.test/ws/",
    "http://other.test/?a=1": "ws://other.test/?a=1",
    "https://other.test": "wss://other.test/",
    "ws://other.test/": "ws://other.test/",
  };
  for (const [given, made] of Object.entries(urls)) {
    const server = scripted();
    const socket = connect(given, { WebSocket: server });
    assert.equal(socket.url, made);
    await settle();
    assert.equal(server.last.url, made);
    socket.close();
  }
  const server = scripted();
  const socket = connect(new URL("https://other.test/x"), { WebSocket: server });
  assert.equal(socket.url, "wss://other.test/x");
  socket.close();
});

test("a string that is no URL of a WebSocket throws", (t) => {
  for (const url of ["/relative/without/a/page/", "http://", "ftp://site.test/", "javascript:1"]) {
    assert.throws(() => connect(url, { WebSocket: scripted() }), undefined, url);
  }
});

test("a function is asked for its URL at each try, and may take its time", async (t) => {
  let asked = 0;
  const url = async () => `ws://site.test/?ticket=${++asked}`;
  const { server, socket, clock } = await begin(t, { url });
  assert.equal(server.last.url, "ws://site.test/?ticket=1");
  server.last.greet();
  server.last.end(1012);
  await clock.pass(500);
  assert.equal(server.last.url, "ws://site.test/?ticket=2");
  assert.equal(socket.url, "ws://site.test/?ticket=2");
});

test("a function that throws is a refusal, with its error in the console", async (t) => {
  const url = () => Promise.reject(new Error("no ticket today"));
  const { server, socket, clock, warnings } = await begin(t, { url });
  assert.equal(socket.state, "waiting");
  assert.equal(server.all.length, 0);
  assert.match(warnings()[0], /no ticket today/);
  await clock.pass(60_000);
  assert.equal(warnings().length, 1);
});

test("a function that gives no URL is a refusal", async (t) => {
  const { socket, details } = await begin(t, { url: () => "no url" });
  assert.equal(socket.state, "waiting");
  assert.equal(details("state").at(-1).refusals, 1);
});

test("a class that throws is a refusal", async (t) => {
  class Broken {
    constructor() {
      throw new Error("SecurityError");
    }
  }
  const { socket, warnings } = await begin(t, { WebSocket: Broken });
  assert.equal(socket.state, "waiting");
  assert.match(warnings()[0], /SecurityError/);
});

test("a function that answers after close() opens nothing", async (t) => {
  let answer;
  const url = () => new Promise((resolve) => (answer = resolve));
  const { server, socket } = await begin(t, { url });
  socket.close();
  answer("ws://site.test/");
  await settle();
  assert.equal(server.all.length, 0);
  assert.equal(socket.state, "closed");
});

test("another subprotocol is a refusal that names plain", async (t) => {
  const { server, socket, warnings } = await begin(t);
  server.last.accept("other");
  assert.deepEqual(server.last.closed, [1000, ""]);
  assert.equal(socket.state, "waiting");
  assert.match(warnings()[0], /plain: true/);
});

test("a first frame that is no hello is a refusal that names plain", async (t) => {
  const firsts = ["", "x", "\nmessage", "[]\n", '["hello"]\n', '["hello",1]\n', '["pong",1]\n', '["m","a","b"]\n'];
  for (const first of firsts) {
    const { server, socket, seen, warnings } = await begin(t);
    server.last.accept();
    server.last.say(first);
    assert.equal(socket.state, "waiting", first);
    assert.deepEqual(server.last.closed, [1000, ""]);
    assert.match(warnings().at(-1), /plain: true/);
    assert.ok(!seen.some(([type]) => type === "message"));
    socket.close();
  }
});

test("an attempt without a hello is given up, and is a refusal", async (t) => {
  const { server, socket, clock, details } = await begin(t, { maxDelay: 3000, patience: 4000 });
  server.last.accept();
  await clock.pass(3999);
  assert.equal(socket.state, "connecting");
  await clock.pass(1);
  assert.equal(socket.state, "waiting");
  assert.deepEqual(server.last.closed, [1000, ""]);
  assert.equal(details("state").at(-1).refusals, 1);
  server.all[0].frame(["hello", "late", {}]);
  assert.equal(socket.state, "waiting");
});

test("a function that never answers is given up", async (t) => {
  const { socket, clock } = await begin(t, { url: () => new Promise(() => {}) });
  await clock.pass(20_000);
  assert.equal(socket.state, "waiting");
});

test("plain offers nothing, pings not, and hands on each message as it is", async (t) => {
  const { server, socket, seen, clock, details } = await begin(t, { plain: true });
  assert.equal(server.last.protocols, undefined);
  server.last.accept();
  assert.deepEqual(seen.at(-1), ["open", { reopened: false }]);
  assert.equal(socket.state, "open");
  assert.equal(socket.id, null);
  server.last.say('["m","room","p1"]\nx');
  server.last.say(new ArrayBuffer(3));
  assert.equal(details("message")[0].data, '["m","room","p1"]\nx');
  assert.equal(details("message")[0].group, null);
  assert.equal(details("message")[1].data.byteLength, 3);
  assert.equal(socket.groups.size, 0);
  socket.send("out");
  assert.deepEqual(server.last.sent, ["out"]);
  await clock.pass(120_000);
  assert.deepEqual(server.last.sent, ["out"]);
  server.last.end(1012);
  await clock.pass(500);
  server.last.accept();
  assert.deepEqual(seen.at(-1), ["open", { reopened: true }]);
});

test("an option that is undefined has its default", async (t) => {
  const options = { ping: undefined, patience: undefined, queue: undefined, since: undefined };
  const { server, clock } = await begin(t, options);
  server.last.greet("id", {});
  await clock.pass(24_999);
  assert.deepEqual(server.last.heads, []);
  await clock.pass(1);
  assert.deepEqual(server.last.heads, [["ping", 1]]);
});

test("where there is no WebSocket a class must be passed", async (t) => {
  const before = globalThis.WebSocket;
  t.after(() => (globalThis.WebSocket = before));
  globalThis.WebSocket = undefined;
  const { socket, warnings } = await begin(t, { WebSocket: undefined });
  assert.equal(socket.state, "waiting");
  assert.match(warnings()[0], /not a constructor/);
});

test("on() hands over the detail, and returns what takes it back", async (t) => {
  const { server, socket } = await open(t);
  const heard = [];
  const off = socket.on("message", ({ data }) => heard.push(data));
  server.last.frame(null, "one");
  off();
  server.last.frame(null, "two");
  assert.deepEqual(heard, ["one"]);
  assert.ok(socket instanceof EventTarget);
  socket.addEventListener("message", (event) => heard.push(event.detail.data), { once: true });
  server.last.frame(null, "three");
  server.last.frame(null, "four");
  assert.deepEqual(heard, ["one", "three"]);
});

test("a listener may close the socket in the middle of anything", async (t) => {
  for (const type of ["state", "open", "joined", "presence", "message", "gap"]) {
    const { server, socket, clock, seen } = await begin(t, { since: encode({ room: "p0" }) });
    const off = socket.on(type, () => socket.close());
    server.last?.greet();
    server.last?.frame(["j", "room", "p1", false], { count: 0, present: [] });
    server.last?.frame(["m", "room", "p2"], "behind the gap");
    server.last?.frame(null, "own");
    await clock.pass(3000);
    off();
    assert.deepEqual(seen.at(-1)[0], "closed", type);
    assert.equal(clock.waiting, 0, type);
  }
});
