// How the rows of one of the peer's relations are written into the local table of the same name: which columns, by which
// key, in which format. A relation that does not fit is never guessed at.
import { type Relation, type RelationColumn, timeToMs, type TypeName } from "../change/pgoutput.ts";
import type { Relation as LocalRelation, TypeDescription } from "../postgres/catalog.ts";

/** One column of the peer's relation and where it goes. `position` is its place in the peer's tuples. */
export interface ColumnPlan {
  readonly position: number;
  readonly name: string;
  readonly quoted: string;
  /** The local type, with its modifier, for casts from text. */
  readonly typeName: string;
  /** The type for a staging column: a domain's base type, or text where the type has no binary form. */
  readonly stageType: string;
  readonly binary: boolean;
  readonly key: boolean;
  /** The type's binary output function, quoted; null where it has none. */
  readonly send: string | null;
  /** Never set by UPDATE: key columns, identity columns that are always generated. */
  readonly settable: boolean;
  /** The local type's structure, where its binary form holds OIDs that differ between the nodes. */
  readonly rewrite: TypeDescription | null;
}

export interface Plan {
  readonly relation: Relation;
  /** `schema.table`, as policies and alarms name it. */
  readonly label: string;
  readonly schema: string;
  readonly table: string;
  /** Quoted. */
  readonly target: string;
  readonly stage: string;
  /** Rows put into the staging table since it was last emptied. */
  readonly filled: { rows: number };
  readonly columns: readonly ColumnPlan[];
  readonly keys: readonly ColumnPlan[];
  readonly keyPositions: readonly number[];
  /** No key at all: rows are found by all their values. */
  readonly wholeRow: boolean;
  /** Every column goes into the table in its binary form, so COPY can write there at once. */
  readonly direct: boolean;
}

/** The peer's relation does not fit the local one. `ddl` makes it fit, or null where no statement can be proposed. */
export class SchemaMismatch extends Error {
  override name = "SchemaMismatch";
  constructor(readonly label: string, readonly problem: string, readonly ddl: string | null) {
    super(`Cannot apply changes of ${label}: ${problem}`);
  }
}

export const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;
/** A timestamptz literal from microseconds since 2000-01-01. */
export const timestampLiteral = (time: bigint): string =>
  `'${new Date(Math.floor(timeToMs(time))).toISOString().slice(0, -5)}.${
    String(((time % 1_000_000n) + 1_000_000n) % 1_000_000n).padStart(6, "0")
  }+00'::timestamptz`;

/** OIDs below this are the same on every server of a version. */
const firstUserOid = 16384;

/**
 * Plans how `relation` is applied. `remoteTypes`: the peer's own names of its user-made types; `describeRemote`: the
 * name of a built-in type for a proposal. Throws SchemaMismatch.
 */
export function planRelation(
  relation: Relation,
  local: LocalRelation | null,
  remoteTypes: ReadonlyMap<number, TypeName>,
  localTypes: ReadonlyMap<number, TypeDescription>,
  remoteTypeText: (column: RelationColumn) => string,
  stageNumber: number,
): Plan {
  const label = `${relation.schema}.${relation.name}`;
  const target = `${quote(relation.schema)}.${quote(relation.name)}`;
  if (!local) {
    const keys = relation.columns.filter((c) => c.key).map((c) => quote(c.name)).join(", ");
    const body = relation.columns.map((c) => `${quote(c.name)} ${remoteTypeText(c)}`).join(", ");
    const primaryKey = keys && relation.replicaIdentity !== "f" ? `, PRIMARY KEY (${keys})` : "";
    throw new SchemaMismatch(label, "the table is missing here", `CREATE TABLE ${target} (${body}${primaryKey})`);
  }
  const identityKey = relation.replicaIdentity === "f" ? local.primaryKey : null;
  const columns = relation.columns.flatMap((remote, position): ColumnPlan[] => {
    const own = local.columns.find((c) => c.name === remote.name);
    if (own?.generated && local.publishesGenerated) return [];
    if (!own) {
      throw new SchemaMismatch(
        label,
        `column ${remote.name} is missing here`,
        `ALTER TABLE ${target} ADD COLUMN ${quote(remote.name)} ${remoteTypeText(remote)}`,
      );
    }
    if (own.generated) {
      throw new SchemaMismatch(label, `column ${remote.name} is generated here and not at the peer`, null);
    }
    const type = localTypes.get(own.typeOid);
    if (!sameType(remote, own.typeOid, remoteTypes, type, localTypes)) {
      throw new SchemaMismatch(
        label,
        `column ${remote.name} is of type ${own.typeName} here and of type ${remoteTypeText(remote)} at the peer`,
        `ALTER TABLE ${target} ALTER COLUMN ${quote(remote.name)} TYPE ${remoteTypeText(remote)}`,
      );
    }
    const key = identityKey ? identityKey.includes(remote.name) : remote.key;
    return [{
      position,
      name: remote.name,
      quoted: quote(remote.name),
      typeName: own.typeName,
      stageType: own.hasSend ? stageTypeName(own.typeName, type, localTypes) : "text",
      binary: own.hasSend,
      send: own.send,
      key,
      settable: !key && own.identity !== "a",
      rewrite: type && holdsUserOids(type, localTypes) ? type : null,
    }];
  });
  const missing = local.columns.find((c) =>
    c.notNull && !c.hasDefault && !c.generated && !c.identity && !columns.some((planned) => planned.name === c.name)
  );
  if (missing) {
    throw new SchemaMismatch(label, `column ${missing.name} is NOT NULL here and missing at the peer`, null);
  }
  const wholeRow = relation.replicaIdentity === "f" && local.primaryKey.length === 0;
  const keys = wholeRow ? [] : columns.filter((c) => c.key);
  return {
    relation,
    label,
    schema: relation.schema,
    table: relation.name,
    target,
    stage: `pg_temp.ha_stage_${stageNumber}`,
    filled: { rows: 0 },
    columns,
    keys,
    keyPositions: keys.map((c) => c.position),
    wholeRow: wholeRow || keys.length === 0,
    direct: columns.every((c) => c.binary && !c.rewrite),
  };
}

function sameType(
  remote: RelationColumn,
  localOid: number,
  remoteTypes: ReadonlyMap<number, TypeName>,
  local: TypeDescription | undefined,
  types: ReadonlyMap<number, TypeDescription>,
): boolean {
  if (remote.typeOid < firstUserOid) return remote.typeOid === localOid;
  const named = remoteTypes.get(remote.typeOid);
  // pgoutput gives a domain's OID the name of the type below it.
  while (local?.kind === "domain") local = types.get(local.base);
  return named !== undefined && local !== undefined && named.schema === local.schema && named.name === local.name;
}

function stageTypeName(
  own: string,
  type: TypeDescription | undefined,
  types: ReadonlyMap<number, TypeDescription>,
): string {
  let current = type;
  while (current?.kind === "domain") {
    const base = types.get(current.base);
    if (base?.kind !== "domain") return base ? `${quote(base.schema)}.${quote(base.name)}` : own;
    current = base;
  }
  return own;
}

/** Does the binary form of this type hold OIDs of types made by users? */
export function holdsUserOids(type: TypeDescription, types: ReadonlyMap<number, TypeDescription>): boolean {
  const inner = (oid: number): boolean => {
    const found = types.get(oid);
    return found !== undefined && holdsUserOids(found, types);
  };
  switch (type.kind) {
    case "array":
      return type.element >= firstUserOid || inner(type.element);
    case "composite":
      return type.fields.some((field) => field.typeOid >= firstUserOid || inner(field.typeOid));
    case "domain":
      return inner(type.base);
    case "range":
    case "multirange":
      return inner(type.subtype);
    default:
      return false;
  }
}
