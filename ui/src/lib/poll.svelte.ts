// Something fetched again and again while its component is shown. Old data stays while new data comes, and when it fails.
import { ApiError } from './client';

export class Poll<T> {
  data = $state.raw<T>();
  error = $state.raw<ApiError>();
  loading = $state(true);
}

/**
 * Starts polling. `ask` is called in an effect: what it reads before its first `await` restarts it. With `paused()` true the
 * data stays as it is.
 */
export function poll<T>(ask: () => Promise<T>, everyMs: number, paused: () => boolean = () => false): Poll<T> {
  const state = new Poll<T>();
  $effect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    state.loading = true;
    const turn = async (request: Promise<T>) => {
      try {
        const data = await request;
        if (over) return;
        state.data = data;
        state.error = undefined;
      } catch (error) {
        if (over) return;
        state.error = error instanceof ApiError ? error : new ApiError(0, { code: 'page', message: String(error) });
      }
      state.loading = false;
      timer = setTimeout(again, everyMs);
    };
    const again = () => {
      if (over) return;
      if (paused() || document.hidden) timer = setTimeout(again, everyMs);
      else void turn(ask());
    };
    void turn(ask());
    return () => {
      over = true;
      clearTimeout(timer);
    };
  });
  return state;
}
