// A manifest.json as a pack has it, for packs and answers that are made without a server.
import type { PackManifest } from "../../agent/pack/manifest.ts";

/** Of PostgreSQL 18, generation `one`, but for what differs. */
export function manifestOf(members: PackManifest["members"], changed: Partial<PackManifest> = {}): PackManifest {
  return {
    format: "hapair pack",
    version: 2,
    created_at: "2030-01-01T00:00:00.000Z",
    agent_version: "0",
    pair_id: "pair",
    generation: "one",
    primary: { name: "a", address: "a:8282" },
    secondary: { name: "b", address: "b:8282" },
    postgres: {
      major: 18,
      version: "18.0",
      system_identifier: "1",
      port: 3456,
      dbname: "app",
      start_lsn: "0/100028",
      end_lsn: "0/100120",
      timeline: 1,
    },
    members,
    ...changed,
  };
}
