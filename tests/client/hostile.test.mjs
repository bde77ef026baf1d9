import assert from "node:assert/strict";
import { test } from "node:test";

import { open } from "./kit.mjs";

const MIB = 2 ** 20;

/** Frames of which none means anything. */
function* nonsense() {
  yield* ["", "no line feed", "x\n", "{}\n", "5\n", "null\n", '"m"\n', "[\n", "[]\n", "[[]]\n", "[null]\n"];
  yield* ['["m"]\n', '["m",5,"p"]\nx', '["m","room",5]\nx', '["m","room"]\nx', '["m","","p"]\nx', '["m","room",{}]\nx'];
  yield* ['["j","room"]\n', '["j","room","p"]\n', '["j","room","p",1]\n', '["j","room","p","true"]\n'];
  yield* ['["j",null,"p",true]\n', '["j","room",["p"],true]\n', '["j","room","p",true]\n{', '["j","","p",true]\n'];
  yield* ['["g"]\n', '["g","room",7]\n', '["g","room"]\n', '["l"]\n', '["l",{}]\n', '["p"]\n', '["p","room"]\n'];
  yield* ['["pong"]\n', '["pong",{}]\n', '["pong","__proto__"]\n', '["hello","again",{"ping":0.001}]\n'];
  yield* ['["unknown","room",1]\nx', '["__proto__"]\n', '["constructor","room","p"]\nx', '["toString","room","p"]\n'];
  yield `["unknown","${"x".repeat(MIB)}"]\npayload`;
  yield `${"[".repeat(MIB)}\nx`;
  yield `["m","room",${"[".repeat(MIB)}${"]".repeat(MIB)}]\nx`;
  yield `["m",${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)},"p"]\nx`;
  yield `${" ".repeat(MIB)}\nx`;
  yield "x".repeat(MIB);
}

test("frames that mean nothing are ignored, as text and as bytes", async (t) => {
  const { server, socket, seen, clock } = await open(t);
  const encoder = new TextEncoder();
  for (const frame of nonsense()) {
    server.last.say(frame);
    server.last.say(encoder.encode(frame).buffer);
  }
  for (const raw of [[], [0xff, 10], [0xc3, 0x28, 10, 1], [91, 0xff, 93, 10]]) {
    server.last.say(new Uint8Array(raw).buffer);
  }
  await clock.pass(5000);
  assert.deepEqual(seen, []);
  assert.equal(socket.state, "open");
  assert.equal(socket.groups.size, 0);
  assert.equal(socket.id, "id");
  server.last.frame(null, "still here");
  assert.equal(seen.length, 1);
});

test("a head of 1 MiB that means something is taken", async (t) => {
  const { server, socket, details } = await open(t);
  const name = "☃".repeat(MIB / 3);
  server.last.frame(["j", name, "p1", null]);
  server.last.frame(["m", name, "p2"], "x");
  assert.equal(details("message")[0].group, name);
  assert.ok(socket.since.length <= 4096);
});

test("more than is known in a head is passed over", async (t) => {
  const { server, details } = await open(t);
  server.last.frame(["j", "room", "p1", null, "more"], { count: 0, present: [], more: 1 });
  server.last.frame(["m", "room", "p2", { more: true }], "x");
  assert.equal(details("message").length, 1);
  assert.equal(details("presence").length, 1);
});

test("a listener that throws stops nothing", async (t) => {
  const { server, socket, clock, details, warnings } = await open(t);
  // Node ends for what a listener throws, where browsers only say so.
  const thrown = [];
  const note = (error) => thrown.push(error.message);
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", note);
  const fail = () => {
    throw new Error("in the page");
  };
  const types = ["open", "message", "joined", "presence", "gap", "state"];
  const offs = types.map((type) => socket.on(type, fail));
  server.last.frame(["j", "room", "p1", false], { count: 0, present: [] });
  server.last.frame(["m", "room", "p2"], "one");
  await clock.pass(3000);
  server.last.frame(null, "two");
  assert.equal(socket.groups.get("room").position, "p2");
  assert.deepEqual(details("message").map(({ data }) => data), ["one", "two"]);
  server.last.end(1012);
  await clock.pass(500);
  server.last.greet("second");
  assert.equal(socket.state, "open");
  await clock.pass(0);
  for (const off of offs) off();
  process.off("uncaughtException", note);
  for (const other of others) process.on("uncaughtException", other);
  assert.deepEqual(new Set(thrown), new Set(["in the page"]));
  assert.deepEqual(warnings(), []);
});

test("nothing of it reaches other objects", async (t) => {
  const { server } = await open(t);
  server.last.frame(["j", "__proto__", "p1", null], '{"count":1,"present":[{"key":"__proto__","info":{"polluted":1}}],"__proto__":{"polluted":1}}');
  server.last.frame(["p", "__proto__"], '{"count":1,"left":[{"key":"constructor"}],"joined":[{"__proto__":{"key":"x"}}]}');
  assert.equal({}.polluted, undefined);
});
