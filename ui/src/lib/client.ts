// The API by its OpenAPI types: paths, parameters and answers are checked against openapi/weft.json.
import type { paths } from '../api/schema';
import type { ApiErrorBody } from './types';

const BASE = '/api/v1';
/** A request that takes longer is given up. */
const TIMEOUT_MS = 15_000;

/** What the server said, or that it said nothing (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly body: ApiErrorBody,
  ) {
    super(body.message);
  }
  get fix(): string | undefined {
    return this.body.fix;
  }
}

type Get = { [P in keyof paths]: paths[P] extends { get: { responses: { 200: { content: { 'application/json': unknown } } } } } ? P : never }[keyof paths];
type Answer<P extends Get> = paths[P] extends { get: { responses: { 200: { content: { 'application/json': infer T } } } } } ? T : never;
type Query<P extends Get> = paths[P] extends { get: { parameters: { query?: infer Q } } } ? Q : never;
type PathParams<P extends Get> = paths[P] extends { get: { parameters: { path: infer Q } } } ? Q : undefined;
interface Options<P extends Get> {
  path?: PathParams<P>;
  query?: Query<P>;
}

let signedOut: () => void = () => undefined;
/** Grows with each sign-in: a refusal from before it says nothing about the session of now. */
let session = 0;

/** Calls `then` whenever the server asks to sign in. */
export function onSignedOut(then: () => void): void {
  signedOut = then;
}

/** `GET` of one path of the document. */
export async function get<P extends Get>(path: P, options: Options<P> = {}): Promise<Answer<P>> {
  const response = await send(address(path, options.path as Record<string, unknown> | undefined, options.query as Record<string, unknown> | undefined), { headers: { accept: 'application/json' } });
  return (await response.json()) as Answer<P>;
}

/** Trades the token for a session cookie. */
export async function signIn(token: string): Promise<void> {
  await send(`${BASE}/sign-in`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ token }) }, true);
  session += 1;
}

/** Address of the stream of ticks. */
export const EVENTS = `${BASE}/events`;

function address(path: string, params: Record<string, unknown> | undefined, query: Record<string, unknown> | undefined): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params?.[name] ?? '')));
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined && value !== '') search.set(name, String(value));
  const text = search.toString();
  return `${BASE}${filled}${text ? `?${text}` : ''}`;
}

async function send(url: string, init: RequestInit, signingIn = false): Promise<Response> {
  const asked = session;
  let response: Response;
  try {
    response = await fetch(url, { ...init, credentials: 'same-origin', signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new ApiError(0, { code: 'offline', message: 'The control plane does not answer.', fix: 'Is `weft up` still running? This page tries again by itself.' });
  }
  if (response.ok) return response;
  if (response.status === 401 && !signingIn && asked === session) signedOut();
  throw new ApiError(response.status, await errorBody(response));
}

async function errorBody(response: Response): Promise<ApiErrorBody> {
  try {
    const body = (await response.json()) as Partial<ApiErrorBody>;
    if (typeof body.message === 'string') return { code: String(body.code ?? response.status), ...body, message: body.message };
  } catch {
    // Not JSON: the status must do.
  }
  return { code: String(response.status), message: `The server answered ${response.status}${response.statusText ? ` ${response.statusText}` : ''}.` };
}
