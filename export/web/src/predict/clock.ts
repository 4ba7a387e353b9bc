/** Progress of a segmentation, with the time that it will still take. */
import type { Progress } from "./types";

type Phase = Progress["phase"];

/** Share of all that is told before the time left can be. */
const EARLY: Record<Phase, number> = { open: 0, prepare: 0.02, network: 0.05, restore: 0.95 };
const SOON = 500; // ms of the network's time, before which it tells nothing of the rest

export class Clock {
  private readonly began: number;
  private readonly phases = new Map<Phase, number>();
  private phase: Phase = "open";
  private share = 0;

  constructor(
    private readonly report: (progress: Progress) => void,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.began = now();
  }

  /** Tell that a phase begins. */
  enter(phase: Phase): void {
    this.phase = phase;
    this.phases.set(phase, this.now());
    this.tell(phase === "restore" ? this.restoring() : null);
  }

  /** Tell how much of the network's work is done, from 0 to 1. */
  work(done: number): void {
    const taken = this.now() - (this.phases.get("network") ?? this.began);
    const known = done > 0 && taken > SOON;
    this.tell(known ? (taken / done) * (1 - done) + this.restoring() : null);
  }

  /** Return the seconds since the beginning. */
  seconds(): number {
    return (this.now() - this.began) / 1000;
  }

  /** Guess the way back to take as long as the way there, in ms. */
  private restoring(): number {
    const { phases } = this;
    return (phases.get("network") ?? 0) - (phases.get("prepare") ?? 0);
  }

  private tell(left: number | null): void {
    const taken = this.now() - this.began;
    const share = left === null ? EARLY[this.phase] : taken / (taken + left);
    this.share = Math.min(1, Math.max(this.share, share));
    const { phase } = this;
    this.report({ phase, share: this.share, left: left === null ? null : left / 1000 });
  }
}
