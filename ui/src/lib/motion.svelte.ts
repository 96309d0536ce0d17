// Do the dots move? Kept in this browser; still by default for those who asked for less motion.

const NAME = 'weft.motion';

class Motion {
  moving = $state(this.#initial());

  #initial(): boolean {
    try {
      const kept = localStorage.getItem(NAME);
      if (kept) return kept === 'on';
    } catch {
      // No storage: the preference of the system alone.
    }
    return !matchMedia('(prefers-reduced-motion: reduce)').matches;
  }
  toggle(): void {
    this.moving = !this.moving;
    try {
      localStorage.setItem(NAME, this.moving ? 'on' : 'off');
    } catch {
      // Not kept.
    }
  }
}

export const motion = new Motion();
