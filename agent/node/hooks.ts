// [hooks] on_role_change: a script of the operator's, told in Patroni's manner what this node has become. Called when the
// state holds, at least once for each that lasts; never waited for by anybody but the next call. Gets no secret.
import { spawn } from "node:child_process";
import process from "node:process";
import { getLogger } from "@logtape/logtape";
import { reason } from "../errors.ts";
import type { Role, State } from "../report.ts";
import type { Troubles } from "./troubles.ts";

export interface HooksOptions {
  /** Full path of the script; left out, nothing is called. */
  readonly script?: string;
  readonly node: string;
  readonly onTrouble: Troubles["set"];
  /** A script that runs longer is killed, with all that it started. */
  readonly timeoutMs?: number;
  /** A call that failed is repeated after so long, while the state lasts. */
  readonly retryMs?: number;
}

interface Call {
  readonly role: Role;
  readonly state: State;
}

const log = getLogger(["hapair", "hooks"]);
const action = "on_role_change";
/** What a script may need to find its programs; everything else of the agent's environment stays with the agent. */
const passedOn = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SystemRoot"];
const mostOutput = 10_000;
const lastWordsMs = 200;

export class Hooks {
  private readonly timeoutMs: number;
  private readonly retryMs: number;
  private next: Call | null = null;
  private running: Promise<void> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private stopped = false;

  constructor(private readonly options: HooksOptions) {
    this.timeoutMs = options.timeoutMs ?? 10_000;
    this.retryMs = options.retryMs ?? 30_000;
  }

  /** The node has become this. Returns at once; of states that pass while a script runs only the last is told. */
  tell({ role, state }: Call): void {
    if (this.options.script === undefined || this.stopped) return;
    clearTimeout(this.timer);
    this.next = { role, state };
    this.running ??= this.callAll(this.options.script).finally(() => this.running = null);
  }

  /** Resolves when the script that runs has ended, or has been killed. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.running;
  }

  private async callAll(script: string): Promise<void> {
    while (this.next !== null) {
      const call = this.next;
      this.next = null;
      const problem = await this.call(script, call).catch(reason);
      this.options.onTrouble(
        "hook",
        problem === null ? null : {
          message: `the hook ${script} failed for ${call.state}: ${problem}`,
          remedy: "see the log with --debug for what it said; it is called again by itself",
        },
      );
      if (problem === null || this.next !== null || this.stopped) continue;
      this.timer = setTimeout(() => this.tell(call), this.retryMs);
    }
  }

  /** Null if it ended well. */
  private call(script: string, { role, state }: Call): Promise<string | null> {
    const args = [action, role, state, this.options.node];
    log.info("calls {script} {args}", { script, args: args.join(" ") });
    return new Promise((resolve) => {
      let output = "";
      let late = false;
      // A group of its own, so that what it started can be killed with it.
      const child = spawn(script, args, {
        cwd: "/",
        env: environment(),
        stdio: ["ignore", "pipe", "pipe"],
        detached: true,
      });
      const timer = setTimeout(() => {
        late = true;
        killGroup(child.pid);
      }, this.timeoutMs);
      let ended = false;
      const end = (problem: string | null) => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        child.stdout?.destroy();
        child.stderr?.destroy();
        if (output !== "") log.debug("{script} said: {output}", { script, output: output.slice(0, mostOutput) });
        resolve(problem);
      };
      const collect = (part: unknown) => void (output.length < mostOutput && (output += part));
      child.stdout?.on("data", collect);
      child.stderr?.on("data", collect);
      child.once("error", (error) => end(reason(error)));
      child.once("exit", (code, signal) => {
        const problem = late
          ? `it had not ended after ${this.timeoutMs} ms and was killed`
          : code === 0
          ? null
          : signal === null
          ? `it ended with ${code}`
          : `it was ended by ${signal}`;
        // What it said last; but a daemon that it has left behind may keep the pipes open for ever.
        child.once("close", () => end(problem));
        setTimeout(() => end(problem), lastWordsMs);
      });
    });
  }
}

function environment(): Record<string, string> {
  return Object.fromEntries(passedOn.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  }));
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === "win32" ? pid : -pid, "SIGKILL");
  } catch (error) {
    // It has just ended by itself.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
