// What the open transaction has decided and found: entries for the conflict log, rows that the secondary is owed a verdict
// about, rows that the primary is asked about. Written in sets, before the transaction commits; never after it.
import type { Role } from "../merge/classify.ts";
import type { Sql } from "../postgres/connect.ts";
import {
  askForVerdicts,
  type ConflictEntry,
  logConflicts,
  type RowId,
  type RowQuestion,
  sendVerdicts,
  type VerdictMessage,
} from "./conflict_log.ts";
import type { OwnChanges } from "./own_changes.ts";
import { selectManyForUpdate } from "./row_sets.ts";
import { type Image, keyOfImage, type RowShape } from "./rows.ts";

export interface OutcomesDeps {
  readonly sql: Sql;
  readonly role: Role;
  readonly own: () => OwnChanges | null;
  /** Nothing is written: the entries are told of, and that is all. */
  readonly rehearsal?: boolean;
  /** Told of each entry once it is written; for the log of the agent, which gets no values. */
  readonly onConflict: (entry: ConflictEntry) => void;
}

interface Owed {
  readonly shape: RowShape;
  readonly key: Image;
  readonly renews: boolean;
  readonly time: bigint | null;
}

/** How much had been decided at some point of the transaction. */
export interface Mark {
  readonly entries: number;
  readonly decisions: number;
}

/** So many entries are worth a statement. */
const mostEntries = 1000;

export class Outcomes {
  private entries: ConflictEntry[] = [];
  private readonly owed = new Map<string, Owed>();
  private readonly questions = new Map<string, RowQuestion>();
  /** How to take back each decision since the last flush, in their order. */
  private takeBack: (() => void)[] = [];
  /** Rows of which a verdict has said that there are none. */
  private absent: { shape: RowShape; rows: RowId[] }[] = [];

  constructor(private readonly deps: OutcomesDeps) {}

  conflict(entry: ConflictEntry): void {
    this.entries.push(entry);
  }

  /**
   * At the primary: the secondary will be told what this row is at the end of the transaction. `renews`: the row counts
   * as written by the primary then; `time`: see OwnChanges.renewedTime. The last word on a row counts.
   */
  owe(shape: RowShape, name: string, image: Image, renews: boolean, time: bigint | null = null): void {
    if (this.deps.role !== "primary" || shape.wholeRow) return;
    const before = this.owed.get(name);
    this.takeBack.push(() => {
      if (before) this.setOwed(name, before);
      else {
        this.owed.delete(name);
        this.deps.own()?.withdrawVerdict(name);
      }
    });
    this.setOwed(name, { shape, key: keyOfImage(shape, image), renews, time });
  }

  isOwed(name: string): boolean {
    return this.owed.has(name);
  }

  private setOwed(name: string, owed: Owed): void {
    this.owed.set(name, owed);
    this.deps.own()?.noteVerdict(name, owed.renews, owed.time);
  }

  /** At the secondary: what the primary wrote to this row, or decided about it, could not be applied. */
  ask(
    shape: RowShape,
    name: string,
    image: Image,
    word: Pick<VerdictMessage, "renews" | "time"> = { renews: false },
  ): void {
    if (this.deps.role !== "secondary" || shape.wholeRow) return;
    const { schema, table } = shape;
    const { renews, time } = word;
    const before = this.questions.get(name);
    this.takeBack.push(() => {
      if (before) this.questions.set(name, before);
      else {
        this.questions.delete(name);
        this.deps.own()?.withdrawQuestion(name);
      }
    });
    this.questions.set(name, { schema, table, key: keyOfImage(shape, image), name, renews, ...(time ? { time } : {}) });
    this.deps.own()?.noteQuestion(name);
  }

  /** To come back to with `restore` when what was decided since is given up. */
  mark(): Mark {
    return { entries: this.entries.length, decisions: this.takeBack.length };
  }

  restore({ entries, decisions }: Mark): void {
    this.entries.length = Math.min(this.entries.length, entries);
    while (this.takeBack.length > decisions) this.takeBack.pop()!();
  }

  /**
   * After the commit: a row that the application inserted, and committed, while a verdict said that there is none must
   * not be taken for gone at the secondary. True if there are verdicts to be sent, in a further transaction.
   */
  async contradicted(): Promise<boolean> {
    const { absent } = this;
    this.absent = [];
    for (const { shape, rows } of absent) {
      const keys = JSON.stringify(rows.map(({ key }) => ({ key })));
      for (const { n } of await this.deps.sql.unsafe(selectManyForUpdate(shape), [keys], { prepare: true })) {
        const { name, key } = rows[n - 1];
        this.owe(shape, name, key, true);
      }
    }
    return this.owed.size > 0;
  }

  /** Writes what has come together, if it is much or `all` is wanted. */
  async flush(all: boolean): Promise<void> {
    const { sql, rehearsal } = this.deps;
    if (this.entries.length > 0 && (all || this.entries.length >= mostEntries)) {
      const entries = this.entries;
      this.entries = [];
      if (!rehearsal) await logConflicts(sql, entries);
      for (const entry of entries) this.deps.onConflict(entry);
    }
    if (!all) return;
    this.takeBack = [];
    if (rehearsal) return this.owed.clear();
    await this.sendOwed();
    const questions = [...this.questions.values()];
    this.questions.clear();
    if (questions.length > 0) await askForVerdicts(sql, questions);
  }

  /**
   * With the rows as they are at the end of the transaction: it counts as having seen all the changes in it, later ones
   * to the same rows too.
   */
  private async sendOwed(): Promise<void> {
    const byShape = Map.groupBy(this.owed, ([, { shape }]) => shape);
    this.owed.clear();
    const verdicts: VerdictMessage[] = [];
    for (const [shape, items] of byShape) {
      const absent: RowId[] = [];
      const keys = JSON.stringify(items.map(([, { key }]) => ({ key })));
      // Locked: what the application writes there comes after the verdict.
      const found = await this.deps.sql.unsafe(selectManyForUpdate(shape), [keys], { prepare: true });
      const images = new Map(found.map(({ n, image }) => [n as number, image as Image]));
      items.forEach(([name, { key, renews, time }], i) => {
        const { schema, table } = shape;
        const row = images.get(i + 1) ?? null;
        verdicts.push({ schema, table, key, name, row, renews, ...(time === null ? {} : { time: String(time) }) });
        if (row === null) absent.push({ schema, table, key, name });
      });
      if (absent.length > 0) this.absent.push({ shape, rows: absent });
    }
    await sendVerdicts(this.deps.sql, verdicts);
  }
}
