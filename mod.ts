// What another program may use of hapair: run a node, set up a pair, read its words. Everything else may change.
export { type RunningNode, runNode } from "./agent/agent.ts";
export { AgentError, RefusedError, UnreachableError, UsageError } from "./agent/errors.ts";
export { type Home, homeAt } from "./agent/home.ts";
export type { Alert, Status } from "./agent/monitor/status.ts";
export type { NodeReport, Role, State } from "./agent/report.ts";
export { type PrimaryOptions, type PrimarySetup, setupPrimary } from "./agent/setup/primary.ts";
export { type SecondaryOptions, type SecondarySetup, setupSecondary } from "./agent/setup/secondary.ts";
export { Steps } from "./agent/setup/steps.ts";
export { agentVersion } from "./agent/version.ts";
