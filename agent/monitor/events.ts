// What is worth a line in the log, as values: found by comparing two statuses, or told by the supervisor; and their lines.
// Logs no row, no key, no password.
import { getLogger } from "@logtape/logtape";
import type { Role, State } from "../report.ts";
import type { Status } from "./status.ts";

export type Event =
  | {
    readonly kind: "role_change";
    readonly node: string;
    readonly role: Role;
    readonly from: State;
    readonly to: State;
    readonly epoch: number;
    readonly why: string;
  }
  | { readonly kind: "peer_state"; readonly peer: string; readonly state: State }
  | { readonly kind: "peer_back"; readonly peer: string; readonly state: State | null }
  | { readonly kind: "alert_raised"; readonly alert: string; readonly severity: string; readonly message: string }
  | { readonly kind: "alert_cleared"; readonly alert: string; readonly message: string };

/** What happened between two statuses of one node. Its own changes of state are told by the supervisor as they happen. */
export function eventsBetween(before: Status, after: Status): Event[] {
  const events: Event[] = [];
  const { peer } = after;
  if (peer.reachable && !before.peer.reachable) events.push({ kind: "peer_back", peer: peer.name, state: peer.state });
  else if (peer.reachable && peer.state !== null && peer.state !== before.peer.state) {
    events.push({ kind: "peer_state", peer: peer.name, state: peer.state });
  }
  for (const { name, severity, message } of after.alerts) {
    if (!before.alerts.some((one) => one.name === name)) {
      events.push({ kind: "alert_raised", alert: name, severity, message });
    }
  }
  for (const { name, message } of before.alerts) {
    if (!after.alerts.some((one) => one.name === name)) events.push({ kind: "alert_cleared", alert: name, message });
  }
  return events;
}

const log = getLogger(["hapair", "event"]);

/** One line; the event's values are the properties of its JSON form. */
export function logEvent(event: Event): void {
  switch (event.kind) {
    case "role_change":
      return log.warn("{node} ({role}) {from} > {to}, epoch {epoch}: {why}", event);
    case "peer_state":
      return log.info("{peer} is now {state}", event);
    case "peer_back":
      return log.info("{peer} answers, and is {state}", event);
    case "alert_raised":
      return event.severity === "error"
        ? log.error("{alert}: {message}", event)
        : log.warn("{alert}: {message}", event);
    case "alert_cleared":
      return log.info("{alert} is over: {message}", event);
  }
}
