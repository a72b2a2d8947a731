// A WebSocket client (RFC 6455) for loopback: Node brings one only since version 22, and the shell's may be older.
import { randomBytes } from "node:crypto";
import { request } from "node:http";

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class Socket {
  #stream;
  #unread = Buffer.alloc(0);
  #fragments = [];

  /** Resolves with an open socket; `hear` gets each text message, `gone` is called once at the end. */
  static open(url, { hear, gone }) {
    return new Promise((resolve, reject) => {
      const headers = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": randomBytes(16).toString("base64") };
      const asking = request(url.replace(/^ws/, "http"), { headers });
      asking.on("upgrade", (_, stream, head) => resolve(new Socket(stream, head, hear, gone)));
      asking.on("response", (answer) => {
        answer.resume();
        reject(new Error(`the browser's WebSocket was refused with status ${answer.statusCode}`));
      });
      asking.on("error", reject);
      asking.end();
    });
  }

  constructor(stream, head, hear, gone) {
    this.#stream = stream;
    const read = (data) => this.#read(data, hear);
    stream.on("data", read).on("close", gone).on("error", () => stream.destroy());
    read(head);
  }

  send(text) {
    this.#frame(TEXT, Buffer.from(text));
  }

  close() {
    this.#frame(CLOSE, Buffer.from([0x03, 0xe8]));
    this.#stream.end();
  }

  /** What a client sends is masked, always. */
  #frame(kind, data) {
    const length = data.length < 126 ? Buffer.from([0x80 | data.length]) : Buffer.alloc(data.length < 65_536 ? 3 : 9);
    if (length.length === 3) {
      length[0] = 0x80 | 126;
      length.writeUInt16BE(data.length, 1);
    } else if (length.length === 9) {
      length[0] = 0x80 | 127;
      length.writeBigUInt64BE(BigInt(data.length), 1);
    }
    const mask = randomBytes(4);
    const masked = Buffer.from(data);
    for (let at = 0; at < masked.length; at++) masked[at] ^= mask[at % 4];
    this.#stream.write(Buffer.concat([Buffer.from([0x80 | kind]), length, mask, masked]));
  }

  #read(data, hear) {
    this.#unread = this.#unread.length ? Buffer.concat([this.#unread, data]) : data;
    for (let frame; (frame = this.#next()); ) {
      const { kind, last, body } = frame;
      if (kind === PING) this.#frame(PONG, body);
      else if (kind === CLOSE) this.#stream.end();
      else if (kind < CLOSE) {
        this.#fragments.push(body);
        if (last) hear(Buffer.concat(this.#fragments.splice(0)).toString());
      }
    }
  }

  /** The next whole frame of what has come, or undefined. */
  #next() {
    const data = this.#unread;
    if (data.length < 2) return undefined;
    let length = data[1] & 0x7f;
    let at = 2;
    if (length === 126) at = 4;
    else if (length === 127) at = 10;
    if (data.length < at) return undefined;
    if (length === 126) length = data.readUInt16BE(2);
    else if (length === 127) length = Number(data.readBigUInt64BE(2));
    if (data.length < at + length) return undefined;
    this.#unread = data.subarray(at + length);
    return { kind: data[0] & 0x0f, last: (data[0] & 0x80) !== 0, body: data.subarray(at, at + length) };
  }
}
