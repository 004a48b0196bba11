// Which of the server's errors say that a table refuses a row, and would again. Everything else is tried again.
import { errorCode } from "../postgres/connect.ts";

/** SQLSTATE classes of failures that pass by themselves, or that no other row would fare better with. */
const passing = ["08", "25", "40", "53", "55", "57", "58", "XX"];

export function isRefusal(error: unknown): boolean {
  const code = errorCode(error) ?? "";
  return /^[0-9A-Z]{5}$/.test(code) && !passing.includes(code.slice(0, 2));
}

/** A row of another key is in the way: of a unique or an exclusion constraint. */
export const isCollision = (error: unknown): boolean => ["23505", "23P01"].includes(errorCode(error) ?? "");
