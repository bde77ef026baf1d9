import assert from "node:assert/strict";
import { test } from "node:test";

import { begin, offered, open, page, settle } from "./kit.mjs";

test("it tries at once when the page comes online, or is shown", async (t) => {
  const shown = page(t);
  for (const wake of [() => shown.fire("online"), () => shown.show(true)]) {
    const { server, socket, clock } = await open(t);
    server.last.end(4429);
    wake();
    await settle();
    assert.equal(server.all.length, 2);
    wake();
    await clock.pass(10_000);
    assert.equal(server.all.length, 2);
    socket.close();
  }
});

test("a page that is hidden does not", async (t) => {
  const shown = page(t);
  const { server } = await open(t);
  server.last.end(1012);
  shown.show(false);
  await settle();
  assert.equal(server.all.length, 1);
});

test("while it is open it pings at once", async (t) => {
  const shown = page(t);
  const { server, socket, clock } = await open(t);
  shown.show(true);
  await clock.pass(0);
  assert.deepEqual(server.last.heads, [["ping", 1]]);
  server.last.frame(["pong", 1]);
  await clock.pass(10_000);
  shown.fire("online");
  await clock.pass(0);
  assert.deepEqual(server.last.heads, [["ping", 1], ["ping", 2]]);
  await clock.pass(8000);
  assert.equal(socket.state, "waiting");
});

test("an answer of reconnects that is waited for is not passed over", async (t) => {
  const shown = page(t);
  const { server, socket } = await open(t, { reconnects: () => new Promise(() => {}) });
  server.last.end(1012);
  shown.fire("online");
  shown.show(true);
  await settle();
  assert.equal(server.all.length, 1);
  assert.equal(socket.state, "waiting");
});

test("a page that is left closes its socket, and tries nothing", async (t) => {
  const shown = page(t);
  const { server, clock, details } = await open(t);
  shown.fire("pagehide", { persisted: true });
  assert.deepEqual(server.last.closed, [1000, "away"]);
  assert.deepEqual(details("state"), [{ state: "waiting", attempt: 0, delay: null, refusals: 0 }]);
  server.last.end(1000);
  await clock.pass(1_000_000);
  shown.fire("online");
  await settle();
  assert.equal(server.all.length, 1);
});

test("a page out of the back/forward cache opens anew, with its positions", async (t) => {
  const shown = page(t);
  const { server, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  shown.fire("pagehide", { persisted: true });
  shown.fire("pageshow", { persisted: true });
  await settle();
  assert.equal(server.all.length, 2);
  assert.equal(offered(server.last).room, "p1");
  server.last.greet("second");
  assert.deepEqual(details("open"), [{ reopened: true }]);
});

test("a page that is shown for the first time opens one socket", async (t) => {
  const shown = page(t);
  const { server } = await begin(t);
  shown.fire("pageshow", { persisted: false });
  await settle();
  assert.equal(server.all.length, 1);
});

test("a page that is left during a try, or a wait, tries no more", async (t) => {
  const shown = page(t);
  for (const refused of [false, true]) {
    const { server, socket, clock } = await begin(t);
    if (refused) server.last.refuse();
    shown.fire("pagehide", { persisted: true });
    assert.deepEqual(server.last.closed, refused ? [1000, ""] : [1000, "away"]);
    await clock.pass(100_000);
    assert.equal(server.all.length, 1);
    shown.fire("pageshow", { persisted: true });
    await settle();
    assert.equal(server.all.length, 2);
    socket.close();
  }
});

test("a socket that is closed listens to the page no more, until it is opened again", async (t) => {
  const shown = page(t);
  const { server, socket, seen } = await open(t);
  assert.equal(shown.listening.count, 4);
  socket.close();
  assert.equal(shown.listening.count, 0);
  const before = seen.length;
  shown.fire("pagehide");
  shown.fire("pageshow", { persisted: true });
  shown.fire("online");
  shown.show(true);
  assert.equal(seen.length, before);
  socket.reconnect();
  assert.equal(shown.listening.count, 4);
  await settle();
  server.last.greet();
  server.last.end(4401);
  assert.equal(shown.listening.count, 0);
});

test("in plain a page that is shown tries at once, and pings not", async (t) => {
  const shown = page(t);
  const { server, clock } = await open(t, { plain: true });
  shown.show(true);
  await clock.pass(1000);
  assert.deepEqual(server.last.sent, []);
  server.last.end(1006);
  shown.show(true);
  await settle();
  assert.equal(server.all.length, 2);
});
