/** Values that JSON.parse gave, checked field by field. */

/** Checks a value, named for messages by its path, and returns it as its type. */
export type Kind<T> = (value: unknown, where: string) => T;

/** A value that its field cannot hold. */
export class FieldError extends Error {
  /** The value, short enough for a message. */
  readonly found: string;

  constructor(
    readonly where: string,
    value: unknown,
  ) {
    super(`${where} cannot be ${brief(value)}`);
    this.found = brief(value);
  }
}

type Kinds<T> = { readonly [Name in keyof T]: Kind<T[Name]> };

/** An object of known fields; others are passed over where it is open, else refused. */
export function record<T>(kinds: Kinds<T>, { open }: { open: boolean }): Kind<T> {
  return (value, where) => {
    if (!isObject(value)) throw new FieldError(where, value);
    const inside = where === "" ? "" : `${where}.`;
    for (const name of open ? [] : Object.keys(value))
      if (!Object.hasOwn(kinds, name)) throw new FieldError(`${inside}${name}`, value[name]);
    const checked = Object.entries<Kind<unknown>>(kinds).map(([name, kind]) => {
      const given = Object.hasOwn(value, name) ? value[name] : undefined;
      return [name, kind(given, `${inside}${name}`)];
    });
    return Object.fromEntries(checked) as T;
  };
}

/** A list of so many values of a kind. */
export function list<T>(kind: Kind<T>, least = 0, most = 65536): Kind<readonly T[]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length < least || value.length > most)
      throw new FieldError(where, value);
    return value.map((one, i) => kind(one, `${where}[${i}]`));
  };
}

/** Values of a kind by names. */
export function byName<T>(kind: Kind<T>): Kind<Readonly<Record<string, T>>> {
  return (value, where) => {
    if (!isObject(value)) throw new FieldError(where, value);
    const entries = Object.entries(value);
    return Object.fromEntries(entries.map(([name, one]) => [name, kind(one, `${where}.${name}`)]));
  };
}

/** A finite number for which something holds. */
export function number(holds: (n: number) => boolean = () => true): Kind<number> {
  return (value, where) => {
    if (typeof value === "number" && Number.isFinite(value) && holds(value)) return value;
    throw new FieldError(where, value);
  };
}

/** A whole number within bounds, both of which it may be. */
export function whole(least: number, most: number): Kind<number> {
  return number((n) => Number.isInteger(n) && n >= least && n <= most);
}

/** Text of at most so many UTF-16 units. */
export function text(most: number): Kind<string> {
  return (value, where) => {
    if (typeof value === "string" && value.length <= most) return value;
    throw new FieldError(where, value);
  };
}

export const truth: Kind<boolean> = (value, where) => {
  if (typeof value === "boolean") return value;
  throw new FieldError(where, value);
};

/** One of some values. */
export function oneOf<const T>(...values: readonly T[]): Kind<T> {
  return (value, where) => {
    if ((values as readonly unknown[]).includes(value)) return value as T;
    throw new FieldError(where, value);
  };
}

/** A value of a kind, or null. */
export function orNull<T>(kind: Kind<T>): Kind<T | null> {
  return (value, where) => (value === null ? null : kind(value, where));
}

/** A value of a kind, or one that stands for it where it is left out. */
export function withDefault<T>(kind: Kind<T>, fallback: T): Kind<T> {
  return (value, where) => (value === undefined ? fallback : kind(value, where));
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const LONGEST = 60;

function brief(value: unknown): string {
  if (value === undefined) return "…";
  if (Array.isArray(value)) return `[${value.length}]`;
  if (isObject(value)) return "{…}";
  const written = JSON.stringify(value);
  return written.length > LONGEST ? `${written.slice(0, LONGEST - 1)}…` : written;
}
