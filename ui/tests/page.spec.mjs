// The page against the mock, in a real browser.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { start } from '../mock/server.mjs';
import { browser } from './browser.mjs';

const SHOTS = new URL('../test-results/', import.meta.url).pathname;
const PAYMENTS = 'shop/checkout>shop/payments>http';
const FAIL_ID = '7f1c0a52-1b6e-4b6c-9d0a-51f24a8f5a11';
const HOSTILE = `"><img src=x onerror="window.__hacked=1"><script>window.__hacked=1</script>{{7*7}}\u202e%00`;

let mock, chrome, context, page, complaints;

before(async () => {
  await mkdir(SHOTS, { recursive: true });
  mock = await start();
  chrome = await browser();
});
after(async () => {
  await chrome?.close();
  await mock?.close();
});
beforeEach(async () => {
  Object.keys(mock.scene).forEach((key) => delete mock.scene[key]);
  mock.forget();
  context = await chrome.newContext({ viewport: { width: 1440, height: 900 } });
  page = await context.newPage();
  page.setDefaultTimeout(8000);
  complaints = [];
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(`console: ${message.text()} ${message.location().url}`);
  });
});
afterEach(async () => {
  await context.close();
});

/** Opens `hash` as someone who is signed in. */
async function open(hash = '#/') {
  await context.request.post(`${mock.url}/api/v1/sign-in`, { data: { token: mock.token } });
  await page.goto(`${mock.url}/${hash}`);
}
const well = () => assert.deepEqual(complaints, []);

describe('every page renders', () => {
  const pages = {
    overview: ['#/', 'checkout → payments fails'],
    table: ['#/?view=table', 'Not enough data'],
    services: ['#/services', 'ratings'],
    service: ['#/services/shop/reviews', 'canary'],
    payments: ['#/services/shop/payments', 'only-checkout-charges'],
    outside: ['#/services/-/api.bank.example', 'api.bank.example'],
    nobody: ['#/services/shop/nobody', 'Nothing is known'],
    requests: ['#/requests', '/catalog/items?page=2'],
    why: [`#/requests/${FAIL_ID}`, 'payments itself answered 503'],
    unknown: ['#/requests/no-such-id', 'older than what is kept'],
    configuration: ['#/configuration', 'subset v9'],
    resource: ['#/configuration/DestinationRule/shop/reviews', 'LEAST_REQUEST'],
    proxies: ['#/proxies/shop%2Freviews-v3-6f3a', 'no cluster outbound|9080|v9'],
    problem: ['#/proxies/shop%2Fgateway-0f3a', 'another program has 127.0.0.1:8080'],
    lost: ['#/no/such/page', 'no such page'],
  };
  for (const [name, [hash, text]] of Object.entries(pages)) {
    test(name, async () => {
      await open(hash);
      await page.getByText(text).first().waitFor();
      await page.screenshot({ path: `${SHOTS}spec-${name}.png` });
      // A 404 of the API is an answer; the browser reports it all the same.
      complaints = complaints.filter((c) => !/404/.test(c));
      well();
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off at the side');
    });
  }
});

test('a click on an edge opens it, and leads to why', async () => {
  await open();
  await page.locator(`[data-edge="${PAYMENTS}"]`).click();
  await page.getByRole('complementary', { name: 'Edge checkout to payments' }).waitFor();
  assert.match(page.url(), /edge=/, 'the edge is in the address');
  await page.getByRole('link', { name: 'Why did the last one fail?' }).click();
  await page.getByTestId('why-sentence').waitFor();
  assert.match(await page.getByTestId('why-sentence').innerText(), /payments itself answered 503/);
  await page.getByText('weft why 7f1c0a52').waitFor();
  const policy = page.getByRole('link', { name: /only-checkout-charges/ });
  await policy.click();
  await page.locator('[data-line="97"].at').waitFor();
  well();
});

test('the graph stays where it is while its numbers move', async () => {
  await open();
  const nodes = () => page.$$eval('svg a.node > g', (all) => all.map((g) => g.getAttribute('transform')));
  const numbers = () => page.$$eval('[data-edge] text', (all) => all.map((t) => t.textContent).join());
  await page.locator(`[data-edge="${PAYMENTS}"]`).waitFor();
  const [before, first] = [await nodes(), await numbers()];
  assert.equal(before.length, 11);
  await page.waitForFunction((old) => [...document.querySelectorAll('[data-edge] text')].map((t) => t.textContent).join() !== old, first);
  assert.deepEqual(await nodes(), before);
  well();
});

test('the keyboard is enough', async () => {
  await open();
  const edge = page.locator(`[data-edge="${PAYMENTS}"]`);
  await edge.waitFor();
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press('Tab');
    if (await edge.evaluate((e) => e === document.activeElement)) break;
  }
  assert.ok(await edge.evaluate((e) => e === document.activeElement), 'the edge can be reached by Tab');
  assert.match(await edge.getAttribute('aria-label'), /checkout to payments, http: failing, .* mTLS/);
  await page.keyboard.press('Enter');
  await page.getByRole('complementary').waitFor();
  await page.goto(`${mock.url}/#/requests`);
  await page.locator('[data-request]').first().waitFor();
  await page.keyboard.press('j');
  await page.getByTestId('why-sentence').waitFor();
  await page.keyboard.press('Escape');
  await page.getByTestId('why-sentence').waitFor({ state: 'detached' });
  well();
});

test('the table says what the graph says', async () => {
  await open();
  await page.getByRole('button', { name: 'Table' }).click();
  const row = page.getByRole('row', { name: /checkout payments http/ });
  assert.match(await row.innerText(), /Failing[\s\S]*mTLS/);
  await page.reload();
  await row.waitFor();
  well();
});

test('dots can be paused, and stand still for those who asked for less motion', async () => {
  await open();
  await page.locator('.dot').first().waitFor();
  assert.equal(await page.locator('.dots.still').count(), 0);
  await page.getByRole('button', { name: 'Pause' }).click();
  assert.ok((await page.locator('.dots.still').count()) > 5);
  const calm = await chrome.newContext({ reducedMotion: 'reduce' });
  await calm.request.post(`${mock.url}/api/v1/sign-in`, { data: { token: mock.token } });
  const other = await calm.newPage();
  await other.goto(mock.url);
  await other.locator('.dots.still').first().waitFor();
  await calm.close();
  well();
});

test('signing in: by hand, wrongly, and by the address', async () => {
  await page.goto(mock.url);
  await page.getByLabel('Token').fill('wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('This token is not valid here').waitFor();
  await page.screenshot({ path: `${SHOTS}spec-sign-in.png` });
  await page.getByLabel('Token').fill(mock.token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByTestId('sentence').waitFor();
  // The session ends: the page asks again.
  mock.forget();
  mock.cut();
  await page.getByText('Sign in to this mesh').waitFor();
  await page.goto(`${mock.url}/?token=${mock.token}#/services`);
  await page.getByText('ratings').first().waitFor();
  assert.ok(!(await page.getByText('Sign in to this mesh').isVisible()));
  assert.equal(page.url(), `${mock.url}/#/services`, 'the token left the address');
  complaints = complaints.filter((c) => !/401|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY/.test(c));
  well();
});

test('hostile names are text', async () => {
  const base = { requests: 100, ratePerS: 2, failures: 50, denied: 0, errorRatio: 0.5, mtlsShare: 1, enoughData: true, p99Us: 5 };
  mock.scene.extraEdges = [{ id: `shop/frontend>shop/${HOSTILE}>http`, source: 'shop/frontend', destination: `shop/${HOSTILE}`, protocol: 'http', health: 'failing', traffic: base, versions: [{ version: HOSTILE, share: 1, traffic: base }, { version: `${HOSTILE}2`, share: 0, traffic: base }], lastFailureId: 'hostile', sourcePrincipals: [HOSTILE] }];
  const hop = { source: HOSTILE, destination: HOSTILE, depth: 0, status: 500, flags: '-', durationUs: 1, mtls: true, attempts: 1, failed: true, decisive: true };
  mock.scene.requests = { hostile: { why: { id: 'hostile', failed: true, status: 500, cause: 'programError', sentence: HOSTILE, hop: `${HOSTILE} → x`, side: 'destination', evidence: [HOSTILE, HOSTILE], hops: [hop, hop], fix: HOSTILE, route: { name: HOSTILE, text: HOSTILE, origin: { kind: HOSTILE, namespace: HOSTILE, name: HOSTILE, file: HOSTILE, line: 1 } } }, records: [] } };
  await open();
  await page.getByRole('button', { name: /onerror/ }).first().waitFor();
  await page.getByRole('button', { name: /onerror/ }).first().click();
  await page.getByRole('complementary').waitFor();
  await page.screenshot({ path: `${SHOTS}spec-hostile.png` });
  await page.goto(`${mock.url}/#/requests/hostile`);
  await page.getByTestId('why-sentence').waitFor();
  assert.ok((await page.getByTestId('why-sentence').innerText()).includes('<script>'));
  await page.goto(`${mock.url}/#/services/shop/${encodeURIComponent(HOSTILE)}`);
  await page.getByRole('navigation', { name: 'Path' }).waitFor();
  await page.goto(`${mock.url}/#/configuration/${encodeURIComponent(HOSTILE)}/x/y`);
  await page.getByRole('alert').waitFor();
  assert.equal(await page.evaluate(() => window.__hacked), undefined);
  complaints = complaints.filter((c) => !/404/.test(c));
  well();
});

test('without the stream the page asks; without the server it says so and comes back', async () => {
  mock.scene.noEvents = true;
  await open();
  await page.getByText('Polling', { exact: true }).waitFor({ timeout: 12_000 });
  await page.getByTestId('sentence').waitFor();
  mock.scene.down = true;
  await page.getByText('Disconnected').waitFor({ timeout: 12_000 });
  await page.getByText('The proxies keep serving').waitFor();
  await page.getByTestId('sentence').waitFor();
  mock.scene.down = false;
  mock.scene.noEvents = false;
  await page.getByText('Live', { exact: true }).waitFor({ timeout: 15_000 });
  complaints = complaints.filter((c) => !/503|ERR_EMPTY|ERR_CONNECTION/.test(c));
  well();
});

test('an empty mesh says what to do', async () => {
  mock.scene.empty = true;
  await open();
  await page.getByText('weft run --name hello').waitFor();
  for (const hash of ['#/services', '#/requests', '#/configuration', '#/proxies']) {
    await page.goto(`${mock.url}/${hash}`);
    await page.getByText(/yet|Nothing/).first().waitFor();
  }
  well();
});

test('narrow screens lose nothing', async () => {
  await page.setViewportSize({ width: 420, height: 800 });
  for (const hash of ['#/', '#/services/shop/reviews', `#/requests/${FAIL_ID}`, '#/configuration/DestinationRule/shop/reviews', '#/proxies']) {
    await open(hash);
    await page.waitForTimeout(300);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${hash} is not wider than the screen`);
  }
  await page.screenshot({ path: `${SHOTS}spec-narrow.png` });
  well();
});
