// Schema ha, version 5: what became of a conflict's losing version.

export const conflicts = `
ALTER TABLE ha.conflict ADD COLUMN quarantined boolean NOT NULL DEFAULT false, ADD COLUMN restored_at timestamptz;
COMMENT ON COLUMN ha.conflict.quarantined IS
  'The losing row stands in no table any more, and a person should look at it: put it back, or let it be';
COMMENT ON COLUMN ha.conflict.restored_at IS 'When the losing version was put back, as a new write';
CREATE INDEX conflict_unreviewed ON ha.conflict (id) WHERE reviewed_at IS NULL;
`;
