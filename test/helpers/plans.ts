// Local tables and plans for tests of the applier's pure parts: the catalog as plain values.
import { planRelation } from "../../agent/apply/plan.ts";
import type { Plan } from "../../agent/apply/plan.ts";
import { decodeRelation } from "../../agent/change/pgoutput.ts";
import type { Column, Relation, TypeDescription } from "../../agent/postgres/catalog.ts";
import * as make from "./messages.ts";

export const textOid = 25, int4Oid = 23;

export const column = (name: string, more: Partial<Column> = {}): Column => ({
  name,
  attnum: 1,
  typeOid: textOid,
  typeName: "text",
  typmod: -1,
  notNull: false,
  hasDefault: false,
  generated: "",
  identity: "",
  hasSend: true,
  send: "pg_catalog.send",
  ...more,
});

export const localTable = (columns: Column[], more: Partial<Relation> = {}): Relation => ({
  oid: 1,
  schema: "public",
  name: "t",
  kind: "r",
  columns,
  primaryKey: ["id"],
  replicaIdentity: "d",
  publishesGenerated: false,
  uniqueKeys: [],
  ...more,
});

export const baseType = (oid: number, name: string): TypeDescription => ({
  oid,
  schema: "pg_catalog",
  name,
  hasSend: true,
  kind: "base",
});

/** A table of text columns; `keys` of them, from the first on, are its key. */
export function textPlan(names: string[], keys = 1): Plan {
  const remote = names.map((name, i) => ({ name, key: i < keys }));
  const relation = decodeRelation(make.relation(1, "public", "t", remote, keys ? "d" : "f"));
  const local = localTable(names.map((name) => column(name)), { primaryKey: names.slice(0, keys) });
  return planRelation(relation, local, new Map(), new Map([[textOid, baseType(textOid, "text")]]), () => "text", 1);
}
