/**
 * 10,000 pages whose server goes away for 30 s, by the client itself under a clock that is not real.
 * Prints when they try, and ends with 1 where they do not spread: node tests/client/simulation.mjs
 */

import { Clock, connect, scripted, settle } from "./kit.mjs";

const CLIENTS = 10_000;
const AWAY = 30_000; // ms
const SPAN = 50; // ms
const MOST = 0.02; // of all attempts in any such span

/** mulberry32: numbers that look random, the same ones each time. */
function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Return the times of all attempts from the server's end on, and the clients. */
async function restart(seed, code) {
  const clock = new Clock().install();
  Math.random = seeded(seed);
  console.warn = () => {};
  const attempts = [];
  let down = false;
  let back = Infinity;
  class Server extends scripted() {
    static all = { push: (socket) => Server.made(socket), at: () => undefined };
    static made = (socket) => {
      if (down) attempts.push(clock.now);
      setTimeout(() => {
        if (down && clock.now < back) return socket.refuse();
        socket.greet("id");
        socket.frame(["j", "room", "p1", true]);
        socket.frame(["m", "room", "p2"], "x");
        sockets.push(socket);
      }, 1);
    };
  }
  const sockets = [];
  const clients = Array.from({ length: CLIENTS }, () =>
    connect("ws://site.test/", { WebSocket: Server }),
  );
  await clock.pass(2);
  if (sockets.length !== CLIENTS) throw new Error(`${sockets.length} of them are open`);
  down = true;
  const start = clock.now;
  back = start + AWAY;
  for (const socket of sockets.splice(0)) socket.end(code);
  // Longer than any of them waits: the longest delay, and what the pings of a minute need.
  await clock.pass(AWAY + 20_100);
  return { times: attempts.map((at) => at - start).sort((a, b) => a - b), clients };
}

/** The most attempts that any span has, wherever it begins. */
function peak(times) {
  let most = 0;
  for (let first = 0, last = 0; last < times.length; last += 1) {
    while (times[last] - times[first] >= SPAN) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

for (const [seed, code] of [[1, 1012], [2, 1006]]) {
  const { times, clients } = await restart(seed, code);
  const open = clients.filter(({ state }) => state === "open").length;
  const share = peak(times) / times.length;
  console.log(
    JSON.stringify({ code, attempts: times.length, last: Math.round(times.at(-1)), open, share }),
  );
  if (open !== CLIENTS) process.exitCode = 1;
  if (!(share <= MOST)) process.exitCode = 1;
  for (const client of clients) client.close();
  await settle();
}
