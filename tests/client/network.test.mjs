/** Over real connections: Node's WebSocket, and npm's ws, with a server out of ws. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { test } from "node:test";

import { CLIENT, V1, connect, decode } from "./kit.mjs";

const ws = createRequire(import.meta.url)("ws"); // as NODE_PATH says
const CLASSES = { "Node's": globalThis.WebSocket, "npm's": ws.WebSocket };
const QUICK = { minDelay: 1, maxDelay: 50, patience: 30_000 };

/** A server that answers handshakes as `answers` say, one after the other, and then with v1. */
async function serve(t, answers = []) {
  const http = createServer();
  const v1 = new ws.WebSocketServer({ noServer: true, handleProtocols: () => V1 });
  const mute = new ws.WebSocketServer({ noServer: true, handleProtocols: () => false });
  const server = { offers: [], got: [], last: null, http };
  const raw = new Set();
  http.on("upgrade", (request, connection, head) => {
    raw.add(connection);
    server.offers.push(request.headers["sec-websocket-protocol"]?.split(","));
    const answer = answers.shift() ?? "v1";
    if (typeof answer === "number") {
      connection.end(`HTTP/1.1 ${answer} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    } else if (answer === "drop") {
      connection.destroy();
    } else {
      (answer === "mute" ? mute : v1).handleUpgrade(request, connection, head, (socket) => {
        server.last = socket;
        socket.on("message", (data, binary) => server.got.push([data, binary]) && server.heard?.());
        if (answer === "mute") return;
        socket.send(`["hello","id-${server.offers.length}",{"ping":25}]\n`);
        socket.send('["j","room","p1",true]\n');
        socket.send(`["m","room","p${server.offers.length}"]\nwelcome`);
      });
    }
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  t.after(() => {
    for (const connection of raw) connection.destroy();
    http.close();
  });
  t.mock.method(console, "warn", () => {});
  server.url = `http://127.0.0.1:${http.address().port}/ws/`;
  return server;
}

const next = (socket, type) =>
  new Promise((resolve) => {
    const off = socket.on(type, (detail) => off() || resolve(detail));
  });

for (const [whose, WebSocket] of Object.entries(CLASSES)) {
  const options = { ...QUICK, WebSocket };

  test(`${whose}: refusals are tried again, and then it is open`, async (t) => {
    const server = await serve(t, [403, 502, "drop"]);
    const socket = connect(server.url, options);
    const refusals = [];
    socket.on("state", ({ state, refusals: n }) => state === "waiting" && refusals.push(n));
    assert.equal((await next(socket, "message")).data, "welcome");
    assert.deepEqual(refusals, [1, 2, 3]);
    assert.equal(socket.id, "id-4");
    socket.close();
  });

  test(`${whose}: a server that answers no offer refuses`, async (t) => {
    const server = await serve(t, ["mute"]);
    const socket = connect(server.url, options);
    await next(socket, "open");
    assert.equal(server.offers.length, 2);
    socket.close();
  });

  test(`${whose}: plain speaks with a server without v1`, async (t) => {
    const server = await serve(t, ["mute"]);
    const socket = connect(server.url, { ...options, plain: true });
    await next(socket, "open");
    assert.deepEqual(server.offers, [undefined]);
    const answer = next(socket, "message");
    server.last.send("as it is");
    assert.equal((await answer).data, "as it is");
    socket.close();
  });

  test(`${whose}: it comes back with its position`, async (t) => {
    const server = await serve(t);
    const socket = connect(server.url, options);
    await next(socket, "message");
    server.last.close(1012);
    assert.deepEqual(await next(socket, "open"), { reopened: true });
    const [protocol, token] = server.offers[1];
    assert.equal(protocol, V1);
    assert.deepEqual(decode(token.slice("since.".length)), { "": ["id-1"], room: "p1" });
    server.last.terminate();
    await next(socket, "open");
    socket.close();
  });

  test(`${whose}: text and bytes go both ways`, async (t) => {
    const server = await serve(t);
    const socket = connect(server.url, options);
    await next(socket, "message");
    const got = new Promise((resolve) => {
      server.heard = () => server.got.length === 3 && resolve();
    });
    socket.sendJSON("€");
    socket.send(new Uint8Array([0, 1, 2]).subarray(1));
    socket.send(new Blob([new Uint8Array([7])]));
    await got;
    const sent = server.got.map(([data, binary]) => (binary ? [...data] : data.toString()));
    assert.deepEqual(sent, ['\n"€"', [10, 1, 2], [10, 7]]);
    const answer = next(socket, "message");
    server.last.send(Buffer.from([10, 5, 10]));
    assert.deepEqual([...new Uint8Array((await answer).data)], [5, 10]);
    socket.close();
  });

  test(`${whose}: the server's end is told with its code and reason`, async (t) => {
    const server = await serve(t);
    const socket = connect(server.url, options);
    await next(socket, "message");
    server.last.close(4403, "é");
    assert.deepEqual(await next(socket, "closed"), { code: 4403, reason: "é" });
  });

  test(`${whose}: the server learns the page's code`, async (t) => {
    const server = await serve(t);
    const socket = connect(server.url, options);
    await next(socket, "message");
    const closed = once(server.last, "close");
    socket.close(4321, "bye");
    const [code, reason] = await closed;
    assert.deepEqual([code, reason.toString()], [4321, "bye"]);
  });

  test(`${whose}: a handshake under way can be given up`, async (t) => {
    const server = await serve(t);
    const early = connect(server.url, options);
    await once(server.http, "upgrade");
    early.close();
    const socket = connect(server.url, options);
    await next(socket, "message");
    assert.equal(early.state, "closed");
    socket.close();
  });
}

test("a process ends once its socket is closed", async (t) => {
  const server = await serve(t, [403]);
  const script = `
    const { connect } = await import(${JSON.stringify(String(CLIENT))});
    const socket = connect(${JSON.stringify(server.url)}, { minDelay: 1, maxDelay: 600_000 });
    socket.on("message", () => socket.close());
    socket.on("closed", ({ code }) => console.log(code));
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  t.after(() => child.kill());
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  const [code] = await once(child, "close");
  assert.deepEqual([code, out], [0, "1000\n"]);
});
