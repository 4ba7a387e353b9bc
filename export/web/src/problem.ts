/** What is told to people: a text of the tables, in their language, with what it is about. */
import type { Key } from "./text";

export type Values = Readonly<Record<string, string | number>>;

export interface Message {
  readonly key: Key;
  readonly values: Values;
}

/** An input that cannot be used; `message` names it and says what to do, in the page's language. */
export class Problem extends Error implements Message {
  constructor(
    readonly key: Key,
    readonly values: Values = {},
  ) {
    super(`${key} ${JSON.stringify(values)}`);
    this.name = "Problem";
  }
}
