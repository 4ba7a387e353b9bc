/** What was painted, to be undone and done again. */

/** Voxels that a stroke changed, by their place in the mask, and their labels. */
interface Change {
  readonly places: number[];
  readonly before: number[];
  readonly after: number[];
}

const MOST_VOXELS = 20_000_000; // in all strokes that can be undone

export class History {
  private readonly done: Change[] = [];
  private undone: Change[] = [];
  private open: Change | null = null;

  /** Give a voxel a label, as part of a stroke; false where it has it already. */
  set(mask: Uint8Array, at: number, label: number): boolean {
    if (mask[at] === label) return false;
    this.open ??= { places: [], before: [], after: [] };
    this.open.places.push(at);
    this.open.before.push(mask[at]!);
    this.open.after.push(label);
    mask[at] = label;
    return true;
  }

  /** End a stroke; false where it changed nothing. */
  close(): boolean {
    if (!this.open) return false;
    this.done.push(this.open);
    this.open = null;
    this.undone = [];
    let voxels = this.done.reduce((sum, { places }) => sum + places.length, 0);
    while (voxels > MOST_VOXELS && this.done.length > 1) voxels -= this.done.shift()!.places.length;
    return true;
  }

  get canUndo(): boolean {
    return this.done.length > 0;
  }

  get canRedo(): boolean {
    return this.undone.length > 0;
  }

  /** Undo the last stroke; returns the places that changed. */
  undo(mask: Uint8Array): readonly number[] {
    const change = this.done.pop();
    if (!change) return [];
    for (let i = change.places.length; i--; ) mask[change.places[i]!] = change.before[i]!;
    this.undone.push(change);
    return change.places;
  }

  /** Do the last undone stroke again; returns the places that changed. */
  redo(mask: Uint8Array): readonly number[] {
    const change = this.undone.pop();
    if (!change) return [];
    change.places.forEach((at, i) => {
      mask[at] = change.after[i]!;
    });
    this.done.push(change);
    return change.places;
  }
}
