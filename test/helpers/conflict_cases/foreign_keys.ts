// Rows whose parent the other side has deleted, under both policies of dangling rows. Data only.
import { type ConflictCase, primary, secondary, type Step } from "../conflict_case.ts";
import type { Role } from "../pair_node.ts";

const family = `
  CREATE TABLE parent (id int PRIMARY KEY, v text);
  CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent, v text);
  CREATE TABLE grandchild (id int PRIMARY KEY, child_id int REFERENCES child);
  INSERT INTO parent VALUES (1, 'old'), (2, 'old');`;
const dangling = "foreign_key_dangling";

/** `deleter` deletes a parent, to which the other side has given children: `rest` of the case, by policy. */
function orphans(
  id: string,
  deleter: Role,
  setup: string,
  [remove, insert]: readonly [remove: string, insert: string],
  quarantine: Pick<ConflictCase, "rows" | "conflicts">,
  restore: Pick<ConflictCase, "rows" | "conflicts">,
): ConflictCase[] {
  const [deletes, inserts]: ((sql: string) => Step)[] = deleter === "primary"
    ? [primary, secondary]
    : [secondary, primary];
  const split = [deletes(remove), inserts(insert)];
  return [
    { id: `${id}_quarantine`, policy: { dangling: "quarantine" }, setup, split, ...quarantine },
    { id: `${id}_restore_parent`, policy: { dangling: "restore_parent" }, setup, split, ...restore },
  ];
}

const oneChild = (["primary", "secondary"] as const).flatMap((deleter) => {
  const other = deleter === "primary" ? "secondary" : "primary";
  const row = { id: "10", parent_id: "1", v: "new" };
  const image = other === "primary" ? { primaryRow: row } : { secondaryRow: row };
  return orphans(
    `fk_parent_deleted_at_the_${deleter}`,
    deleter,
    family,
    ["DELETE FROM parent WHERE id = 1", "INSERT INTO child VALUES (10, 1, 'new'), (11, 2, 'new')"],
    {
      rows: { parent: ["(2,old)"], child: ["(11,2,new)"] },
      conflicts: [{
        ...{ table: "child", kind: dangling, key: { id: "10" }, winner: deleter, policy: "quarantine" },
        ...{ quarantined: true, ...image },
      }],
    },
    {
      rows: { parent: ["(1,old)", "(2,old)"], child: ["(10,1,new)", "(11,2,new)"] },
      conflicts: [{ table: "child", kind: dangling, key: { id: "10" }, winner: other, policy: "restore_parent" }],
    },
  );
});

const grandchildren = (["primary", "secondary"] as const).flatMap((deleter) => {
  const other = deleter === "primary" ? "secondary" : "primary";
  return orphans(
    `fk_grandchildren_deleted_at_the_${deleter}`,
    deleter,
    family,
    [
      "DELETE FROM parent WHERE id = 1",
      "INSERT INTO child VALUES (10, 1, 'new'); INSERT INTO grandchild VALUES (100, 10), (101, 10)",
    ],
    {
      rows: { parent: ["(2,old)"], child: [], grandchild: [] },
      conflicts: [
        { table: "child", kind: dangling, key: { id: "10" }, winner: deleter, quarantined: true },
        { table: "grandchild", kind: dangling, key: { id: "100" }, winner: deleter, quarantined: true },
        { table: "grandchild", kind: dangling, key: { id: "101" }, winner: deleter, quarantined: true },
      ],
    },
    {
      rows: { parent: ["(1,old)", "(2,old)"], child: ["(10,1,new)"], grandchild: ["(100,10)", "(101,10)"] },
      conflicts: [{ table: "child", kind: dangling, key: { id: "10" }, winner: other }],
    },
  );
});

const moved = orphans(
  "fk_child_moved_to_a_deleted_parent",
  "primary",
  `${family} INSERT INTO child VALUES (10, 2, 'old');`,
  ["DELETE FROM parent WHERE id = 1", "UPDATE child SET parent_id = 1 WHERE id = 10"],
  {
    rows: { parent: ["(2,old)"], child: [] },
    conflicts: [{ table: "child", kind: dangling, key: { id: "10" }, winner: "primary", quarantined: true }],
  },
  {
    rows: { parent: ["(1,old)", "(2,old)"], child: ["(10,1,old)"] },
    conflicts: [{ table: "child", kind: dangling, key: { id: "10" }, winner: "secondary" }],
  },
);

const composite = (["primary", "secondary"] as const).flatMap((deleter) =>
  orphans(
    `fk_composite_deleted_at_the_${deleter}`,
    deleter,
    `CREATE TABLE parent (a int, b text, PRIMARY KEY (a, b)); INSERT INTO parent VALUES (1, 'x'), (1, 'y');
     CREATE TABLE child (id int PRIMARY KEY, b text, a int, FOREIGN KEY (a, b) REFERENCES parent);`,
    ["DELETE FROM parent WHERE b = 'x'", "INSERT INTO child VALUES (10, 'x', 1), (11, 'y', 1), (12, 'x', NULL)"],
    {
      rows: { parent: ["(1,y)"], child: ["(11,y,1)", "(12,x,)"] },
      conflicts: [{ table: "child", kind: dangling, key: { id: "10" }, winner: deleter, quarantined: true }],
    },
    {
      rows: { parent: ["(1,x)", "(1,y)"], child: ["(10,x,1)", "(11,y,1)", "(12,x,)"] },
      conflicts: [{
        ...{ table: "child", kind: dangling, key: { id: "10" } },
        winner: deleter === "primary" ? "secondary" : "primary",
      }],
    },
  )
);

const itself = (["primary", "secondary"] as const).flatMap((deleter) =>
  orphans(
    `fk_itself_deleted_at_the_${deleter}`,
    deleter,
    `CREATE TABLE t (id int PRIMARY KEY, parent_id int REFERENCES t); INSERT INTO t VALUES (1, NULL), (2, 1);`,
    ["DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (3, 2), (4, 3), (5, 1)"],
    {
      rows: { t: ["(1,)", "(5,1)"] },
      conflicts: ["3", "4"].map((id) => ({ kind: dangling, key: { id }, winner: deleter, quarantined: true })),
    },
    {
      rows: { t: ["(1,)", "(2,1)", "(3,2)", "(4,3)", "(5,1)"] },
      conflicts: [{ kind: dangling, key: { id: "3" }, winner: deleter === "primary" ? "secondary" : "primary" }],
    },
  )
);

export const foreignKeyCases: readonly ConflictCase[] = [
  ...oneChild,
  ...grandchildren,
  ...moved,
  ...composite,
  ...itself,
  {
    id: "fk_family_made_there",
    setup: family,
    split: [
      primary("DELETE FROM parent WHERE id = 2"),
      secondary("INSERT INTO parent VALUES (3, 's'); INSERT INTO child VALUES (30, 3, 's'), (31, 1, 's')"),
    ],
    rows: { parent: ["(1,old)", "(3,s)"], child: ["(30,3,s)", "(31,1,s)"] },
    conflicts: [],
  },
  {
    id: "fk_family_deleted_there",
    setup: `${family} INSERT INTO child VALUES (10, 1, 'old');`,
    split: [
      primary("INSERT INTO child VALUES (20, 2, 'p')"),
      secondary("DELETE FROM child WHERE id = 10; DELETE FROM parent WHERE id = 1"),
    ],
    rows: { parent: ["(2,old)"], child: ["(20,2,p)"] },
    conflicts: [],
  },
];
