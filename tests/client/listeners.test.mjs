/** What a listener, or `reconnects`, decides while the client decides. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { open, settle } from "./kit.mjs";

test("close() in an async reconnects is for good", async (t) => {
  let socket;
  const all = await open(t, { async reconnects() { socket.close(4000, "mine"); return false; } });
  socket = all.socket;
  all.server.last.end(1012);
  await settle();
  assert.equal(socket.state, "closed");
  assert.deepEqual(all.seen.map(([type, d]) => d.state ?? type), ["closed", "closed"]);
  socket.close();
  assert.equal(all.details("closed").length, 1);
  socket.reconnect();
  await settle();
  assert.equal(all.server.all.length, 2);
});

test("reconnect() in an async reconnects leaves it connecting", async (t) => {
  let socket;
  const all = await open(t, { async reconnects() { socket.reconnect(); return false; } });
  socket = all.socket;
  all.server.last.end(1012);
  await settle();
  assert.equal(socket.state, "connecting");
});

test("no closed is told where a listener of its state has begun anew", async (t) => {
  const { server, socket, seen } = await open(t);
  const off = socket.on("state", ({ state }) => { if (state === "closed") off() || socket.reconnect(); });
  server.last.end(4403);
  assert.equal(socket.state, "connecting");
  assert.equal(seen.filter(([type]) => type === "closed").length, 0);
});
