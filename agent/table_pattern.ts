// The patterns that name tables in agent.toml: `*` stands for any characters, `?` for one, all else for itself, as names may
// hold whatever a path or a regular expression would take for a sign of its own ("a/b", "x[1]"). Pure.
// Must never take longer than the two lengths multiplied, whatever is written: changes wait while it is asked.

/** Does the pattern name this table, `schema.name`? */
export function namesTable(pattern: string, label: string): boolean {
  const [signs, letters] = [[...pattern], [...label]];
  let [sign, letter] = [0, 0];
  // Only the last star so far is ever tried again with a letter more: what an earlier one could take, this one can.
  let star = -1;
  let resume = 0;
  while (letter < letters.length) {
    if (signs[sign] === "*") {
      star = sign++;
      resume = letter;
    } else if (signs[sign] === "?" || signs[sign] === letters[letter]) {
      sign++;
      letter++;
    } else if (star >= 0) {
      sign = star + 1;
      letter = ++resume;
    } else return false;
  }
  while (signs[sign] === "*") sign++;
  return sign === signs.length;
}

/** Does it name tables by a pattern, which may wait for its tables? */
export const hasWildcard = (pattern: string): boolean => /[*?]/.test(pattern);
