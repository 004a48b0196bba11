// Tells the log of conflicts, a line a second for each kind and table, however many there are. Names no row and no value.
import { getLogger } from "@logtape/logtape";

const everyMs = 1000;
const log = getLogger(["hapair", "node"]);

export class ConflictNews {
  private readonly counts = new Map<string, { kind: string; label: string; count: number }>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  add({ kind, schema, table }: { kind: string; schema: string; table: string }): void {
    const label = `${schema}.${table}`;
    const known = this.counts.get(`${kind} ${label}`);
    if (known) known.count++;
    else this.counts.set(`${kind} ${label}`, { kind, label, count: 1 });
    this.timer ??= setTimeout(() => this.tell(), everyMs);
  }

  /** Says what has not been said. */
  tell(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const { kind, label, count } of this.counts.values()) {
      const what = count === 1 ? "a conflict" : `${count} conflicts`;
      log.warn("{what} {kind} in {label}: both versions are in ha.conflict", { what, kind, label });
    }
    this.counts.clear();
  }
}
