// Motion JPEG in an AVI file (RIFF): a header, the pictures one after the other, an index.

const chunk = (name, data) => {
  const head = Buffer.alloc(8);
  head.write(name, 0, "latin1");
  head.writeUInt32LE(data.length, 4);
  return Buffer.concat([head, data, Buffer.alloc(data.length % 2)]);
};
const list = (kind, ...parts) => chunk("LIST", Buffer.concat([Buffer.from(kind, "latin1"), ...parts]));
const numbers = (...values) => {
  const data = Buffer.alloc(values.length * 4);
  values.forEach((value, at) => data.writeUInt32LE(value, at * 4));
  return data;
};
const words = (...values) => {
  const data = Buffer.alloc(values.length * 2);
  values.forEach((value, at) => data.writeUInt16LE(value, at * 2));
  return data;
};

const HAS_INDEX = 0x10;
const KEY_FRAME = 0x10;

/** The film as bytes; `pictures` are JPEG files of the size named. */
export function avi(pictures, { width, height, fps }) {
  const largest = Math.max(0, ...pictures.map((picture) => picture.length));
  const main = numbers(Math.round(1e6 / fps), largest * fps, 0, HAS_INDEX, pictures.length, 0, 1, largest, width, height, 0, 0, 0, 0);
  const stream = Buffer.concat([
    Buffer.from("vidsMJPG", "latin1"),
    numbers(0, 0, 0, 1000, Math.round(fps * 1000), 0, pictures.length, largest, 0xffffffff, 0),
    words(0, 0, width, height),
  ]);
  const format = Buffer.concat([numbers(40, width, height), words(1, 24), Buffer.from("MJPG", "latin1"), numbers(width * height * 3, 0, 0, 0, 0)]);
  const header = list("hdrl", chunk("avih", main), list("strl", chunk("strh", stream), chunk("strf", format)));
  const frames = pictures.map((picture) => chunk("00dc", picture));
  let offset = 4;
  const index = frames.map((frame, at) => {
    const row = Buffer.concat([Buffer.from("00dc", "latin1"), numbers(KEY_FRAME, offset, pictures[at].length)]);
    offset += frame.length;
    return row;
  });
  return chunk("RIFF", Buffer.concat([Buffer.from("AVI ", "latin1"), header, list("movi", ...frames), chunk("idx1", Buffer.concat(index))]));
}
