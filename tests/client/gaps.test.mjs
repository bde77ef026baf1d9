import assert from "node:assert/strict";
import { test } from "node:test";

import { begin, decode, encode, offered, open } from "./kit.mjs";

/** Join a group of which something is lost: the gap is due after half of 3 s. */
async function lost(t) {
  const all = await begin(t, { since: encode({ room: "p0" }) });
  all.server.last.greet();
  all.seen.length = 0;
  all.server.last.frame(["j", "room", "p5", false]);
  return all;
}

const types = (seen) => seen.map(([type]) => type);
const texts = (details) => details("message").map(({ data }) => data);

test("what could not be recovered is a gap, some time after joined", async (t) => {
  const { socket, clock, seen } = await lost(t);
  assert.deepEqual(seen, [["joined", { group: "room", recovered: false }]]);
  assert.equal(socket.groups.get("room").position, "p5");
  await clock.pass(1499);
  assert.deepEqual(types(seen), ["joined"]);
  await clock.pass(1);
  assert.deepEqual(seen[1], ["gap", { group: "room" }]);
});

test("the time is at random, from at once to three seconds", async (t) => {
  for (const [random, before, due] of [[0, 0, 0], [0.1, 299, 1], [0.999, 2996, 1]]) {
    const { server, clock, details } = await open(t, { random });
    server.last.frame(["g", "room", "p9"]);
    assert.equal(details("gap").length, 0);
    if (before) await clock.pass(before);
    assert.equal(details("gap").length, 0);
    await clock.pass(due);
    assert.equal(details("gap").length, 1);
  }
});

test("where the page has a position, and none was asked for, is a gap", async (t) => {
  const { server, clock, details } = await begin(t, { since: encode({ room: "p0" }) });
  server.last.greet();
  server.last.frame(["j", "room", "p5", null]);
  server.last.frame(["j", "new", "p5", null]);
  await clock.pass(3000);
  assert.deepEqual(details("gap"), [{ group: "room" }]);
});

test("what was recovered is no gap", async (t) => {
  const { server, clock, details } = await begin(t, { since: encode({ room: "p0" }) });
  server.last.greet();
  server.last.frame(["j", "room", "p0", true]);
  server.last.frame(["m", "room", "p1"], "replayed");
  await clock.pass(3000);
  assert.deepEqual(details("gap"), []);
  assert.deepEqual(texts(details), ["replayed"]);
});

test("a gap frame sets the position and is a gap", async (t) => {
  const { server, socket, clock, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  server.last.frame(["g", "room", "p9"]);
  assert.equal(socket.groups.get("room").position, "p9");
  await clock.pass(3000);
  assert.deepEqual(details("gap"), [{ group: "room" }]);
});

test("messages of the group wait behind the gap, in order", async (t) => {
  const { server, socket, clock, seen, details } = await lost(t);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["m", "room", null], "two");
  server.last.frame(["m", "room", "p7"], "three");
  assert.deepEqual(types(seen), ["joined"]);
  assert.equal(socket.groups.get("room").position, "p5");
  await clock.pass(1500);
  assert.deepEqual(types(seen), ["joined", "gap", "message", "message", "message"]);
  assert.deepEqual(texts(details), ["one", "two", "three"]);
  assert.equal(socket.groups.get("room").position, "p7");
  server.last.frame(["m", "room", "p8"], "four");
  assert.deepEqual(texts(details), ["one", "two", "three", "four"]);
});

test("the handler's messages, other groups and who is here do not wait", async (t) => {
  const { server, clock, seen } = await lost(t);
  server.last.frame(["m", "room", "p6"], "waits");
  server.last.frame(null, "own");
  server.last.frame(["j", "other", "p1", null]);
  server.last.frame(["m", "other", "p2"], "other's");
  server.last.frame(["j", "people", "p1", false], { count: 0, present: [] });
  server.last.frame(["p", "people"], { count: 1, left: [], joined: [{ key: "a", since: 1 }] });
  assert.deepEqual(types(seen), [
    "joined", "message", "joined", "message", "joined", "presence", "presence",
  ]);
  await clock.pass(3000);
  assert.equal(seen.at(-1)[0], "gap");
});

test("a second gap of the group meanwhile adds none", async (t) => {
  const { server, socket, clock, seen } = await lost(t);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["g", "room", "p8"]);
  server.last.frame(["m", "room", "p9"], "two");
  await clock.pass(10_000);
  assert.deepEqual(types(seen), ["joined", "gap", "message", "message"]);
  assert.equal(socket.groups.get("room").position, "p9");
  server.last.frame(["g", "room", "p10"]);
  await clock.pass(3000);
  assert.deepEqual(types(seen).slice(4), ["gap"]);
});

test("what waits when the socket drops is thrown away, and asked for again", async (t) => {
  const { server, clock, seen, details } = await lost(t);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.end(1006);
  await clock.pass(250);
  assert.equal(offered(server.last).room, "p5");
  server.last.greet("second");
  server.last.frame(["j", "room", "p5", true]);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["m", "room", "p7"], "two");
  assert.deepEqual(details("gap"), []);
  await clock.pass(10_000);
  assert.deepEqual(details("gap"), [{ group: "room" }]);
  assert.deepEqual(texts(details), ["one", "two"]);
  assert.deepEqual(types(seen).slice(-3), ["gap", "message", "message"]);
});

test("a gap is told while the socket is away", async (t) => {
  const { server, socket, clock, details } = await lost(t);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.end(1006);
  await clock.pass(1500);
  assert.deepEqual(details("gap"), [{ group: "room" }]);
  assert.deepEqual(texts(details), []);
  assert.equal(decode(socket.since).room, "p5");
});

test("a gap that is owed at close() is told after reconnect()", async (t) => {
  const { server, socket, clock, details } = await lost(t);
  socket.close();
  assert.equal(clock.waiting, 0);
  await clock.pass(10_000);
  assert.deepEqual(details("gap"), []);
  socket.reconnect();
  await clock.pass(1500);
  assert.deepEqual(details("gap"), [{ group: "room" }]);
  server.last.greet();
  await clock.pass(10_000);
  assert.equal(details("gap").length, 1);
});

test("a listener that reconnects at a gap loses nothing behind it", async (t) => {
  const { server, socket, clock, details } = await lost(t);
  socket.on("gap", () => socket.reconnect());
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["m", "room", "p7"], "two");
  await clock.pass(1500);
  assert.deepEqual(texts(details), []);
  assert.equal(offered(server.last).room, "p5");
});

test("a listener that reconnects behind a gap gets the rest from its position on", async (t) => {
  const { server, socket, clock, details } = await lost(t);
  const off = socket.on("message", () => off() || socket.reconnect());
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["m", "room", "p7"], "two");
  await clock.pass(1500);
  assert.deepEqual(texts(details), ["one"]);
  assert.equal(offered(server.last).room, "p6");
  await clock.pass(3000);
  assert.equal(details("gap").length, 1);
});

test("a listener that closes and reconnects at a gap hears of it once", async (t) => {
  const { socket, clock, details } = await lost(t);
  const off = socket.on("gap", () => {
    off();
    socket.close();
    socket.reconnect();
  });
  await clock.pass(10_000);
  assert.equal(details("gap").length, 1);
});

test("a group that is left behind a gap is forgotten behind its messages", async (t) => {
  const { server, socket, clock, seen } = await lost(t);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["l", "room"]);
  await clock.pass(1500);
  assert.deepEqual(types(seen), ["joined", "gap", "message"]);
  assert.equal(socket.groups.has("room"), false);
});

test("a group that is left and joined again behind a gap is where it was joined", async (t) => {
  const { server, socket, clock, seen } = await lost(t);
  server.last.frame(["m", "room", "p6"], "one");
  server.last.frame(["l", "room"]);
  server.last.frame(["j", "room", "p9", null], { count: 0, present: [] });
  assert.deepEqual(types(seen), ["joined", "joined", "presence"]);
  await clock.pass(1500);
  assert.deepEqual(types(seen).slice(3), ["gap", "message"]);
  assert.deepEqual(socket.groups.get("room"), { position: "p9", present: [], count: 0 });
});

test("a new socket on which the group is not left any more keeps its position", async (t) => {
  const { server, socket, clock } = await lost(t);
  server.last.frame(["l", "room"]);
  server.last.end(1006);
  await clock.pass(3000);
  assert.equal(socket.groups.get("room").position, "p5");
});
