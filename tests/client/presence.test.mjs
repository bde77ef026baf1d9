import assert from "node:assert/strict";
import { test } from "node:test";

import { open } from "./kit.mjs";

const one = (key, since, info = null, sockets = 1) => ({ key, info, sockets, since });
const [ann, bob, cid] = [one("ann", 10), one("bob", 20), one("cid", 30)];

async function joined(t, present = [bob, ann], count = present?.length ?? 500) {
  const all = await open(t);
  all.server.last.frame(["j", "room", "p1", null], present ? { count, present } : { count });
  const last = () => all.details("presence").at(-1);
  const told = all.seen.map(([type]) => type);
  return { ...all, last, told };
}

test("who is here comes after joined, who is here longest first", async (t) => {
  const { told, last, socket } = await joined(t);
  assert.deepEqual(told, ["joined", "presence"]);
  assert.deepEqual(last(), {
    group: "room", present: [ann, bob], count: 2, joined: [ann, bob], left: [],
  });
  assert.deepEqual(socket.groups.get("room"), { position: "p1", present: [ann, bob], count: 2 });
});

test("equally long ones stay as they came", async (t) => {
  const list = [one("x", 5), one("b", 5), one("a", 5), one("first", 1)];
  const { last } = await joined(t, list);
  assert.deepEqual(last().present.map(({ key }) => key), ["first", "x", "b", "a"]);
});

test("who comes and goes is told, with the list", async (t) => {
  const { server, last, socket } = await joined(t);
  server.last.frame(["p", "room"], { count: 2, left: [ann], joined: [cid] });
  assert.deepEqual(last(), {
    group: "room", present: [bob, cid], count: 2, joined: [cid], left: [ann],
  });
  assert.deepEqual(socket.groups.get("room").present, [bob, cid]);
});

test("who left is applied before who joined", async (t) => {
  const { server, last } = await joined(t);
  const again = one("ann", 40);
  server.last.frame(["p", "room"], { count: 2, left: [ann], joined: [again] });
  assert.deepEqual(last(), {
    group: "room", present: [bob, again], count: 2, joined: [again], left: [],
  });
});

test("another info, number of sockets or time is told as joined", async (t) => {
  for (const changed of [one("ann", 10, { away: true }), one("ann", 10, null, 2), one("ann", 11)]) {
    const { server, last } = await joined(t);
    server.last.frame(["p", "room"], { count: 2, left: [], joined: [changed, bob] });
    assert.deepEqual(last().joined, [changed]);
    assert.deepEqual(last().present, [changed, bob]);
  }
});

test("a list replaces what was known, and the difference is told", async (t) => {
  const { server, last } = await joined(t);
  server.last.frame(["p", "room"], { count: 2, present: [bob, cid] });
  assert.deepEqual(last(), {
    group: "room", present: [bob, cid], count: 2, joined: [cid], left: [ann],
  });
});

test("after a reconnect the difference is told", async (t) => {
  const { server, clock, last } = await joined(t);
  server.last.end(1006);
  await clock.pass(500);
  server.last.greet("second");
  server.last.frame(["j", "room", "p1", true], { count: 2, present: [ann, cid] });
  assert.deepEqual([last().joined, last().left], [[cid], [bob]]);
  server.last.end(1006);
  await clock.pass(1000);
  server.last.greet("third");
  server.last.frame(["j", "room", "p1", true], { count: 2, present: [ann, cid] });
  assert.deepEqual([last().joined, last().left], [[], []]);
});

test("above the cap only the number is known, until a list comes again", async (t) => {
  const { server, last, socket } = await joined(t);
  server.last.frame(["p", "room"], { count: 201 });
  assert.deepEqual(last(), { group: "room", present: null, count: 201, joined: [], left: [] });
  assert.deepEqual(socket.groups.get("room"), { position: "p1", present: null, count: 201 });
  server.last.frame(["p", "room"], { count: 202, left: [], joined: [cid] });
  assert.deepEqual(last(), { group: "room", present: null, count: 202, joined: [], left: [] });
  server.last.frame(["p", "room"], { count: 2, present: [ann, bob] });
  assert.deepEqual(last().joined, [ann, bob]);
  assert.deepEqual(last().present, [ann, bob]);
});

test("a group may be above the cap from the start", async (t) => {
  const { last, server } = await joined(t, null);
  assert.deepEqual(last(), { group: "room", present: null, count: 500, joined: [], left: [] });
  server.last.frame(["p", "room"], { count: 501 });
  assert.equal(last().count, 501);
});

test("null in place of a list is none", async (t) => {
  const { server, last } = await joined(t);
  server.last.frame(["p", "room"], { count: 300, present: null, left: null, joined: null });
  assert.equal(last().present, null);
});

test("lists that are not there are empty", async (t) => {
  const { server, last } = await joined(t);
  server.last.frame(["p", "room"], { count: 1, left: [ann] });
  assert.deepEqual(last().left, [ann]);
  server.last.frame(["p", "room"], { count: 2, joined: [cid] });
  assert.deepEqual(last().joined, [cid]);
});

test("who is here in a group that was not joined is ignored", async (t) => {
  const { server, seen, socket } = await open(t);
  server.last.frame(["p", "room"], { count: 1, present: [ann] });
  server.last.frame(["j", "plain", "p1", null]);
  server.last.frame(["p", "plain"], { count: 1, present: [ann] });
  assert.deepEqual(seen.map(([type]) => type), ["joined"]);
  assert.equal(socket.groups.has("room"), false);
});

test("lists of nonsense harm nobody", async (t) => {
  const { server, seen, last } = await joined(t, [ann]);
  const before = seen.length;
  const deep = `{"count":1,"present":[{"key":"a","info":${"[".repeat(50_000)}${"]".repeat(50_000)}}]}`;
  const payloads = [
    "", "x", "5", "null", "[]", "{}", '{"count":"many"}', '{"count":1,"present":5}',
    '{"count":1,"present":{"a":1}}', '{"count":1,"left":7}', '{"count":1,"joined":"ann"}', deep,
  ];
  for (const payload of payloads) server.last.frame(["p", "room"], payload);
  assert.equal(seen.length, before);
  const present = [null, 1, [], { key: 5 }, { key: "__proto__" }, ann];
  server.last.frame(["p", "room"], { count: 2, present });
  assert.deepEqual(last().present.map(({ key }) => key).sort(), ["__proto__", "ann"]);
});
