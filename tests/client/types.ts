// Every declaration in use; tsc --strict reads it, and nobody runs it.

import { connect } from "django-ws-dispatch";
import type {
  End,
  Group,
  Options,
  Present,
  Sendable,
  Socket,
  SocketEvents,
  State,
  WebSocketLike,
} from "django-ws-dispatch";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const check = <_T extends true>(): void => undefined;

class Fake implements WebSocketLike {
  binaryType = "";
  readonly protocol = "";
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  constructor(
    readonly url: string,
    readonly protocols?: string[],
  ) {}
  send(_data: Sendable): void {}
  close(_code?: number, _reason?: string): void {}
}

const options: Options = {
  since: "token",
  plain: false,
  queue: 10,
  minDelay: 500,
  maxDelay: 20_000,
  ping: 25_000,
  patience: 8000,
  reconnects: ({ code, reason, opened, refusals }: End) =>
    opened || refusals < 10 || code === 1006 || reason === "",
  WebSocket: Fake,
};
const asking: Options = {
  reconnects: async (end) => (await fetch(`/may-i/?code=${end.code}`)).ok,
  WebSocket: globalThis.WebSocket,
  since: undefined,
};

const socket: Socket = connect("/ws/room/1/", options);
connect(new URL("wss://site.test/"), asking);
connect(() => "/ws/");
connect(async () => new URL("wss://site.test/"), {});

const state: State = socket.state;
const id: string | null = socket.id;
const latency: number | null = socket.latency;
const texts: string[] = [socket.url, socket.since];
const group: Group | undefined = socket.groups.get("room");
const present: readonly Present[] | null | undefined = group?.present;
const count: number | null | undefined = group?.count;
const position: string | null | undefined = group?.position;
for (const { key, info, sockets, since } of present ?? []) {
  check<Equal<typeof key, string>>();
  check<Equal<typeof info, unknown>>();
  check<Equal<typeof sockets | typeof since, number>>();
}

const messages: Sendable[] = ["text", new ArrayBuffer(1), new Uint8Array(1), new Blob(["x"])];
for (const message of messages) socket.send(message);
socket.sendJSON({ text: "hello" });
socket.close();
socket.close(4000);
socket.close(4000, "reason");
socket.reconnect();

const off: () => void = socket.on("open", ({ reopened }) => check<Equal<typeof reopened, boolean>>());
off();
socket.on("message", ({ data, group, position }) => {
  check<Equal<typeof data, string | ArrayBuffer>>();
  check<Equal<typeof group | typeof position, string | null>>();
});
socket.on("joined", ({ group, recovered }) => {
  check<Equal<typeof group, string>>();
  check<Equal<typeof recovered, boolean | null>>();
});
socket.on("presence", ({ group, present, count, joined, left }) => {
  check<Equal<typeof group, string>>();
  check<Equal<typeof count, number>>();
  check<Equal<typeof present, readonly Present[] | null>>();
  check<Equal<typeof joined | typeof left, readonly Present[]>>();
});
socket.on("gap", ({ group }) => check<Equal<typeof group, string>>());
socket.on("state", ({ state, attempt, delay, refusals }) => {
  check<Equal<typeof state, State>>();
  check<Equal<typeof attempt | typeof refusals, number>>();
  check<Equal<typeof delay, number | null>>();
});
socket.on("closed", ({ code, reason }) => {
  check<Equal<typeof code, number>>();
  check<Equal<typeof reason, string>>();
});

const listener = (event: CustomEvent<SocketEvents["message"]>): void => {
  const target: EventTarget | null = event.target;
  void [target, event.detail.data];
};
socket.addEventListener("message", listener, { once: true });
socket.removeEventListener("message", listener);
socket.addEventListener("gap", { handleEvent: (event) => void event.detail.group });
socket.addEventListener("anything", (event: Event) => void event.type);
const target: EventTarget = socket;

// @ts-expect-error: no such event
socket.on("close", () => undefined);
// @ts-expect-error: no such detail
socket.on("gap", ({ position }) => position);
// @ts-expect-error: no message
socket.send(5);
// @ts-expect-error: read only
socket.state = "open";
// @ts-expect-error: read only
socket.groups.set("room", group);
// @ts-expect-error: no such option
connect("/ws/", { retries: 5 });
// @ts-expect-error: no URL
connect();

void [state, id, latency, texts, count, position, target];
