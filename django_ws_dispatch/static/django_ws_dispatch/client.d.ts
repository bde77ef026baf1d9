/** What goes out, and what comes: a string, or bytes. */
export type Sendable = string | ArrayBuffer | ArrayBufferView | Blob;

/** connecting: a try is under way; waiting: for the next one; closed: there will be none. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** Somebody who is in a group, with any number of sockets. */
export interface Present {
  readonly key: string;
  /** What the server's `join(info=...)` said, of the newest socket. */
  readonly info: unknown;
  readonly sockets: number;
  /** Seconds since 1970. */
  readonly since: number;
}

/** A group that the handler joined, and that the server's WEBSOCKET_GROUPS names. */
export interface Group {
  /** Of the newest message that was dispatched. */
  readonly position: string | null;
  /** Who is here, longest first; null where that is not known, or above the cap. */
  readonly present: readonly Present[] | null;
  /** How many are here; null where that is not known. */
  readonly count: number | null;
}

/** The events, and the details that `on()` hands to a listener. */
export interface SocketEvents {
  /** It is open; `reopened`: it has been before. */
  open: { reopened: boolean };
  /** `group` and `position` are null for what the handler sent itself. */
  message: { data: string | ArrayBuffer; group: string | null; position: string | null };
  /** `recovered`: whether all that was missed follows; null where nothing was asked for. */
  joined: { group: string; recovered: boolean | null };
  /** `joined` and `left` are what is new in `present`. */
  presence: {
    group: string;
    present: readonly Present[] | null;
    count: number;
    joined: readonly Present[];
    left: readonly Present[];
  };
  /** Something was missed, and is not to be had any more: load the state again. */
  gap: { group: string };
  /** `attempt`: tries since it was open; `delay`: ms until the next; `refusals`: in a row. */
  state: { state: State; attempt: number; delay: number | null; refusals: number };
  /** It will not try again. */
  closed: { code: number; reason: string };
}

/** How a socket, or an attempt to open one, has ended. */
export interface End {
  readonly code: number;
  readonly reason: string;
  /** It was open; otherwise the handshake was refused, with the code 1006 in browsers. */
  readonly opened: boolean;
  /** In a row, this one included. */
  readonly refusals: number;
}

/** What is used of a WebSocket class. */
export interface WebSocketLike {
  binaryType: string;
  readonly protocol: string;
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

export interface Options {
  /** A token of positions: of the server's `since_token()`, or another socket's `since`. */
  since?: string | undefined;
  /** For a server or handler that does not speak django-ws-dispatch.v1: only reconnecting. */
  plain?: boolean | undefined;
  /** Messages kept while it is not open. Default 0: `send()` throws. */
  queue?: number | undefined;
  /** A delay is between 0 and min(maxDelay, minDelay * 2 ** n) ms. Default 500. */
  minDelay?: number | undefined;
  /** Default 20000 ms. */
  maxDelay?: number | undefined;
  /** ms between two pings. Default 25000; the server may ask for less. */
  ping?: number | undefined;
  /** ms in which a ping is answered. Default 8000. */
  patience?: number | undefined;
  /** Whether to try again, instead of the table of close codes. */
  reconnects?: ((end: End) => boolean | PromiseLike<boolean>) | undefined;
  /** Default: the global one. */
  WebSocket?: (new (url: string, protocols?: string[]) => WebSocketLike) | undefined;
}

type Listener<Detail> =
  | ((this: Socket, event: CustomEvent<Detail>) => any)
  | { handleEvent(event: CustomEvent<Detail>): any };

/** A WebSocket that comes back by itself, and goes on where it was. */
export interface Socket extends EventTarget {
  /** Of the newest try; empty before a function has made the first. */
  readonly url: string;
  readonly state: State;
  /** The newest socket's, for the header X-Socket-ID; null before the first is open. */
  readonly id: string | null;
  /** ms that the last ping took; null before, and while it is not open. */
  readonly latency: number | null;
  readonly groups: ReadonlyMap<string, Group>;
  /** The token of all positions, for `Options.since`. */
  readonly since: string;

  /** Listen, and return a function that ends it. */
  on<Type extends keyof SocketEvents>(
    type: Type,
    listener: (detail: SocketEvents[Type]) => unknown,
  ): () => void;
  /** Send now, or keep it for later as far as `Options.queue` goes; else InvalidStateError. */
  send(data: Sendable): void;
  sendJSON(value: unknown): void;
  /** Close for good, with 1000 or 3000 to 4999 and at most 123 bytes of a reason. */
  close(code?: number, reason?: string): void;
  /** Try now, with a new socket where one is open; after `closed` it begins anew. */
  reconnect(): void;

  addEventListener<Type extends keyof SocketEvents>(
    type: Type,
    listener: Listener<SocketEvents[Type]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof SocketEvents>(
    type: Type,
    listener: Listener<SocketEvents[Type]> | null,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * Return a socket that connects, and comes back until it is closed.
 *
 * @param url - absolute or relative, of http(s) or ws(s); or a function that is asked for each try.
 * @throws where a string is no URL.
 */
export function connect(
  url: string | URL | (() => string | URL | PromiseLike<string | URL>),
  options?: Options,
): Socket;
