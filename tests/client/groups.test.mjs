import assert from "node:assert/strict";
import { test } from "node:test";

import { V1, begin, decode, encode, offered, open } from "./kit.mjs";

const entry = (position, present = null, count = null) => ({ position, present, count });

test("a message of a group has its position, and moves the page's", async (t) => {
  const { server, socket, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  assert.deepEqual(details("joined"), [{ group: "room", recovered: null }]);
  assert.deepEqual(details("presence"), []);
  assert.deepEqual(socket.groups.get("room"), entry("p1"));
  let during;
  socket.on("message", () => (during = decode(socket.since).room));
  server.last.frame(["m", "room", "p2"], "hi");
  assert.deepEqual(details("message"), [{ data: "hi", group: "room", position: "p2" }]);
  assert.deepEqual(socket.groups.get("room"), entry("p2"));
  assert.equal(during, "p2");
});

test("a message may be bytes", async (t) => {
  const { server, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  const head = new TextEncoder().encode('["m","room","p2"]\n');
  server.last.say(new Uint8Array([...head, 0, 10, 255]).buffer);
  const [{ data, position }] = details("message");
  assert.deepEqual([...new Uint8Array(data)], [0, 10, 255]);
  assert.equal(position, "p2");
});

test("a message without a position moves nothing", async (t) => {
  const { server, socket, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  server.last.frame(["m", "room", null], "hi");
  assert.deepEqual(details("message"), [{ data: "hi", group: "room", position: null }]);
  assert.equal(socket.groups.get("room").position, "p1");
});

test("joined sets the position, also to none", async (t) => {
  const { server, socket } = await open(t);
  server.last.frame(["j", "room", "p1", true]);
  server.last.frame(["j", "room", "p5", true]);
  assert.equal(socket.groups.get("room").position, "p5");
  server.last.frame(["j", "room", null, true]);
  assert.equal(socket.groups.get("room").position, null);
  assert.deepEqual(decode(socket.since), { "": ["id"] });
});

test("a group that was left is forgotten", async (t) => {
  const { server, socket, clock, details } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  server.last.frame(["l", "room"]);
  assert.equal(socket.groups.has("room"), false);
  assert.deepEqual(decode(socket.since), { "": ["id"] });
  server.last.frame(["j", "room", "p2", null]);
  await clock.pass(3000);
  assert.deepEqual(details("gap"), []);
});

test("a new socket offers the positions and the ids of the page's sockets", async (t) => {
  const { server, socket, clock } = await open(t);
  server.last.frame(["j", "room", "p1", null]);
  server.last.frame(["m", "room", "p2"], "hi");
  server.last.end(1006);
  assert.deepEqual(decode(socket.since), { "": ["id"], room: "p2" });
  await clock.pass(500);
  assert.equal(server.last.protocols[0], V1);
  assert.match(server.last.protocols[1], /^since\.[A-Za-z0-9_-]+$/);
  assert.deepEqual(offered(server.last), { "": ["id"], room: "p2" });
});

test("the newest eight ids are offered, the oldest first", async (t) => {
  const { server, socket } = await open(t);
  for (let n = 0; n < 10; n += 1) {
    socket.reconnect();
    await null;
    await null;
    server.last.greet(`id-${n}`);
  }
  const ids = [2, 3, 4, 5, 6, 7, 8, 9].map((n) => `id-${n}`);
  assert.deepEqual(decode(socket.since), { "": ids });
});

test("the id stays until there is another: a POST meanwhile is excluded by it", async (t) => {
  const { server, socket, clock } = await open(t);
  server.last.end(1006);
  assert.equal(socket.id, "id");
  await clock.pass(500);
  server.last.greet("second");
  assert.equal(socket.id, "second");
});

test("the page's token is offered, its groups are known, and its ids kept", async (t) => {
  const since = encode({ room: "p7", "": ["before"], "é {☃}": "p8" });
  const { server, socket } = await begin(t, { since });
  assert.deepEqual(offered(server.last), { "": ["before"], room: "p7", "é {☃}": "p8" });
  assert.deepEqual(socket.groups.get("room"), entry("p7"));
  server.last.greet("now");
  assert.deepEqual(decode(socket.since)[""], ["before", "now"]);
});

test("a token that can not be read is as good as none", async (t) => {
  const garbled = [
    "",
    "!",
    "x".repeat(2 ** 20),
    null,
    42,
    {},
    encode([1, 2]),
    encode("text"),
    encode(null),
    encode({ room: 5, other: null, deep: { a: "b" }, "": "id" }),
    encode({ "": [1, null, {}] }),
    Buffer.from('{"room":"p1"').toString("base64url"),
    Buffer.from([0xff, 0xfe, 0x00]).toString("base64url"),
    Buffer.from("[".repeat(200_000)).toString("base64url"),
    Buffer.from(`{"a":${"[".repeat(200_000)}`).toString("base64url"),
  ];
  for (const since of garbled) {
    const { server, socket } = await begin(t, { since });
    assert.deepEqual(server.last.protocols, [V1]);
    assert.equal(socket.since, "");
    assert.equal(socket.groups.size, 0);
    socket.close();
  }
});

test("a token has at most 4096 characters: groups that do not fit are left out whole", async (t) => {
  const { server, socket, clock, details } = await open(t);
  const names = Array.from({ length: 200 }, (_, n) => `room:${n}`);
  names.splice(10, 0, "☃".repeat(1500)); // on its own too long, and not in the way of the others
  for (const name of names) server.last.frame(["j", name, `p-${name.slice(0, 30).length}`, null]);
  const token = socket.since;
  assert.ok(token.length <= 4096 && token.length > 4060, `${token.length}`);
  const fits = Object.keys(decode(token));
  assert.ok(fits.length > 100 && fits.length < names.length);
  assert.ok(!fits.includes(names[10]));
  assert.equal(socket.groups.size, names.length);
  server.last.end(1006);
  await clock.pass(500);
  assert.deepEqual(Object.keys(offered(server.last)), fits);
  server.last.greet("second");
  server.last.frame(["j", names[10], "p9", null]);
  await clock.pass(3000);
  assert.deepEqual(details("gap"), [{ group: names[10] }]);
});

test("a token of exactly 4096 characters is offered, and one more byte is not", async (t) => {
  const { server, socket } = await open(t, { since: encode({}) });
  const empty = Buffer.from(socket.since, "base64url").length + ',"":"p"'.length;
  server.last.frame(["j", "x".repeat(3072 - empty), "p", null]);
  assert.equal(socket.since.length, 4096);
  server.last.frame(["l", "x".repeat(3072 - empty)]);
  server.last.frame(["j", "x".repeat(3073 - empty), "p", null]);
  assert.deepEqual(decode(socket.since), { "": ["id"] });
});

test("an id that is too long for a token leaves room for the groups", async (t) => {
  const { server, socket } = await begin(t);
  server.last.greet("x".repeat(10_000));
  server.last.frame(["j", "room", "p1", null]);
  assert.deepEqual(decode(socket.since), { room: "p1" });
});

test("groups may be called as objects' own things are", async (t) => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", '"', "\\", "\ud800", "<user>"];
  const { server, socket, clock } = await open(t);
  for (const name of names) server.last.frame(["j", name, "p1", null], { count: 0, present: [] });
  assert.deepEqual([...socket.groups.keys()].slice(0, 6), names.slice(0, 6));
  const token = socket.since;
  assert.deepEqual(new Set(Object.keys(decode(token))), new Set(["", ...names]));
  assert.equal({}.p1, undefined);
  server.last.end(1006);
  await clock.pass(500);
  assert.equal(server.last.protocols[1], `since.${token}`);
  const other = await begin(t, { since: token });
  assert.equal(other.socket.since, token);
  assert.equal(other.socket.groups.get("__proto__").position, "p1");
});

test("the groups stay known while the socket is away", async (t) => {
  const { server, socket } = await open(t);
  const present = [{ key: "a", info: 1, sockets: 1, since: 5 }];
  server.last.frame(["j", "room", "p1", null], { count: 1, present });
  server.last.end(1006);
  assert.deepEqual(socket.groups.get("room"), entry("p1", present, 1));
});
