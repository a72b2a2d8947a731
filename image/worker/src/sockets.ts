// A WebSocket through the object: it has to know how many are open, and when somebody last said something.

interface Listener {
  opened(): void;
  /** The client said something; what the agent says by itself keeps nobody awake. */
  heard(): void;
  closed(): void;
}

/** 1005, 1006 and 1015 are seen by a reader, but may not be sent. */
export function sendable(code: number): number {
  if (code === 1005) return 1000;
  return code === 1006 || code === 1015 || code < 1000 || code > 4999 ? 1011 : code;
}

/** The same answer, with a socket of our own in between. */
export function relay(response: Response, listener: Listener): Response {
  const inner = response.webSocket;
  if (inner === null) return response;
  const [client, outer] = Object.values(new WebSocketPair()) as [WebSocket, WebSocket];
  inner.accept();
  outer.accept();
  listener.opened();
  let open = true;
  const end = () => {
    if (open) listener.closed();
    open = false;
  };
  join(outer, inner, () => listener.heard(), end);
  join(inner, outer, () => undefined, end);
  return new Response(null, { status: 101, webSocket: client, headers: response.headers });
}

function join(from: WebSocket, to: WebSocket, heard: () => void, end: () => void): void {
  from.addEventListener("message", (event) => {
    heard();
    try {
      to.send(event.data as string | ArrayBuffer);
    } catch {
      close(from, 1011, "the other side is gone");
    }
  });
  from.addEventListener("close", (event) => {
    end();
    close(to, event.code, event.reason);
    close(from, event.code, event.reason);
  });
  from.addEventListener("error", () => {
    end();
    close(to, 1011, "the connection broke");
  });
}

function close(socket: WebSocket, code: number, reason: string): void {
  try {
    socket.close(sendable(code), reason.slice(0, 40));
  } catch {
    // closed already
  }
}
