// node video.mjs FILE URL [URL ...] [--seconds N] [--fps N] [--width N] [--height N] [--no-scroll]
import { spawn } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { extname } from "node:path";

import { avi } from "./avi.mjs";
import { Browser, main, readArguments, sleep, webAddress } from "./cdp.mjs";

const MOST_PICTURES = 3000;

await main(async (given) => {
  const { words, options } = readArguments(given, { seconds: 4, fps: 5, width: 1280, height: 720, "no-scroll": false });
  const [file, ...addresses] = words;
  const ending = file && extname(file).toLowerCase();
  if (!addresses.length || ![".avi", ".mp4"].includes(ending)) throw new Error("usage: video.mjs FILE.avi|.mp4 URL [URL ...] [--seconds N] [--fps N] ...");
  if (addresses.length * options.seconds * options.fps > MOST_PICTURES) throw new Error(`that is more than ${MOST_PICTURES} pictures: fewer --seconds or --fps`);
  const urls = addresses.map(webAddress);
  const browser = await Browser.connect();
  const pictures = [];
  try {
    const page = await browser.page(options);
    for (const url of urls) {
      await page.open(url, 300);
      await film(page, options, pictures);
    }
    await page.close();
  } finally {
    browser.close();
  }
  const { width, height, fps } = options;
  await (ending === ".avi" ? writeFile(file, avi(pictures, { width, height, fps })) : mp4(file, pictures, options));
  console.log(`${file}: ${pictures.length} pictures, ${(pictures.length / fps).toFixed(1)} s`);
});

/** So many pictures of the page, while it is scrolled from top to bottom. */
async function film(page, options, pictures) {
  const count = Math.max(1, Math.round(options.seconds * options.fps));
  const depth = options["no-scroll"] ? 0 : await page.evaluate("Math.max(0, document.documentElement.scrollHeight - innerHeight)");
  for (let number = 0; number < count; number++) {
    const due = Date.now() + 1000 / options.fps;
    if (depth > 0) await page.evaluate(`scrollTo(0, ${Math.round((depth * number) / Math.max(1, count - 1))})`);
    pictures.push(await page.picture({ format: "jpeg", quality: 80 }));
    await sleep(Math.max(0, due - Date.now()));
  }
}

async function mp4(file, pictures, { width, height, fps }) {
  const plain = `${file}.avi`;
  await writeFile(plain, avi(pictures, { width, height, fps }));
  try {
    await run("ffmpeg", ["-loglevel", "error", "-y", "-i", plain, "-pix_fmt", "yuv420p", "-movflags", "+faststart", file]);
  } finally {
    await rm(plain, { force: true });
  }
}

function run(program, words) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", () => reject(new Error(`${program} is not here: use the ending .avi`)));
    child.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`${program} ended with ${code}`))));
  });
}
