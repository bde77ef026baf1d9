import assert from "node:assert/strict";
import { test } from "node:test";

import { begin, open, settle } from "./kit.mjs";

const BACK = [1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015, 4408, 4429, 4500, 4503, 4599];
const FOR_GOOD = [
  1000, 1002, 1003, 1007, 1008, 1009, 1010, 1016, 3000, 4000, 4400, 4401, 4403, 4404, 4409, 4499, 4600,
];

test("it comes back after what is the server's fault, or the way's", async (t) => {
  for (const code of BACK) {
    const { server, socket, clock, seen } = await open(t);
    server.last.end(code, "why");
    assert.equal(socket.state, "waiting", code);
    await clock.pass(5500);
    assert.equal(server.all.length, 2, code);
    server.last.greet("second");
    assert.deepEqual(seen.at(-1), ["open", { reopened: true }]);
    socket.close();
  }
});

test("it comes back after nothing else", async (t) => {
  for (const code of FOR_GOOD) {
    const { server, socket, clock, seen } = await open(t);
    server.last.end(code, "why");
    assert.equal(socket.state, "closed", code);
    assert.deepEqual(seen, [
      ["state", { state: "closed", attempt: 0, delay: null, refusals: 0 }],
      ["closed", { code, reason: "why" }],
    ]);
    assert.equal(clock.waiting, 0);
    await clock.pass(100_000);
    assert.equal(server.all.length, 1);
  }
});

test("4429 waits five seconds more", async (t) => {
  const { server, clock, details } = await open(t);
  server.last.end(4429);
  assert.equal(details("state")[0].delay, 5250);
  await clock.pass(5249);
  assert.equal(server.all.length, 1);
  await clock.pass(1);
  assert.equal(server.all.length, 2);
});

test("delays are uniform below a limit that doubles up to maxDelay", async (t) => {
  for (const random of [0, 0.25, 0.999]) {
    const { server, socket, clock, details } = await begin(t, { random });
    const delays = [];
    for (let n = 0; n < 9; n += 1) {
      server.last.refuse();
      delays.push(details("state").at(-1).delay);
      await clock.pass(delays.at(-1));
    }
    const limits = [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000];
    assert.deepEqual(delays, limits.map((limit) => limit * random));
    socket.close();
  }
});

test("the limits are options", async (t) => {
  const { server, clock, details } = await begin(t, { minDelay: 10, maxDelay: 35, random: 0.8 });
  const delays = [];
  for (let n = 0; n < 4; n += 1) {
    server.last.refuse();
    delays.push(details("state").at(-1).delay);
    await clock.pass(delays.at(-1));
  }
  assert.deepEqual(delays, [8, 16, 28, 28]);
});

/** The limit of the delay after the socket, with what was sent on it, has been lost. */
async function next({ server, details }) {
  server.last.end(1006);
  return details("state").at(-1).delay * 2;
}

test("a socket that opens is no proof: delays grow until a message comes", async (t) => {
  const all = await open(t);
  for (const limit of [500, 1000, 2000]) {
    assert.equal(await next(all), limit);
    await all.clock.pass(limit);
    all.server.last.greet();
    all.server.last.frame(["j", "room", "p1", true], { count: 0, present: [] });
  }
  all.server.last.frame(null, "from the handler");
  assert.equal(await next(all), 500);
  await all.clock.pass(500);
  all.server.last.greet();
  assert.equal(await next(all), 1000);
  await all.clock.pass(1000);
  all.server.last.greet();
  all.server.last.frame(["m", "room", "p2"], "of a group");
  assert.equal(await next(all), 500);
});

test("a message that waits behind a gap is one, too", async (t) => {
  const all = await open(t);
  assert.equal(await next(all), 500);
  await all.clock.pass(500);
  all.server.last.greet();
  all.server.last.frame(["g", "room", "p2"]);
  all.server.last.frame(["m", "room", "p3"], "waits");
  assert.equal(await next(all), 500);
});

test("to have been open for maxDelay is a proof", async (t) => {
  const all = await open(t, { maxDelay: 5000 });
  assert.equal(await next(all), 500);
  await all.clock.pass(500);
  all.server.last.greet();
  await all.clock.pass(5000);
  assert.equal(await next(all), 500);
});

test("in plain a message is a proof", async (t) => {
  const all = await open(t, { plain: true });
  assert.equal(await next(all), 500);
  await all.clock.pass(500);
  all.server.last.accept();
  all.server.last.say("message");
  assert.equal(await next(all), 500);
});

test("a refused handshake is tried again for ever", async (t) => {
  for (const node of [false, true]) {
    const { server, socket, clock, details } = await begin(t);
    for (let n = 1; n <= 40; n += 1) {
      server.last.refuse(node);
      assert.equal(socket.state, "waiting");
      assert.equal(details("state").at(-1).refusals, n);
      assert.equal(details("state").at(-1).attempt, n);
      await clock.pass(20_000);
      assert.equal(server.all.length, n + 1);
    }
    server.last.greet();
    assert.deepEqual(details("state").at(-1), { state: "open", attempt: 41, delay: null, refusals: 0 });
    server.last.end(1012);
    assert.equal(details("state").at(-1).attempt, 0);
    socket.close();
  }
});

test("the first refusal in a row has one line in the console", async (t) => {
  const { server, clock, warnings } = await begin(t, { url: "ws://site.test/ws/?ticket=secret" });
  for (let n = 0; n < 5; n += 1) {
    server.last.refuse();
    await clock.pass(20_000);
  }
  assert.equal(warnings().length, 1);
  assert.match(warnings()[0], /ws:\/\/site\.test\/ws\/ .*Browsers do not tell why/);
  assert.match(warnings()[0], /network tab.*"django_ws_dispatch"/);
  assert.doesNotMatch(warnings()[0], /secret|\n/);
  server.last.greet();
  server.last.end(1012);
  assert.equal(warnings().length, 1);
  await clock.pass(20_000);
  server.last.refuse();
  assert.equal(warnings().length, 2);
});

test("a close before hello is a refusal, and its code counts", async (t) => {
  const { server, socket, seen } = await begin(t);
  server.last.accept();
  server.last.end(4403, "members only");
  assert.equal(socket.state, "closed");
  assert.deepEqual(seen.at(-1), ["closed", { code: 4403, reason: "members only" }]);
  assert.equal(seen.at(-2)[1].refusals, 1);
});

test("an error on an open socket waits for its close", async (t) => {
  const { server, socket } = await open(t);
  server.last.onerror({});
  assert.equal(socket.state, "open");
  server.last.end(1007);
  assert.equal(socket.state, "closed");
});

test("reconnects is asked instead of the table", async (t) => {
  const asked = [];
  const answers = [true, false];
  const reconnects = (end) => asked.push(end) && answers.shift();
  const { server, socket, clock } = await open(t, { reconnects });
  server.last.end(4403, "away with you");
  assert.equal(socket.state, "waiting");
  await clock.pass(500);
  server.last.refuse();
  assert.deepEqual(asked, [
    { code: 4403, reason: "away with you", opened: true, refusals: 0 },
    { code: 1006, reason: "", opened: false, refusals: 1 },
  ]);
  assert.equal(socket.state, "closed");
});

test("reconnects is asked after 1000, and not after what the page does", async (t) => {
  const asked = [];
  const { server, socket, clock } = await open(t, { reconnects: ({ code }) => asked.push(code) });
  server.last.end(1000);
  await clock.pass(500);
  server.last.greet();
  socket.reconnect();
  await settle();
  server.last.greet();
  socket.close();
  assert.deepEqual(asked, [1000]);
});

test("a promise of reconnects is waited for, without a delay", async (t) => {
  let answer;
  const reconnects = () => new Promise((resolve) => (answer = resolve));
  const { server, socket, clock, details, seen } = await open(t, { reconnects });
  server.last.end(1012);
  assert.deepEqual(details("state"), [{ state: "waiting", attempt: 0, delay: null, refusals: 0 }]);
  await clock.pass(100_000);
  assert.equal(server.all.length, 1);
  answer(true);
  await settle();
  assert.equal(details("state").at(-1).delay, 250);
  await clock.pass(250);
  server.last.refuse();
  answer(false);
  await settle();
  assert.equal(socket.state, "closed");
  assert.deepEqual(seen.at(-1), ["closed", { code: 1006, reason: "" }]);
});

test("a reconnects that throws or rejects has said yes", async (t) => {
  const failing = [
    () => {
      throw new Error("sync");
    },
    () => Promise.reject(new Error("async")),
  ];
  for (const reconnects of failing) {
    const { server, socket, details } = await open(t, { reconnects });
    server.last.end(4403);
    await settle();
    assert.equal(socket.state, "waiting");
    assert.equal(details("state").at(-1).delay, 250);
    socket.close();
  }
});

test("what the page does while reconnects thinks, wins", async (t) => {
  let answer;
  const reconnects = () => new Promise((resolve) => (answer = resolve));
  const { server, socket, clock, details } = await open(t, { reconnects });
  server.last.end(1012);
  socket.reconnect();
  await settle();
  answer(false);
  await clock.pass(0);
  assert.equal(socket.state, "connecting");
  server.last.greet();
  server.last.end(1012);
  socket.close(3001, "enough");
  answer(true);
  await clock.pass(100_000);
  assert.equal(socket.state, "closed");
  assert.deepEqual(details("closed"), [{ code: 3001, reason: "enough" }]);
  assert.equal(server.all.length, 2);
});

test("reconnects may close or reconnect the socket itself", async (t) => {
  let act;
  const { server, socket, clock, details } = await open(t, { reconnects: () => act() });
  act = () => socket.reconnect();
  server.last.end(1012);
  await settle();
  assert.equal(server.all.length, 2);
  act = () => socket.close(3000, "by reconnects");
  server.last.refuse();
  await clock.pass(100_000);
  assert.equal(server.all.length, 2);
  assert.deepEqual(details("closed"), [{ code: 3000, reason: "by reconnects" }]);
});

test("close() ends at once, and nothing is left", async (t) => {
  const { server, socket, clock, seen } = await open(t);
  socket.close(4001, "é");
  assert.deepEqual(server.last.closed, [4001, "é"]);
  assert.deepEqual(seen, [
    ["state", { state: "closed", attempt: 0, delay: null, refusals: 0 }],
    ["closed", { code: 4001, reason: "é" }],
  ]);
  assert.equal(clock.waiting, 0);
  socket.close(4002);
  server.last.frame(null, "late");
  server.last.end(1000);
  assert.equal(seen.length, 2);
});

test("close() ends a try, and a wait", async (t) => {
  const { server, socket, clock } = await begin(t);
  socket.close();
  assert.deepEqual(server.last.closed, [1000, ""]);
  assert.equal(clock.waiting, 0);
  const other = await begin(t);
  other.server.last.refuse();
  other.socket.close();
  assert.equal(other.clock.waiting, 0);
  assert.equal(other.socket.state, "closed");
});

test("close() right after connect() opens nothing", async (t) => {
  const { connect, scripted } = await import("./kit.mjs");
  const server = scripted();
  const socket = connect("ws://site.test/", { WebSocket: server });
  socket.close();
  await settle();
  assert.equal(server.all.length, 0);
  socket.reconnect();
  await settle();
  assert.equal(server.all.length, 1);
  socket.close();
});

test("close() throws as a WebSocket does, whatever the state", async (t) => {
  const { socket, server } = await open(t);
  for (let n = 0; n < 2; n += 1) {
    for (const code of [0, 999, 1001, 1006, 2999, 5000, NaN, "x", null]) {
      assert.throws(() => socket.close(code), { name: "InvalidAccessError" }, `${code}`);
    }
    assert.throws(() => socket.close(1000, "é".repeat(62)), { name: "SyntaxError" });
    socket.close(1000, "é".repeat(61));
  }
  assert.deepEqual(server.last.closed, [1000, "é".repeat(61)]);
});

test("reconnect() tries now where it waits", async (t) => {
  const { server, socket, clock, details } = await begin(t);
  server.last.refuse();
  socket.reconnect();
  await settle();
  assert.equal(server.all.length, 2);
  assert.equal(details("state").at(-1).attempt, 2);
  assert.equal(details("state").at(-1).refusals, 1);
  await clock.pass(10_000);
  assert.equal(server.all.length, 2);
});

test("reconnect() drops an open socket and opens another", async (t) => {
  const { server, socket, seen } = await open(t);
  const first = server.last;
  socket.reconnect();
  await settle();
  assert.deepEqual(first.closed, [1000, ""]);
  assert.equal(server.all.length, 2);
  first.frame(null, "late");
  first.end(1000);
  server.last.greet("second");
  assert.deepEqual(seen.map(([type]) => type), ["state", "state", "open"]);
  assert.equal(socket.id, "second");
});

test("reconnect() does nothing during a try", async (t) => {
  const { server, socket } = await begin(t);
  socket.reconnect();
  await settle();
  assert.equal(server.all.length, 1);
});

test("reconnect() begins anew after the end, with the positions", async (t) => {
  const { server, socket, clock, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  for (let n = 0; n < 3; n += 1) {
    server.last.end(1006);
    await clock.pass(20_000);
  }
  server.last.accept();
  server.last.end(4401);
  assert.equal(socket.state, "closed");
  socket.reconnect();
  await settle();
  assert.deepEqual(details("state").at(-1), { state: "connecting", attempt: 1, delay: null, refusals: 0 });
  assert.equal(server.last.protocols.length, 2);
  server.last.refuse();
  assert.equal(details("state").at(-1).delay, 250);
  await clock.pass(250);
  server.last.greet();
  assert.deepEqual(details("open"), [{ reopened: true }]);
});

test("reconnect() in a listener of closed begins anew", async (t) => {
  const { server, socket } = await open(t);
  socket.addEventListener("closed", () => socket.reconnect(), { once: true });
  server.last.end(4401);
  await settle();
  assert.equal(server.all.length, 2);
  assert.equal(socket.state, "connecting");
});
