// Foreign keys that act when a parent goes (CASCADE, SET NULL), and parents that come back by another conflict.
// Data only.
import { type ConflictCase, primary, secondary } from "../conflict_case.ts";

const dangling = "foreign_key_dangling";
const cascade = `
  CREATE TABLE parent (id int PRIMARY KEY, v text);
  CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, v text);
  INSERT INTO parent VALUES (1, 'old'); INSERT INTO child VALUES (10, 1, 'old'), (12, 1, 'old');`;
const removeParent = "DELETE FROM parent WHERE id = 1";

export const foreignKeyActionCases: readonly ConflictCase[] = [
  {
    id: "fk_cascade_here_children_there_quarantine",
    setup: cascade,
    split: [
      primary(removeParent),
      secondary("UPDATE child SET v = 's' WHERE id = 10; INSERT INTO child VALUES (11, 1, 's')"),
    ],
    rows: { parent: [], child: [] },
    conflicts: [
      { table: "child", kind: "update_deleted", key: { id: "10" }, winner: "secondary" },
      { table: "child", kind: dangling, key: { id: "10" }, winner: "primary", quarantined: true },
      { table: "child", kind: dangling, key: { id: "11" }, winner: "primary", quarantined: true },
    ],
  },
  {
    id: "fk_cascade_here_children_there_restore_parent",
    policy: { dangling: "restore_parent" },
    setup: cascade,
    split: [
      primary(removeParent),
      secondary("UPDATE child SET v = 's' WHERE id = 10; INSERT INTO child VALUES (11, 1, 's')"),
    ],
    rows: { parent: ["(1,old)"], child: ["(10,1,s)", "(11,1,s)"] },
    conflicts: [
      { table: "child", kind: "update_deleted", key: { id: "10" }, winner: "secondary" },
      // The parent comes back once: one of the two children, or both, may tell of it.
      { table: "child", kind: dangling, winner: "secondary", several: true },
    ],
  },
  {
    id: "fk_cascade_there_children_here_quarantine",
    setup: cascade,
    split: [
      secondary(removeParent),
      primary("UPDATE child SET v = 'p' WHERE id = 10; INSERT INTO child VALUES (11, 1, 'p')"),
    ],
    rows: { parent: [], child: [] },
    conflicts: [
      { table: "child", kind: "delete_origin_differs", key: { id: "10" }, winner: "primary" },
      { table: "child", kind: dangling, key: { id: "10" }, winner: "secondary", quarantined: true },
      { table: "child", kind: dangling, key: { id: "11" }, winner: "secondary", quarantined: true },
    ],
  },
  {
    id: "fk_cascade_there_children_here_restore_parent",
    policy: { dangling: "restore_parent" },
    setup: cascade,
    split: [
      secondary(removeParent),
      primary("UPDATE child SET v = 'p' WHERE id = 10; INSERT INTO child VALUES (11, 1, 'p')"),
    ],
    rows: { parent: ["(1,old)"], child: ["(10,1,p)", "(11,1,p)"] },
    conflicts: [
      { table: "child", kind: "delete_origin_differs", key: { id: "10" }, winner: "primary" },
      { table: "child", kind: dangling, winner: "primary", several: true },
    ],
  },
  {
    id: "fk_set_null_here_update_there",
    setup: `CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
      CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE SET NULL, v text);
      INSERT INTO child VALUES (10, 1, 'old');`,
    split: [primary(removeParent), secondary("UPDATE child SET v = 's' WHERE id = 10")],
    rows: { parent: [], child: [] },
    conflicts: [
      { table: "child", kind: "update_origin_differs", key: { id: "10" }, winner: "secondary" },
      { table: "child", kind: dangling, key: { id: "10" }, winner: "primary", quarantined: true },
    ],
  },
  {
    id: "fk_set_null_here_update_there_merge_columns",
    policy: { policy: "merge_columns" },
    setup: `CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
      CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE SET NULL, v text);
      INSERT INTO child VALUES (10, 1, 'old');`,
    split: [primary(removeParent), secondary("UPDATE child SET v = 's' WHERE id = 10")],
    rows: { parent: [], child: ["(10,,s)"] },
    conflicts: [{ table: "child", kind: "update_origin_differs", key: { id: "10" }, winner: "both" }],
  },
  {
    id: "fk_parent_deleted_here_parent_and_child_written_there",
    setup: `CREATE TABLE parent (id int PRIMARY KEY, v text); INSERT INTO parent VALUES (1, 'old');
      CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);`,
    // One transaction: the update puts the parent back, so that at its end nothing dangles.
    split: [
      primary(removeParent),
      secondary("INSERT INTO child VALUES (10, 1); UPDATE parent SET v = 's' WHERE id = 1"),
    ],
    rows: { parent: ["(1,s)"], child: ["(10,1)"] },
    conflicts: [{ table: "parent", kind: "update_deleted", key: { id: "1" }, winner: "secondary" }],
  },
  {
    id: "fk_parent_key_changed_here_child_there",
    setup: `CREATE TABLE parent (id int PRIMARY KEY, v text); INSERT INTO parent VALUES (1, 'old');
      CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON UPDATE CASCADE);`,
    split: [primary("UPDATE parent SET id = 2 WHERE id = 1"), secondary("INSERT INTO child VALUES (10, 1)")],
    rows: { parent: ["(2,old)"], child: [] },
    conflicts: [{ table: "child", kind: dangling, key: { id: "10" }, winner: "primary", quarantined: true }],
  },
];
