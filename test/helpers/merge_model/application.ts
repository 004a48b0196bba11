// What an application does on one node of the model: transactions of a few statements, of which a statement that the
// database refuses is given up alone. Sees its own node and nothing else.
import type { Node } from "./node.ts";
import {
  alive,
  type Change,
  type Image,
  keyOf,
  nameOf,
  type Row,
  type Table,
  tableOf,
  type Version,
} from "./values.ts";

export interface Statement {
  readonly table: Table;
  readonly key: string;
  readonly wants: "write" | "insert" | "delete" | "move" | "truncate";
  /** Bits: which of the columns u, a, b (and p) an update changes. Of a delete: with its children. */
  readonly columns: number;
  readonly unique: string | null;
  readonly parent: string | null;
  /** The new key of a move. */
  readonly to: string;
}

/** A transaction; of the xids that have begun before, `early` takes the first. */
export interface Work {
  readonly statements: readonly Statement[];
  readonly xidGap: number;
  readonly sub: number;
  readonly early: boolean;
  readonly time: number;
}

export function work(node: Node, versions: Version[], { statements, xidGap, sub, early, time }: Work): void {
  node.clock += BigInt(time) + 1n;
  node.nextXid += xidGap;
  const xid = (early ? node.begun.shift() : undefined) ?? node.nextXid++;
  // A subtransaction writes its rows under an xid of its own.
  if (sub > 0) node.nextXid += sub;
  const transaction = new Transaction(node, versions, sub > 0 ? node.nextXid - 1 : xid);
  for (const statement of statements) transaction.run(statement);
  const { changes } = transaction;
  if (changes.length === 0) return;
  node.append({ xid, time: node.clock, of: null, idle: false, changes, verdicts: [], questions: [] });
}

class Transaction {
  readonly changes: Change[] = [];

  constructor(private readonly node: Node, private readonly versions: Version[], private readonly xid: number) {}

  run(statement: Statement): void {
    const { table, key, wants } = statement;
    const name = nameOf(table, key);
    const there = alive(this.node.rows.get(name));
    if (wants === "truncate") this.truncate(table);
    else if (wants === "write" || (wants === "insert" && !there)) this.write(statement, name, there);
    else if (wants === "move" && there) this.move(statement, name, there);
    else if (wants === "delete" && there) this.delete(name, there, (statement.columns & 1) === 1);
  }

  private write({ table, columns, unique, parent }: Statement, name: string, there: Version | null): void {
    const { rules } = this.node;
    const id = String(this.versions.length);
    const image: Image = there ? { ...there.image } : { k: keyOf(name), u: null, a: null, b: null, p: null };
    const wanted = there ? (columns & 7) || 2 : 7;
    if (wanted & 1 && rules.unique && table === "parent") image.u = unique;
    if (wanted & 1 && rules.references && table === "child") image.p = parent;
    if (wanted & 2) image.a = id;
    if (wanted & 4) image.b = id;
    if (this.node.blockers(name, image, name).length > 0 || this.node.missingParent(image)) return;
    const version = this.put(name, image, this.seen(name));
    const after = { ...image };
    if (there && rules.large && !(wanted & 4)) delete after.b;
    const incoming = there ? "update" : "insert";
    this.changes.push({
      incoming,
      oldName: name,
      newName: name,
      before: this.before(there),
      after,
      version,
      left: null,
    });
  }

  private move({ table, to }: Statement, name: string, there: Version): void {
    const newName = nameOf(table, to);
    if (newName === name || alive(this.node.rows.get(newName)) || this.node.childrenOf(name).length > 0) return;
    const left = this.put(name, null, [there]);
    const image = { ...there.image, k: to };
    const version = this.put(newName, image, [left, ...this.seen(newName)]);
    const after: Image = { ...image };
    if (this.node.rules.large) delete after.b;
    this.changes.push({ incoming: "update", oldName: name, newName, before: this.before(there), after, version, left });
  }

  private delete(name: string, there: Version, withChildren: boolean): void {
    const children = this.node.childrenOf(name);
    if (children.length > 0 && !withChildren) return;
    for (const child of children) this.delete(child, alive(this.node.rows.get(child))!, false);
    const version = this.put(name, null, [there]);
    const before = this.before(there);
    this.changes.push({ incoming: "delete", oldName: name, newName: name, before, after: null, version, left: null });
  }

  private truncate(table: Table): void {
    if (this.node.rules.references && table === "parent") this.truncate("child");
    const left = new Map<string, Version>();
    for (const [name, { version }] of this.node.rows) {
      if (tableOf(name) === table && version.image) left.set(name, this.put(name, null, [version]));
    }
    this.changes.push({ incoming: "truncate", table, time: this.node.clock, left });
  }

  private before(there: Version | null): Image | null {
    return there && this.node.rules.policy.rows === "merge_columns" ? there.image : null;
  }

  private seen(name: string): Version[] {
    const row = this.node.rows.get(name);
    return row ? [row.version] : [];
  }

  private put(name: string, image: Image | null, parents: Version[]): Version {
    const { clock: time, role: by } = this.node;
    const version: Version = { id: this.versions.length, name, time, image, parents, by };
    this.versions.push(version);
    const row: Row = { version, xid: this.xid, time, own: true };
    this.node.rows.set(name, row);
    return version;
  }
}
