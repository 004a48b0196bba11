// The open transaction of a node's applier in the model: what it has written, decided and found so far. As agent/apply's
// Outcomes and OwnChanges; the decisions about single rows are in the files beside this one.
import type { Role } from "../../../agent/merge/classify.ts";
import { answer } from "../../../agent/merge/answers.ts";
import { note } from "./link.ts";
import type { Ledger } from "./ledger.ts";
import type { Node } from "./node.ts";
import { alive, type Row, type RowQuestion, type Verdict, type Version } from "./values.ts";

/** Rules of the protocol that a world may leave out, to show that the model misses them. */
export type Rule =
  | "renewal"
  | "renewal of merged rows"
  | "renewal of truncated rows"
  | "end of a renewal"
  | "time of the own version"
  | "question about a refused change"
  | "pending deletion"
  | "renewal until the winner is written"
  | "question about a verdict kept out"
  | "rows asked about are left"
  | "room for a verdict"
  | "verdict about large values"
  | "no renewal of parents"
  | "question about what is not known yet"
  | "refused tries decide nothing"
  | "large values of the same version"
  | "newer pending version"
  | "verdict about a pending deletion";

export class Batch {
  private readonly owed = new Map<string, { renews: boolean; time: bigint | null }>();
  private readonly asked = new Map<string, RowQuestion>();
  /** The rows that it has written or taken away, and what those were that it took away. */
  readonly written = new Set<string>();
  readonly gone = new Map<string, Version>();
  readonly role: Role;

  constructor(
    readonly node: Node,
    readonly peer: Node,
    readonly ledger: Ledger,
    readonly xid: number,
    private readonly without: ReadonlySet<Rule>,
  ) {
    this.role = node.role;
  }

  keeps = (rule: Rule): boolean => !this.without.has(rule);

  row = (name: string): Row | null => {
    const row = this.node.rows.get(name);
    return row?.version.image ? row : null;
  };

  put(name: string, version: Version, isMoved = false): void {
    const before = this.row(name);
    // A row that has another key now is not one that could be put back.
    if (before && !version.image && !isMoved) this.gone.set(name, before.version);
    this.written.add(name);
    this.node.rows.set(name, { version, xid: this.xid, time: this.node.clock, own: false });
  }

  /** Is this own version one that the change at hand had not seen? */
  isPending = (row: Row): boolean =>
    row.own && this.node.history.isUnseen({ xid: row.xid, commitTime: row.time }, this.node.current);

  isUnseen(name: string, row: Row): boolean {
    return this.isPending(row) || this.node.history.renewals.isUnseen(name, this.node.current);
  }

  private get waits(): boolean {
    return this.role === "primary" || !this.node.rules.impatient;
  }

  /** Every own transaction committed by now is known, or will be by waiting. */
  get allKnown(): boolean {
    return this.waits || !this.node.log.some(({ of }, at) => of === null && at >= this.node.reading);
  }

  deletedUnseen(name: string): bigint | null {
    const { history, current } = this.node;
    const known = history.deletedUnseen(name, current);
    if (known !== null || !this.waits) return known;
    note(this.node, this.peer);
    return history.deletedUnseen(name, current);
  }

  /** The secondary will be told what this row is at the end of the transaction. */
  owe(name: string, renews: boolean, time: bigint | null = null): void {
    if (this.role !== "primary") return;
    if (!this.keeps("renewal")) renews = false;
    this.owed.set(name, { renews, time });
    this.node.history.renewals.decide(name, renews, time);
  }

  /** To come back to with `restore` when what was decided since is given up: as agent/apply/outcomes.ts. */
  mark() {
    return { rows: new Map(this.node.rows), owed: new Map(this.owed), ledger: this.ledger.mark() };
  }

  restore({ rows, owed, ledger }: ReturnType<Batch["mark"]>): void {
    const { renewals } = this.node.history;
    this.node.rows = rows;
    this.ledger.restore(ledger);
    if (!this.keeps("refused tries decide nothing")) return;
    for (const name of this.owed.keys()) if (!owed.has(name)) renewals.withdraw(name);
    this.owed.clear();
    for (const [name, { renews, time }] of owed) this.owe(name, renews, time);
  }

  isOwed = (name: string): boolean => this.owed.has(name);

  /** The primary will be asked what this row is; nothing of it is touched until it answers. */
  ask(name: string, renews = false, time: bigint | null = null): void {
    if (this.role === "primary") return;
    this.asked.set(name, { name, renews, time });
    this.node.history.questions.ask(name);
  }

  isAskedAbout = (name: string): boolean =>
    this.role === "secondary" && this.keeps("rows asked about are left") &&
    this.node.history.questions.isOpen(name, this.node.current);

  /** The secondary could not apply what the primary wrote to this row, or decided about it. */
  answer(question: RowQuestion): void {
    const { history, current } = this.node;
    const { name } = question;
    const { renews, time } = answer(this.row(name), question, history.renewals.lastUnseen(name, current));
    this.owe(name, renews, time);
  }

  verdicts(): Verdict[] {
    return [...this.owed].map(([name, { renews, time }]) => {
      const row = this.node.rows.get(name);
      const version = alive(row);
      return { name, version, left: version ? null : row?.version ?? null, renews, time };
    });
  }

  questions(): RowQuestion[] {
    return [...this.asked.values()];
  }
}
