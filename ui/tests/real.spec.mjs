// Smoke test of a real mesh: WEFT_URL=http://127.0.0.1:8480 WEFT_TOKEN=… npm run test:browser. Expects `weft up --demo`.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { test } from 'node:test';
import { browser } from './browser.mjs';

const { WEFT_URL, WEFT_TOKEN } = process.env;
const SHOTS = new URL('../test-results/', import.meta.url).pathname;

test('a real mesh', { skip: WEFT_URL ? false : 'WEFT_URL is not set' }, async () => {
  await mkdir(SHOTS, { recursive: true });
  const chrome = await browser();
  try {
    const page = await chrome.newPage({ viewport: { width: 1440, height: 900 } });
    const complaints = [];
    page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
    page.on('console', (message) => message.type() === 'error' && complaints.push(`console: ${message.text()}`));
    await page.goto(`${WEFT_URL}/?token=${encodeURIComponent(WEFT_TOKEN ?? '')}`);
    await page.getByTestId('sentence').waitFor();
    assert.doesNotMatch(page.url(), /token/);
    assert.ok((await page.getByTestId('sentence').innerText()).length > 5);
    await page.waitForFunction(() => document.querySelectorAll('svg a.node').length >= 5, undefined, { timeout: 30_000 });
    await page.getByText('Live', { exact: true }).waitFor();
    await page.screenshot({ path: `${SHOTS}real-overview.png` });
    await page.goto(`${WEFT_URL}/#/services`);
    const services = page.locator('tbody tr a.name');
    await services.first().waitFor();
    const link = await services.first().getAttribute('href');
    await page.screenshot({ path: `${SHOTS}real-services.png` });
    await page.goto(`${WEFT_URL}/${link}`);
    await page.getByText('Policies that apply').waitFor();
    await page.screenshot({ path: `${SHOTS}real-service.png`, fullPage: true });
    await page.goto(`${WEFT_URL}/#/requests?status=failed`);
    await page.locator('[data-request]').first().waitFor({ timeout: 30_000 });
    await page.locator('[data-request] a').first().click();
    await page.getByTestId('why-sentence').waitFor();
    assert.ok((await page.getByTestId('why-sentence').innerText()).length > 10);
    await page.screenshot({ path: `${SHOTS}real-why.png` });
    await page.goto(`${WEFT_URL}/#/configuration`);
    const resource = page.locator('.tree li a').first();
    await resource.waitFor();
    await resource.click();
    await page.locator('[data-line]').first().waitFor();
    await page.screenshot({ path: `${SHOTS}real-configuration.png` });
    await page.goto(`${WEFT_URL}/#/proxies`);
    await page.getByText('in sync').first().waitFor();
    await page.screenshot({ path: `${SHOTS}real-proxies.png` });
    assert.deepEqual(complaints, []);
  } finally {
    await chrome.close();
  }
});
