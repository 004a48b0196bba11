// Every conflict case there is. Ids are names of schemas, so none is there twice.
import type { ConflictCase } from "../conflict_case.ts";
import { appendOnlyCases } from "./append_only.ts";
import { columnAndCheckCases } from "./columns.ts";
import { deleteCases } from "./deletes.ts";
import { foreignKeyActionCases } from "./foreign_key_actions.ts";
import { foreignKeyCases } from "./foreign_keys.ts";
import { noKeyCases, truncateCases } from "./no_key.ts";
import { rowCases } from "./rows.ts";
import { uniqueFormCases } from "./unique_forms.ts";
import { uniqueCases } from "./unique_keys.ts";
import { valueAndNameCases } from "./values_and_names.ts";

export const everyCase: readonly ConflictCase[] = [
  ...rowCases,
  ...deleteCases,
  ...uniqueCases,
  ...uniqueFormCases,
  ...foreignKeyCases,
  ...foreignKeyActionCases,
  ...columnAndCheckCases,
  ...appendOnlyCases,
  ...noKeyCases,
  ...truncateCases,
  ...valueAndNameCases,
];
