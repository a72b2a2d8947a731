// node screenshot.mjs URL FILE [--full] [--width N] [--height N] [--wait MS] [--scale N]
import { writeFile } from "node:fs/promises";
import { extname } from "node:path";

import { Browser, main, readArguments, webAddress } from "./cdp.mjs";

const FORMATS = { ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp" };

await main(async (given) => {
  const { words, options } = readArguments(given, { width: 1280, height: 800, wait: 500, scale: 1, full: false });
  const [address, file] = words;
  const format = file && FORMATS[extname(file).toLowerCase()];
  if (words.length !== 2 || !format) throw new Error("usage: screenshot.mjs URL FILE.png|.jpg|.webp [--full] [--width N] ...");
  const url = webAddress(address);
  const browser = await Browser.connect();
  try {
    const page = await browser.page(options);
    await page.open(url, options.wait);
    const picture = await page.picture({ format, captureBeyondViewport: options.full, ...(options.full && { clip: await whole(page) }) });
    await page.close();
    await writeFile(file, picture);
    console.log(`${file}: ${picture.length} bytes`);
  } finally {
    browser.close();
  }
});

async function whole(page) {
  const { cssContentSize } = await page.send("Page.getLayoutMetrics");
  return { x: 0, y: 0, width: cssContentSize.width, height: Math.min(cssContentSize.height, 16_000), scale: 1 };
}
