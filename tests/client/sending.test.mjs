import assert from "node:assert/strict";
import { test } from "node:test";

import { begin, open, settle } from "./kit.mjs";

const bytes = async (data) => [...new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data)];
const full = { name: "InvalidStateError" };

test("a message has an empty head", async (t) => {
  const { server, socket } = await open(t);
  socket.send("text\nwith lines");
  socket.send("");
  socket.sendJSON({ text: "hello" });
  assert.deepEqual(server.last.sent, ["\ntext\nwith lines", "\n", '\n{"text":"hello"}']);
});

test("bytes are sent as bytes", async (t) => {
  const { server, socket } = await open(t);
  const { buffer } = new Uint8Array([9, 1, 2, 3, 9, 9, 9, 9]);
  socket.send(buffer);
  socket.send(new Uint8Array(buffer, 1, 3));
  socket.send(new DataView(buffer, 2, 2));
  socket.send(new Uint16Array(buffer, 4, 1));
  socket.send(new Blob([new Uint8Array([1, 2])]));
  socket.send(new ArrayBuffer(0));
  const sent = await Promise.all(server.last.sent.map(bytes));
  assert.deepEqual(sent, [
    [10, 9, 1, 2, 3, 9, 9, 9, 9], [10, 1, 2, 3], [10, 2, 3], [10, 9, 9], [10, 1, 2], [10],
  ]);
  assert.ok(server.last.sent[4] instanceof Blob);
});

test("in plain they are sent as they are", async (t) => {
  const { server, socket } = await open(t, { plain: true });
  socket.send("text");
  socket.send(new Uint8Array([0, 1, 2, 3]).subarray(1, 3));
  socket.send(new Blob(["x"]));
  assert.equal(server.last.sent[0], "text");
  assert.deepEqual(await bytes(server.last.sent[1]), [1, 2]);
  assert.deepEqual(await bytes(server.last.sent[2]), [120]);
});

test("what is no message throws", async (t) => {
  const { server, socket } = await open(t);
  for (const data of [5, null, undefined, {}, [1], true]) {
    assert.throws(() => socket.send(data), TypeError, `${data}`);
  }
  assert.throws(() => socket.sendJSON(undefined), TypeError);
  assert.deepEqual(server.last.sent, []);
});

test("without a queue it throws while it is not open", async (t) => {
  const { server, socket } = await begin(t);
  assert.throws(() => socket.send("x"), { ...full, message: "The socket is connecting." });
  server.last.refuse();
  assert.throws(() => socket.send("x"), { ...full, message: "The socket is waiting." });
});

test("a queue is sent behind hello, in order, and before open is told", async (t) => {
  const { server, socket } = await begin(t, { queue: 3 });
  socket.on("open", () => socket.send("from open"));
  socket.on("state", ({ state }) => state === "open" && socket.send("from state"));
  socket.send("one");
  server.last.accept();
  socket.send(new Uint8Array([2]));
  assert.deepEqual(server.last.sent, []);
  server.last.frame(["hello", "id", {}]);
  const sent = server.last.sent.map((data) => (typeof data === "string" ? data : [...data]));
  assert.deepEqual(sent, ["\none", [10, 2], "\nfrom state", "\nfrom open"]);
});

test("a full queue throws, and says so", async (t) => {
  const { server, socket } = await begin(t, { queue: 2 });
  socket.send("one");
  socket.send("two");
  assert.throws(() => socket.send("three"), { ...full, message: /queue full/ });
  server.last.greet();
  assert.deepEqual(server.last.sent, ["\none", "\ntwo"]);
  socket.send("four");
  server.last.end(1006);
  socket.send("five");
});

test("what waits outlives refusals, and is a copy", async (t) => {
  const { server, socket, clock } = await begin(t, { queue: 2 });
  const data = new Uint8Array([1]);
  socket.send(data);
  data[0] = 2;
  server.last.refuse();
  await clock.pass(20_000);
  server.last.greet();
  assert.deepEqual([...server.last.sent[0]], [10, 1]);
});

test("a closed socket throws always, and forgets what waits", async (t) => {
  const { server, socket } = await begin(t, { queue: 2 });
  socket.send("one");
  socket.close();
  assert.throws(() => socket.send("x"), { ...full, message: "The socket is closed." });
  socket.reconnect();
  await settle();
  server.last.greet();
  assert.deepEqual(server.last.sent, []);
});

test("a queued message that the class does not send stops nothing", async (t) => {
  const { server, socket, details } = await begin(t, { queue: 3 });
  socket.send("one");
  socket.send(new Blob(["two"]));
  socket.send("three");
  const last = server.last;
  const send = last.send.bind(last);
  last.send = (data) => {
    if (data instanceof Blob) throw new TypeError("no Blobs here");
    send(data);
  };
  let thrown = null;
  try { last.greet(); } catch (error) { thrown = error; }
  assert.equal(thrown, null);
  assert.equal(socket.state, "open");
  assert.equal(details("open").length, 1);
  assert.deepEqual(last.sent, ["\none", "\nthree"]);
});
