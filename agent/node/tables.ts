// The user's tables as this node knows them while it runs: which policy each has, and the watch that keeps the database
// true to it as tables come and change. Reads the whole catalog only when its stamp has changed.
import { getLogger } from "@logtape/logtape";
import type { Config } from "../config.ts";
import { AgentError, reason } from "../errors.ts";
import type { TablePolicy } from "../merge/policy.ts";
import { checkPolicies, refuseBadPolicies } from "../policy_checks.ts";
import { primaryOnlyRules } from "../primary_only.ts";
import type { Sql } from "../postgres/connect.ts";
import { ensurePolicies, ensurePrimaryOnly, ensureTables } from "../postgres/objects.ts";
import { readTables, tablesStamp } from "../postgres/tables.ts";
import { policyFor, rowsPolicies, secretOf, type TableFacts } from "../table_policies.ts";
import { Watch } from "./watch.ts";

const everyMs = 10_000;
/** The next turn tries again: nobody should wait behind this one for long. */
const patience = { lockTimeoutMs: 500, attempts: 1 };

const log = getLogger(["hapair", "node"]);

export interface TablesDeps {
  readonly sql: Sql;
  readonly config: Config;
  /** agent.toml, as errors name it. */
  readonly origin: string;
  /** A lasting problem under a name, null when it is over. */
  readonly onTrouble: (name: string, problem: { message: string; remedy: string } | null) => void;
}

export class Tables {
  #known = new Map<string, TableFacts>();
  #stamp = "";
  /** Labels that were asked for and are no tables; each sets off one look at the catalog. */
  readonly #missing = new Set<string>();
  readonly #watch: Watch;
  /** The policy of `schema.table`: cheap, for every change. */
  readonly policyOf: (label: string) => TablePolicy;
  readonly secretOf: (label: string) => readonly string[];

  private constructor(private readonly deps: TablesDeps) {
    const tableOf = (label: string) => this.#known.get(label) ?? this.#miss(label);
    this.policyOf = policyFor(deps.config, tableOf);
    this.secretOf = secretOf(deps.config, tableOf);
    this.#watch = new Watch({
      everyMs,
      work: () => this.#look(),
      ended: (failure) => deps.onTrouble("tables", failure === null ? null : troubleOf(failure)),
    });
  }

  /** Reads the tables and tells the database their policies and rules. Throws UsageError if agent.toml does not fit them. */
  static async open(deps: TablesDeps): Promise<Tables> {
    const tables = new Tables(deps);
    await tables.#refresh(() => refuseBadPolicies(deps.config, tables.#all(), deps.origin));
    return tables;
  }

  /** Keeps the tables as they have to be, from now on. */
  start(): void {
    this.#watch.start();
  }

  stop(): Promise<void> {
    return this.#watch.stop();
  }

  async #look(): Promise<void> {
    const { sql } = this.deps;
    if (await tablesStamp(sql) !== this.#stamp) await this.#refresh();
    const changed = await ensureTables(sql, patience);
    if (changed.length > 0) log.info("made fit: {tables}", { tables: changed.join(", ") });
  }

  async #refresh(check: () => void = () => {}): Promise<void> {
    const { sql, config, origin, onTrouble } = this.deps;
    // First, so that what changes in between is read next time.
    const stamp = await tablesStamp(sql);
    this.#known = new Map((await readTables(sql)).map((table) => [table.label, table]));
    this.#missing.clear();
    check();
    await ensurePolicies(sql, rowsPolicies(config, this.#all()));
    await ensurePrimaryOnly(sql, primaryOnlyRules(config, this.#all()));
    const problems = checkPolicies(config, this.#all());
    const message = `In ${origin}: ${problems.map((problem) => problem.message).join("; ")}`;
    onTrouble("policies", problems.length > 0 ? { message, remedy: problems[0].remedy } : null);
    this.#stamp = stamp;
  }

  #all(): TableFacts[] {
    return [...this.#known.values()];
  }

  /** A partition made just now has the policy of its root as soon as the catalog has been looked at. */
  #miss(label: string): undefined {
    if (this.#missing.has(label)) return;
    this.#missing.add(label);
    this.#watch.wake();
  }
}

function troubleOf(failure: unknown): { message: string; remedy: string } {
  if (failure instanceof AgentError) return failure;
  return {
    message: `Cannot look after the tables: ${reason(failure)}`,
    remedy: "see the log of PostgreSQL; it is tried again by itself",
  };
}
