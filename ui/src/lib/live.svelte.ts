// The stream of ticks, and polling when it does not come.
import { ApiError, EVENTS, get, onSignedOut, signIn } from './client';
import type { Graph, Health, Tick } from './types';

/** Without a tick for so long, ask instead. */
const SILENCE_MS = 4_000;
const POLL_MS = 2_000;

type Link = 'connecting' | 'live' | 'polling' | 'lost';

class Live {
  link = $state<Link>('connecting');
  signedOut = $state(false);
  /** Nothing is asked before the token of the address, if there is one, was traded. */
  ready = $state(false);
  health = $state.raw<Health>();
  graph = $state.raw<Graph>();
  /** Moves each second, for `12 s ago`. */
  nowMs = $state(Date.now());
  failure = $state.raw<ApiError>();

  #source: EventSource | undefined;
  #lastMs = 0;
  #asking = false;

  async start(): Promise<void> {
    onSignedOut(() => this.#leave());
    setInterval(() => {
      this.nowMs = Date.now();
      void this.#watch();
    }, 1000);
    if (!(await this.#signInFromAddress())) await this.connect();
  }

  async connect(): Promise<void> {
    this.signedOut = false;
    this.ready = true;
    await this.ask();
    if (!this.signedOut) this.#listen();
  }

  /** Health and graph by plain requests. */
  async ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const [health, graph] = await Promise.all([get('/health'), get('/graph', { query: { window: 60 } })]);
      this.health = health;
      this.graph = graph;
      this.failure = undefined;
      if (this.link !== 'live') this.link = this.#source ? 'polling' : 'connecting';
      this.#lastMs = Date.now();
    } catch (error) {
      if (error instanceof ApiError && error.status !== 401) {
        this.failure = error;
        this.link = 'lost';
      }
    } finally {
      this.#asking = false;
    }
  }

  #listen(): void {
    this.#source?.close();
    const source = new EventSource(EVENTS, { withCredentials: true });
    this.#source = source;
    source.addEventListener('tick', (event) => {
      const tick = parseTick(event.data);
      if (!tick) return;
      this.health = tick.health;
      if (tick.graph) this.graph = tick.graph;
      this.#lastMs = Date.now();
      this.link = 'live';
      this.failure = undefined;
    });
  }

  async #watch(): Promise<void> {
    if (this.signedOut || !this.#source) return;
    const silentMs = Date.now() - this.#lastMs;
    if (this.link === 'live' && silentMs < SILENCE_MS) return;
    if (this.link === 'live') this.link = 'polling';
    if (silentMs < POLL_MS) return;
    if (this.#source.readyState === EventSource.CLOSED) this.#listen();
    await this.ask();
  }

  #leave(): void {
    this.#source?.close();
    this.#source = undefined;
    this.signedOut = true;
    this.link = 'connecting';
  }

  /** `?token=` signs in and leaves the address at once, so that it is not bookmarked. */
  async #signInFromAddress(): Promise<boolean> {
    const url = new URL(location.href);
    const token = url.searchParams.get('token');
    if (!token) return false;
    url.searchParams.delete('token');
    history.replaceState(null, '', url);
    try {
      await signIn(token);
    } catch {
      // A wrong or used token: the next answer says whether there is a session already.
    }
    await this.connect();
    return true;
  }
}

function parseTick(data: unknown): Tick | undefined {
  try {
    const tick = JSON.parse(String(data)) as Tick;
    return tick.health ? tick : undefined;
  } catch {
    return undefined;
  }
}

export const live = new Live();
