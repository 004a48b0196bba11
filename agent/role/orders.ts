// What an operator has ordered for the pair: who is to serve, and whether failovers are automatic. Both nodes keep both
// orders durably and take the other's where it is newer, so that they agree whoever was told. Pure.
import { noOrders, type Orders, type Role } from "../report.ts";

export { noOrders, type Orders };

/** The newer of each order. The same object if the peer has nothing newer. */
export function newerOrders(own: Orders, theirs: Orders | undefined): Orders {
  const serves = theirs && theirs.serves.number > own.serves.number ? theirs.serves : own.serves;
  const maintenance = theirs && theirs.maintenance.number > own.maintenance.number
    ? theirs.maintenance
    : own.maintenance;
  return serves === own.serves && maintenance === own.maintenance ? own : { serves, maintenance };
}

/** Ordered at the node `by`: `role` is to serve. */
export function orderServing(own: Orders, by: Role, role: Role): Orders {
  return { ...own, serves: { role, number: numberAbove(own.serves.number, by) } };
}

/** Ordered at the node `by`: no automatic failover, or automatic ones again. */
export function orderMaintenance(own: Orders, by: Role, on: boolean): Orders {
  return { ...own, maintenance: { on, number: numberAbove(own.maintenance.number, by) } };
}

/** Odd numbers are the primary's, even ones the secondary's: two orders never have the same. */
function numberAbove(number: number, by: Role): number {
  const next = number + 1;
  return next % 2 === (by === "primary" ? 1 : 0) ? next : next + 1;
}
