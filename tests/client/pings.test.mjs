import assert from "node:assert/strict";
import { test } from "node:test";

import { open, page } from "./kit.mjs";

/** Answer each ping from now on. */
function answering(socket) {
  const { send } = socket;
  socket.send = (data) => {
    send.call(socket, data);
    const [kind, n] = data.startsWith("[") ? JSON.parse(data) : [];
    if (kind === "ping") socket.frame(["pong", n]);
  };
}

test("a ping goes out at the lesser of the two times, whatever comes", async (t) => {
  for (const [ours, theirs, ms] of [[25_000, { ping: 10 }, 10_000], [5000, { ping: 10 }, 5000], [7000, {}, 7000]]) {
    const { server, socket, clock } = await open(t, { ping: ours });
    server.last.end(1012);
    await clock.pass(500);
    server.last.greet("id", theirs);
    answering(server.last);
    await clock.pass(ms - 1);
    server.last.frame(null, "a message");
    assert.deepEqual(server.last.heads, []);
    await clock.pass(1);
    assert.deepEqual(server.last.sent, ['["ping",1]\n']);
    await clock.pass(ms);
    assert.deepEqual(server.last.heads, [["ping", 1], ["ping", 2]]);
    socket.close();
  }
});

test("the latency is that of the last ping, and none while it is not open", async (t) => {
  const { server, socket, clock } = await open(t);
  assert.equal(socket.latency, null);
  await clock.pass(25_000);
  await clock.pass(40);
  assert.equal(socket.latency, null);
  server.last.frame(["pong", 1]);
  assert.equal(socket.latency, 40);
  server.last.end(1012);
  assert.equal(socket.latency, null);
});

test("a ping that is not answered gives the socket up, and opens another", async (t) => {
  const { server, socket, clock, details } = await open(t);
  const first = server.last;
  await clock.pass(25_000 + 7999);
  assert.equal(socket.state, "open");
  await clock.pass(1);
  assert.equal(socket.state, "waiting");
  assert.deepEqual(first.closed, [1000, ""]);
  assert.equal(details("state")[0].delay, 250);
  await clock.pass(250);
  assert.equal(server.all.length, 2);
  first.frame(null, "from the dead");
  first.end(1006);
  assert.equal(details("message").length, 0);
  assert.equal(socket.state, "connecting");
});

test("that is a 1006 to reconnects", async (t) => {
  const asked = [];
  const { clock } = await open(t, { patience: 100, reconnects: (end) => asked.push(end) > 5 });
  await clock.pass(25_100);
  assert.deepEqual(asked, [{ code: 1006, reason: "", opened: true, refusals: 0 }]);
});

test("only a pong of that ping is an answer", async (t) => {
  const { server, socket, clock } = await open(t);
  await clock.pass(25_000);
  server.last.frame(null, "a message");
  for (const n of [0, 2, "1", null, [1]]) server.last.frame(["pong", n]);
  server.last.frame(["pong"]);
  assert.equal(socket.latency, null);
  await clock.pass(8000);
  assert.equal(socket.state, "waiting");
});

test("an answered ping is no reason to give up", async (t) => {
  const { server, socket, clock } = await open(t);
  answering(server.last);
  await clock.pass(600_000);
  assert.equal(socket.state, "open");
  assert.equal(server.all.length, 1);
  assert.equal(server.last.heads.length, 24);
});

test("a page whose timer came late waits once more", async (t) => {
  const { server, socket, clock } = await open(t);
  await clock.pass(25_000);
  await clock.freeze(60_000);
  assert.equal(socket.state, "open");
  server.last.frame(["pong", 1]);
  await clock.pass(8000);
  assert.equal(socket.state, "open");
});

test("but only once", async (t) => {
  const { socket, clock } = await open(t, { ping: 100_000 });
  await clock.pass(25_000);
  await clock.freeze(60_000);
  assert.equal(socket.state, "open");
  await clock.freeze(60_000);
  assert.equal(socket.state, "waiting");
});

test("a timer that is a little late is on time", async (t) => {
  const { socket, clock } = await open(t);
  await clock.pass(25_000);
  await clock.freeze(8900);
  assert.equal(socket.state, "waiting");
});

test("pings that are more frequent than patience is long share it", async (t) => {
  const { server, socket, clock } = await open(t, { ping: 2000, patience: 5000 });
  await clock.pass(2000 + 4999);
  assert.deepEqual(server.last.heads, [["ping", 1], ["ping", 2], ["ping", 3]]);
  assert.equal(socket.state, "open");
  await clock.pass(1);
  assert.equal(socket.state, "waiting");
});

test("never two within a second", async (t) => {
  const shown = page(t);
  const { server, clock } = await open(t, { ping: 1 });
  answering(server.last);
  for (let n = 0; n < 100; n += 1) {
    await clock.pass(100);
    shown.fire("online");
  }
  assert.ok(server.last.heads.length <= 11 && server.last.heads.length >= 9);
});

test("a server that asks for nonsense gets ours", async (t) => {
  for (const settings of [null, 5, [], {}, { ping: null }, { ping: "soon" }, { ping: 0 }, { ping: {} }]) {
    const { server, socket, clock } = await open(t);
    server.last.end(1012);
    await clock.pass(500);
    server.last.greet("id", settings);
    await clock.pass(24_999);
    assert.deepEqual(server.last.heads, []);
    await clock.pass(1);
    assert.equal(server.last.heads.length, 1);
    socket.close();
  }
});

test("a server that asks for less than nothing gets one a second", async (t) => {
  const { server, socket, clock } = await open(t);
  server.last.end(1012);
  await clock.pass(500);
  server.last.greet("id", { ping: -5 });
  answering(server.last);
  await clock.pass(3500);
  assert.ok(server.last.heads.length <= 4);
  assert.equal(socket.state, "open");
});

test("pings without an end", async (t) => {
  const { server, socket, clock } = await open(t, { ping: Infinity });
  server.last.end(1012);
  await clock.pass(500);
  server.last.greet("id", {});
  await clock.pass(1_000_000);
  assert.deepEqual(server.last.heads, []);
  assert.equal(socket.state, "open");
});
