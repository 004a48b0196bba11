// One node of the model: its rows, its log, its session of the link, what it knows of its own transactions. Plain values;
// its table refuses what PostgreSQL's would.
import type { Role } from "../../../agent/merge/classify.ts";
import { History, type Snapshot } from "../../../agent/merge/history.ts";
import { alive, type Entry, type Image, keyOf, type Message, nameOf, type Row, type Rules, tableOf } from "./values.ts";

export class Node {
  rows = new Map<string, Row>();
  log: Entry[] = [];
  clock: bigint;
  nextXid = 100;
  /** The keys that its tables' own defaults give out next. */
  nextKey = 0;
  /** Xids of transactions that have begun and not yet written. */
  begun: number[] = [];
  history: History;
  acknowledged = 0n;
  confirmed = 0n;
  durable = 0n;
  /** How far the peer's log is applied here, and what was seen of ours by then: as ha.progress has it. */
  applied = 0n;
  peerSeen = 0n;
  /** The session: what the relay reads next, and from where on it sends; null while nobody pulls. */
  reading = 0;
  after: bigint | null = null;
  readonly received: Message[] = [];
  /** The inbox's `seen`, which the messages bring. */
  current = 0n;
  unrecorded: { position: bigint; seen: bigint } | null = null;

  constructor(readonly role: Role, readonly rules: Rules, skew: bigint) {
    this.clock = 1_000_000n + skew;
    this.history = new History(this.snapshot());
  }

  get end(): bigint {
    return this.log.at(-1)?.end ?? 1000n;
  }

  snapshot(): Snapshot {
    return {
      xmin: Math.min(this.nextXid, ...this.begun),
      xmax: this.nextXid,
      running: new Set(this.begun),
      takenAt: this.clock,
    };
  }

  append(entry: Omit<Entry, "commit" | "end">): void {
    const commit = this.end + BigInt(this.log.length % 2);
    this.log.push({ ...entry, commit, end: commit + 10n });
  }

  /** The names of the rows that a row of this name and image cannot stand beside; not `except`, which it replaces. */
  blockers(name: string, image: Image, except: string): string[] {
    const found: string[] = [];
    const table = tableOf(name);
    for (const [other, row] of this.rows) {
      const { image: there } = row.version;
      if (there === null || other === except) continue;
      const sameValue = this.rules.unique && image.u !== null && there.u === image.u && tableOf(other) === table;
      if (other === name || sameValue) found.push(other);
    }
    return found;
  }

  /** The parent's name that a child's image refers to, if it is not here. */
  missingParent(image: Image): string | null {
    if (!this.rules.references || !image.p) return null;
    const parent = nameOf("parent", image.p);
    return alive(this.rows.get(parent)) ? null : parent;
  }

  childrenOf(name: string): string[] {
    if (!this.rules.references || tableOf(name) !== "parent") return [];
    const key = keyOf(name);
    return [...this.rows].filter(([, { version }]) => version.image?.p === key).map(([child]) => child);
  }
}
