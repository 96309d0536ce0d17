// Screenshots of every page, light and dark, into test-results. `node tests/shots.mjs [WEFT_URL]`
import { mkdir } from 'node:fs/promises';
import { start } from '../mock/server.mjs';
import { browser } from './browser.mjs';

const OUT = new URL('../test-results/', import.meta.url).pathname;
const PAGES = {
  overview: '#/',
  edge: '#/?edge=shop%2Fcheckout%3Eshop%2Fpayments%3Ehttp',
  table: '#/?view=table',
  services: '#/services',
  service: '#/services/shop/reviews',
  payments: '#/services/shop/payments',
  requests: '#/requests',
  why: '#/requests/7f1c0a52-1b6e-4b6c-9d0a-51f24a8f5a11',
  denied: '#/requests/0b9d3c1e-88a2-4a70-9a2b-6b0d53c1f3de?status=failed',
  configuration: '#/configuration',
  resource: '#/configuration/DestinationRule/shop/reviews',
  proxies: '#/proxies/shop/reviews-v3-6f3a',
};

await mkdir(OUT, { recursive: true });
const wanted = process.argv.slice(2);
const mock = await start({ open: true });
const chrome = await browser();
try {
  for (const colorScheme of ['light', 'dark']) {
    const page = await chrome.newPage({ viewport: { width: 1440, height: 900 }, colorScheme });
    for (const [name, hash] of Object.entries(PAGES)) {
      if (wanted.length && !wanted.includes(name)) continue;
      await page.goto(`${mock.url}/${hash}`);
      await page.waitForTimeout(900);
      await page.screenshot({ path: `${OUT}${name}-${colorScheme}.png` });
    }
    if (!wanted.length) {
      mock.scene.empty = true;
      await page.goto('about:blank');
      await page.goto(`${mock.url}/#/`);
      await page.waitForTimeout(700);
      await page.screenshot({ path: `${OUT}empty-${colorScheme}.png` });
      mock.scene.empty = false;
    }
    await page.close();
  }
} finally {
  await chrome.close();
  await mock.close();
}
